"""TextVQA (Singh et al. 2019): questions on the text in pictures, ten answers, and the words a reader found.

TextVQA_0.5.1_{train,val,test}.json             {data: [{question_id, image_id, question, answers}]}
TextVQA_Rosetta_OCR_v0.2_{train,val,test}.json  {data: [{image_id, ocr_tokens}]}, may be missing
{train,test}_images/003a8ae2ef43b901.jpg        validation pictures are in train_images
"""

from __future__ import annotations

from mmjax.data.readers import _layout as layout
from mmjax.data.records import BadRecord, Conversation
from mmjax.data.sources.splits import Splits


def open_path(path: str) -> Splits:
    """Opens the questions, with the answer most people gave; the test questions come without."""
    loads = {}
    for split in ("train", "val", "test"):
        if file := layout.find(path, f"TextVQA_*_{split}.json", f"*/TextVQA_*_{split}.json"):
            words = layout.find(
                path, f"TextVQA_Rosetta_OCR_*_{split}.json", f"*/TextVQA_Rosetta_OCR_*_{split}.json"
            )
            file = layout.find(path, f"TextVQA_0*_{split}.json", f"*/TextVQA_0*_{split}.json") or file
            loads[split] = lambda file=file, words=words: _questions(file, words)

    def conversation(entry: layout.Entry) -> Conversation:
        name, answers = f"{entry['image_id']}.jpg", entry.get("answers", [])
        return layout.question(
            entry["id"],
            layout.picture(
                path, entry["id"], f"train_images/{name}", f"test_images/{name}", f"images/{name}"
            ),
            entry["question"],
            layout.commonest(answers),
            answers=answers,
            kind="reading",
            ocr=entry.get("ocr"),
            picture=name,
        )

    return layout.splits(f"textvqa:{path}", loads, conversation, caption=lambda entry: entry["question"])


def _questions(path: str, words: str) -> list[layout.Entry | BadRecord]:
    read = {one.get("image_id"): one.get("ocr_tokens") for one in layout.good(words, "data")} if words else {}
    found = layout.numbered(layout.entries(path, "data"), lambda one: one["question_id"])
    return [
        one if isinstance(one, BadRecord) else {**one, "ocr": read.get(one.get("image_id"))} for one in found
    ]
