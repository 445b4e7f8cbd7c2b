"""POPE (Li et al. 2023): is this object in the picture? Lines of {question_id, image, text, label}.

[coco/]coco_pope_{random,popular,adversarial}.json
val2014/COCO_val2014_000000310196.jpg
"""

from __future__ import annotations

import os

from mmjax.data.readers import _layout as layout
from mmjax.data.records import BadRecord, Conversation
from mmjax.data.sources import rows
from mmjax.data.sources.splits import Splits

STRATEGIES = ("random", "popular", "adversarial")


def open_path(path: str, *, images: str = "") -> Splits:
    """Opens the questions, a split per way to choose absent objects; `images`: folder of the pictures."""
    loads = {}
    for strategy in STRATEGIES:
        names = [f"*_pope_{strategy}.json{end}" for end in ("", "l")]
        if file := layout.find(path, *names, *(f"*/{name}" for name in names)):
            loads[strategy] = lambda file=file: _questions(file)
    folders = (f"{images.rstrip('/')}/",) if images else ("val2014/", "images/", "images/val2014/", "")

    def conversation(entry: layout.Entry) -> Conversation:
        name = entry["image"]
        image = layout.picture(path, entry["id"], *(f"{folder}{name}" for folder in folders))
        return layout.question(
            entry["id"], image, entry["text"], entry["label"], kind="existence", picture=name
        )

    return layout.splits(f"pope:{path}", loads, conversation, caption=lambda entry: entry["text"])


def _questions(path: str) -> list[layout.Entry | BadRecord]:
    found = rows.json_lines(rows.files.read_text(path), os.path.basename(path))
    return layout.numbered(found, lambda one: one["question_id"])
