"""Hyper-parameters that published sizes carry, read off the systems."""

from typing import Any

from mmjax.layers.resnet import ResNetConfig
from mmjax.systems import sizes


def field(family: str, size: str, path: str) -> Any:
    """The value at 'a.b.c' of a published size."""
    value = sizes.load(family, size)
    for name in path.split("."):
        value = getattr(value, name)
    return value


def clip_shape(size: str) -> tuple:
    """(embedding, image side; depth, width, heads of the vision tower and of the text tower).

    A residual tower has a depth per stage, and the heads are those of its attention pooling.
    """
    system = sizes.load("clip", size)
    vision, text = system.vision, system.text.transformer
    if isinstance(vision, ResNetConfig):
        tower = vision.depths, vision.width, 32 * vision.width // vision.head_dim
    else:
        tower = vision.transformer.depth, vision.transformer.width, vision.transformer.heads
    return system.embedding, vision.image_size, *tower, text.depth, text.width, text.heads


def tower_shape(family: str, size: str, path: str = "vision.transformer") -> tuple[int, int, int, int]:
    """(width, depth, width of the MLP, heads) of the transformer at `path`."""
    t = field(family, size, path)
    return t.width, t.depth, t.mlp_width or 4 * t.width, t.heads
