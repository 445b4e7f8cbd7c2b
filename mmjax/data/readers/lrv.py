"""LRV-Instruction (Liu et al. 2023): instructions on Visual Genome pictures, negative ones among them.

    filter_cap*.json        [{image_id, question, answer, task}], or under `annotations`
    image/2392588.jpg

The task "negative" asks about what is not there; it is kept in the facts.
"""

from __future__ import annotations

import os

from mmjax.data.readers import _layout as layout
from mmjax.data.records import Conversation
from mmjax.data.sources.splits import HELD_OUT_SHARE, Splits, held_out

FOLDERS = ("image/", "images/", "VG_100K/", "VG_100K_2/", "")


def open_path(path: str, *, held_out_share: float = HELD_OUT_SHARE) -> Splits:
    """Opens a file or a folder with one; a share of the pictures is held out."""
    file = path if os.path.isfile(path) else layout.need(path, "filter_cap*.json", "*lrv*.json", "*LRV*.json")
    root = os.path.dirname(file)
    read = [
        {**one, "id": f"{one.get('image_id', 'entry')}-{number}"} if isinstance(one, dict) else one
        for number, one in enumerate(layout.entries(file, "annotations"))
    ]
    divided = held_out(
        read, held_out_share, lambda one: one.get("image_id") if isinstance(one, dict) else one.id
    )

    def conversation(entry: layout.Entry) -> Conversation:
        name = f"{entry['image_id']}.jpg"
        return layout.question(
            entry["id"],
            layout.picture(root, entry["id"], *(f"{folder}{name}" for folder in FOLDERS)),
            entry["question"],
            entry["answer"],
            kind=entry.get("task", "instruction"),
            negative=entry.get("task") == "negative",
            picture=name,
        )

    loads = {split: lambda members=members: members for split, members in divided.items()}
    return layout.splits(
        f"lrv:{path}", loads, conversation, caption=lambda one: f"{one['question']} {one['answer']}"
    )
