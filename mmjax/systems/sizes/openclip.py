"""CLIP as the OpenCLIP project scaled it on LAION (Cherti et al. 2023; model configs of open_clip 3.3).

They differ from OpenAI's in the activation, the exact GELU, and in heads and hidden widths of their own: the
configs of g and bigG give a ratio (4.3637, 4.9231) whose product with the width is rounded down.
"""

from mmjax.systems.clip import CLIP
from mmjax.systems.sizes.clip import clip, vit


def _open(embedding: int, text: tuple[int, int], *vision, **fields) -> CLIP:
    return clip(
        embedding=embedding,
        vision=vit(*vision, activation="gelu", **fields),
        text=text,
        activation="gelu",
    )


SIZES = {
    "ViT-B/32": _open(512, (12, 512), 224, 32, 12, 768),
    "ViT-B/32-256": _open(512, (12, 512), 256, 32, 12, 768),
    "ViT-B/16": _open(512, (12, 512), 224, 16, 12, 768),
    "ViT-B/16-plus-240": _open(640, (12, 640), 240, 16, 12, 896),
    "ViT-L/14": _open(768, (12, 768), 224, 14, 24, 1024),
    "ViT-H/14": _open(1024, (24, 1024), 224, 14, 32, 1280, heads=16),
    "ViT-g/14": _open(1024, (24, 1024), 224, 14, 40, 1408, heads=16, mlp_width=6144),
    "ViT-bigG/14": _open(1280, (32, 1280), 224, 14, 48, 1664, heads=16, mlp_width=8192),
}
