"""GQA (Hudson and Manning 2019): questions made from scene graphs, with one short answer.

{train,val,testdev}_balanced_questions.json     {question id: {imageId, question, answer, fullAnswer, types}}
images/2354786.jpg
"""

from __future__ import annotations

import os

from mmjax.data.readers import _layout as layout
from mmjax.data.records import BadRecord, Conversation
from mmjax.data.sources import files
from mmjax.data.sources.splits import Splits
from mmjax.errors import UserError

PARTS = ("train", "val", "testdev", "test", "challenge")


def open_path(path: str, *, questions: str = "balanced") -> Splits:
    """Opens the questions: "balanced" (about which the published figures are) or "all"."""
    loads = {}
    for split in PARTS:
        name = f"{split}_{questions}_questions.json"
        if file := layout.find(path, name, f"questions*/{name}"):
            loads[split] = lambda file=file: _questions(file)

    def conversation(entry: layout.Entry) -> Conversation:
        types = entry.get("types", {})
        return layout.question(
            entry["id"],
            layout.picture(path, entry["id"], f"images/{entry['imageId']}.jpg", f"{entry['imageId']}.jpg"),
            entry["question"],
            entry.get("answer"),
            kind=types.get("semantic", "question"),
            structure=types.get("structural"),
            full_answer=entry.get("fullAnswer"),
            picture=f"{entry['imageId']}.jpg",
        )

    return layout.splits(f"gqa:{path}", loads, conversation, caption=lambda entry: entry["question"])


def _questions(path: str) -> list[layout.Entry | BadRecord]:
    value = files.read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no map of questions: fetch it again.")
    told = f"{os.path.basename(path)} holds something else"
    return [
        {**entry, "id": id} if isinstance(entry, dict) else BadRecord(id, "not a JSON object", told)
        for id, entry in value.items()
    ]
