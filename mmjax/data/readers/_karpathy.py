"""The JSON of Karpathy's splits: {images: [{filepath, filename, split, sentences: [{raw, sentid}]}]}.

`restval`, the part of COCO's validation pictures that nobody tests on, is trained on, as in the literature.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmjax.data.readers import _layout as layout
from mmjax.data.records import BadRecord, Record
from mmjax.data.sources.splits import Splits, grouped
from mmjax.errors import UserError

EACH, FIRST = "each", "first"


def captions_of(id: str, captions: Sequence[str], how: str) -> list[tuple[str, list[str]]]:
    """(id, captions) of the records of one picture: one record a caption, or one in all.

    Every record knows all captions; its own comes first.
    """
    if how not in (EACH, FIRST):
        raise UserError(
            f"captions is {how!r}: use {EACH} (a record per caption) or {FIRST} (one per picture)."
        )
    if how == FIRST or not captions:
        return [(id, list(captions))]
    return [(f"{id}-{i}", [captions[i], *captions[:i], *captions[i + 1 :]]) for i in range(len(captions))]


def open_karpathy(name: str, path: str, root: str, folders: Sequence[str], captions: str) -> Splits:
    """The splits of one file; pictures in `root`, in the folder the entry names or one of `folders`."""
    groups = grouped(layout.entries(path, "images"), _split)

    def expanded(images: list) -> list[layout.Entry | BadRecord]:
        found: list[layout.Entry | BadRecord] = []
        for number, image in enumerate(images):
            if isinstance(image, BadRecord):
                found.append(image)
                continue
            id = str(image.get("cocoid", image.get("filename", f"entry {number}")))
            texts = [one.get("raw") if isinstance(one, dict) else one for one in image.get("sentences", [])]
            found += [
                {**image, "id": one, "captions": said} for one, said in captions_of(id, texts, captions)
            ]
        return found

    def record(entry: layout.Entry) -> Record:
        file = entry["filename"]
        below = [f"{entry['filepath']}/"] if entry.get("filepath") else []
        names = [f"{folder}{file}" for folder in (*below, *folders)]
        image = layout.picture(root, entry["id"], *names)
        return layout.captioned(entry["id"], image, entry["captions"], name=file)

    loads = {split: lambda members=members: expanded(members) for split, members in groups.items()}
    return layout.splits(name, loads, record, caption=lambda entry: entry["captions"][0])


def _split(image: layout.Entry | BadRecord) -> str:
    split = "train" if isinstance(image, BadRecord) else str(image.get("split", "train"))
    return "train" if split == "restval" else split
