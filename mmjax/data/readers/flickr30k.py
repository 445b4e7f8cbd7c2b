"""Flickr30k (Young et al. 2014) in Karpathy's splits: 29,000 / 1,014 / 1,000 pictures of five captions.

dataset_flickr30k.json
flickr30k-images/1000092795.jpg
"""

from __future__ import annotations

from mmjax.data.readers import _layout as layout
from mmjax.data.readers._karpathy import EACH, open_karpathy
from mmjax.data.sources.splits import Splits

FOLDERS = ("flickr30k-images/", "flickr30k_images/", "Images/", "images/")


def open_path(path: str, *, captions: str = EACH) -> Splits:
    """Opens the captions; `captions` is "each" (a record per caption) or "first" (one per picture)."""
    file = layout.need(path, "dataset_flickr30k.json", "annotations/dataset_flickr30k.json")
    return open_karpathy(f"flickr30k:{path}", file, path, FOLDERS, captions)
