"""VQA v2 (Goyal et al. 2017): questions on COCO pictures with ten people's answers.

v2_OpenEnded_mscoco_train2014_questions.json    {questions: [{question_id, image_id, question}]}
v2_mscoco_train2014_annotations.json            {annotations: [{question_id, multiple_choice_answer,
                                                 answers: [{answer}], answer_type, question_type}]}
train2014/COCO_train2014_000000000009.jpg
"""

from __future__ import annotations

from mmjax.data.readers import _layout as layout
from mmjax.data.records import BadRecord, Conversation
from mmjax.data.sources.splits import Splits

PARTS = {"train": "train2014", "val": "val2014", "test": "test2015", "testdev": "test-dev2015"}
FOLDERS = ("", "images/", "coco/")


def open_path(path: str) -> Splits:
    """Opens the questions; the test questions come without answers."""
    loads, places = {}, {}
    for split, part in PARTS.items():
        if asked := layout.find(
            path, f"v2_OpenEnded_mscoco_{part}_questions.json", f"*/v2_*_{part}_questions.json"
        ):
            answered = layout.find(
                path, f"v2_mscoco_{part}_annotations.json", f"*/v2_*_{part}_annotations.json"
            )
            loads[split] = lambda split=split, asked=asked, answered=answered: _joined(split, asked, answered)
            places[split] = part.replace("-dev", "")

    def conversation(entry: layout.Entry) -> Conversation:
        part, given = places[entry["part"]], entry["given"]
        name = f"COCO_{part}_{int(entry['image_id']):012d}.jpg"
        image = layout.picture(path, entry["id"], *(f"{folder}{part}/{name}" for folder in FOLDERS))
        answers = [one["answer"] for one in given.get("answers", [])]
        return layout.question(
            entry["id"],
            image,
            entry["question"],
            given.get("multiple_choice_answer"),
            answers=answers,
            kind=given.get("answer_type", "unanswered"),
            question_type=given.get("question_type"),
            picture=name,
        )

    return layout.splits(f"vqav2:{path}", loads, conversation, caption=lambda entry: entry["question"])


def _joined(split: str, asked: str, answered: str) -> list[layout.Entry | BadRecord]:
    given = {one.get("question_id"): one for one in layout.good(answered, "annotations")} if answered else {}
    found: list[layout.Entry | BadRecord] = []
    for entry in layout.numbered(layout.entries(asked, "questions"), lambda one: one["question_id"]):
        if isinstance(entry, BadRecord):
            found.append(entry)
        elif answered and entry["question_id"] not in given:
            found.append(
                BadRecord(entry["id"], "missing answer", "the annotations have none for this question")
            )
        else:
            found.append({**entry, "part": split, "given": given.get(entry["question_id"], {})})
    return found
