"""COCO captions (Chen et al. 2015): Karpathy's splits where their file is there, else the official ones.

dataset_coco.json                               Karpathy: train (with restval), val 5,000, test 5,000
annotations/captions_{train,val}2014.json       official
{train,val}2014/COCO_train2014_000000000009.jpg, or {train,val}2017/000000000009.jpg
"""

from __future__ import annotations

import os

from mmjax.data.readers import _layout as layout
from mmjax.data.readers._karpathy import EACH, captions_of, open_karpathy
from mmjax.data.records import BadRecord, Record
from mmjax.data.sources.splits import Splits

KARPATHY = ("dataset_coco.json", "annotations/dataset_coco.json", "karpathy/dataset_coco.json")


def open_path(path: str, *, year: str = "2014", captions: str = EACH, splits: str = "") -> Splits:
    """Opens the captions.

    Args:
      year: of the official annotations, "2014" or "2017".
      captions: "each" (a record per caption) or "first" (one per picture, all captions in its facts).
      splits: "karpathy" or "official"; "" for the former where its file is there.
    """
    file = layout.find(path, *KARPATHY) if year == "2014" else ""
    if splits == "karpathy" or (not splits and file):
        return open_karpathy(
            f"coco:{path}", file or layout.need(path, *KARPATHY), path, ("images/",), captions
        )
    loads = {}
    for split in ("train", "val"):
        name = f"captions_{split}{year}.json"
        if found := layout.find(path, f"annotations/{name}", name):
            loads[split] = lambda found=found: official(found, captions)

    def record(entry: layout.Entry) -> Record:
        file, id = entry["file_name"], entry["id"]
        names = [f"{part}{year}/{file}" for part in ("train", "val", "images/train", "images/val")]
        image = layout.picture(path, id, *names, f"images/{file}")
        return layout.captioned(id, image, entry["captions"], name=file, facts=entry.get("facts"))

    layout.need(path, *(f"{folder}captions_*{year}.json" for folder in ("annotations/", "")))
    return layout.splits(f"coco:{path}", loads, record, caption=lambda entry: entry["captions"][0])


def official(path: str, captions: str) -> list[layout.Entry | BadRecord]:
    """The pictures of an annotation file {images: [{id, file_name}], annotations: [{image_id, caption}]}."""
    found: list[layout.Entry | BadRecord] = []
    said: dict[object, list[str]] = {}
    images = layout.good(path, "images")
    known = {image.get("id") for image in images}
    for number, one in enumerate(layout.entries(path, "annotations")):
        if isinstance(one, BadRecord):
            found.append(one)
        elif one.get("image_id") not in known:
            id = f"{os.path.basename(path)} annotation {one.get('id', number)}"
            found.append(BadRecord(id, "unknown picture", f"there is no image {one.get('image_id')!r}"))
        else:
            said.setdefault(one["image_id"], []).append(one.get("caption"))
    for image in images:
        for id, texts in captions_of(str(image.get("id")), said.get(image.get("id"), []), captions):
            found.append({**image, "id": id, "captions": texts})
    return found
