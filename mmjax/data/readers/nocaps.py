"""NoCaps (Agrawal et al. 2019): 4,500 validation pictures of ten captions, by domain; a test set without.

nocaps_val_4500_captions.json, in the form of COCO, each image with its `domain`
{val,images}/0013ea2087020901.jpg
"""

from __future__ import annotations

from mmjax.data.readers import _layout as layout
from mmjax.data.readers._karpathy import FIRST
from mmjax.data.readers.coco import official
from mmjax.data.records import Record
from mmjax.data.sources.splits import Splits


def open_path(path: str, *, captions: str = FIRST) -> Splits:
    """Opens the validation set; `captions` is "first" (a record per picture, all in its facts) or "each"."""
    file = layout.need(path, "nocaps_val_4500_captions.json", "annotations/nocaps_val_4500_captions.json")

    def record(entry: layout.Entry) -> Record:
        name, id = entry["file_name"], entry["id"]
        image = layout.picture(path, id, f"val/{name}", f"images/{name}", f"images/val/{name}")
        facts = {"domain": entry["domain"]} if "domain" in entry else {}
        return layout.captioned(id, image, entry["captions"], name=name, facts=facts)

    loads = {"val": lambda: official(file, captions)}
    return layout.splits(f"nocaps:{path}", loads, record, caption=lambda entry: entry["captions"][0])
