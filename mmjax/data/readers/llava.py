"""LLaVA-Instruct (Liu et al. 2023) and all that took over its form: [{id, image, conversations}].

    llava_instruct_150k.json, llava_v1_5_mix665k.json, ... or any JSON file or JSON lines of that form
    train2017/000000033471.jpg, or coco/train2017/000000033471.jpg as the entries say

Entries without a picture, as in the mix of LLaVA-1.5, are conversations in text.
"""

from __future__ import annotations

import os

from mmjax.data.readers import _conversations
from mmjax.data.readers import _layout as layout
from mmjax.data.sources import rows
from mmjax.data.sources.splits import HELD_OUT_SHARE, Splits, held_out

FOLDERS = ("", "images/", "train2017/", "coco/train2017/", "train2014/")


def open_path(path: str, *, images: str = "", held_out_share: float = HELD_OUT_SHARE) -> Splits:
    """Opens a file, or the one LLaVA file of a folder; a share of the pictures is held out.

    Args:
      images: folder of the pictures, from that of the file.
      held_out_share: of the pictures.
    """
    file = path if os.path.isfile(path) else layout.need(path, "llava*.json", "*.json", "*.jsonl")
    root = os.path.dirname(file)
    folders = (f"{images.rstrip('/')}/",) if images else FOLDERS
    read = layout.entries(file) if file.endswith(".json") else rows.read(file)
    divided = held_out(list(layout.unique(_numbered(read))), held_out_share, _group)
    return layout.splits(
        f"llava:{path}",
        {split: lambda members=members: members for split, members in divided.items()},
        lambda entry: _conversations.conversation(entry, root, folders),
        caption=_conversations.text,
    )


def _numbered(read: list) -> list:
    """The entries with an id each; the mix names many after their picture, so the place is added."""
    seen: dict[str, int] = {}
    found = []
    for number, entry in enumerate(read):
        if isinstance(entry, dict):
            id = str(entry.get("id", f"entry {number}"))
            times = seen[id] = seen.get(id, 0) + 1
            entry = {**entry, "id": id if times == 1 else f"{id}#{times}"}
        found.append(entry)
    return found


def _group(entry: object) -> str:
    return str(entry.get("image") or entry["id"]) if isinstance(entry, dict) else entry.id
