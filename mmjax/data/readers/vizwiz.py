"""VizWiz-VQA (Gurari et al. 2018): questions blind people asked about their photos, some unanswerable.

Annotations/{train,val,test}.json       [{image, question, answers: [{answer}], answerable, answer_type}]
{train,val,test}/VizWiz_train_00000000.jpg
"""

from __future__ import annotations

from mmjax.data.readers import _layout as layout
from mmjax.data.records import Conversation
from mmjax.data.sources.splits import Splits


def open_path(path: str) -> Splits:
    """Opens the questions, with the answer most people gave; the test questions come without."""
    loads = {}
    for split in ("train", "val", "test"):
        if file := layout.find(
            path, f"Annotations/{split}.json", f"annotations/{split}.json", f"{split}.json"
        ):
            loads[split] = lambda file=file: layout.numbered(layout.entries(file), lambda one: one["image"])

    def conversation(entry: layout.Entry) -> Conversation:
        name, answers = entry["image"], [one["answer"] for one in entry.get("answers", [])]
        folders = [f"{split}/" for split in loads] + [f"images/{split}/" for split in loads]
        return layout.question(
            entry["id"],
            layout.picture(path, entry["id"], *(f"{folder}{name}" for folder in folders), f"images/{name}"),
            entry["question"],
            layout.commonest(answers),
            answers=answers,
            kind=entry.get("answer_type", "question"),
            answerable=None if "answerable" not in entry else bool(entry["answerable"]),
            picture=name,
        )

    return layout.splits(f"vizwiz:{path}", loads, conversation, caption=lambda entry: entry["question"])
