"""LAION, CC3M, CC12M, COYO: picture-text pairs from the web as `img2dataset` packs them.

    00000.tar, 00001.tar, ...       key.jpg, key.txt, key.json (url, caption, width, height, similarity, ...)

The JSON member becomes the facts of the record.
"""

from mmjax.data.sources.webdataset import open_path

__all__ = ["open_path"]
