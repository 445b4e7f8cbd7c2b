"""Parameters and multiply-adds of published sizes, from shapes alone."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

from mmjax.flops import multiply_adds
from mmjax.systems import sizes
from mmjax.training import optimizers
from mmjax.training.state import abstract_params


def parameters(family: str, size: str, part: str | None = None) -> int:
    """Parameters of a published size, or of one part as its published table splits it."""
    parts = _parts(family, size)
    if part is not None:
        return parts[part]
    return sum(count for name, count in parts.items() if name is not None)


def parameters_of(family: str, size: str, *parts: str) -> int:
    """Parameters of several parts together."""
    return sum(parameters(family, size, part) for part in parts)


def parameters_each(family: str, size: str, part: str, count: int) -> int:
    """Parameters of one of `count` equal blocks of a part."""
    each, rest = divmod(parameters(family, size, part), count)
    if rest:
        raise ValueError(f"{part} of {family} {size} does not consist of {count} equal blocks")
    return each


def trained(family: str, size: str) -> int:
    """Parameters that are trained, the public models that a size is built from being frozen."""
    shapes = _shapes(family, size)
    treatments = optimizers.treat(sizes.load(family, size).treatments(), shapes)
    return sum(
        optimizers.trained(treatments[path], leaf.shape) for path, leaf in flatten_dict(shapes).items()
    )


def statistics(family: str, size: str) -> int:
    """Numbers kept but not learned, such as running moments; published tables do not count them."""
    return _parts(family, size)[None]


def positions(family: str, size: str) -> int:
    """Numbers in the fixed table of positions, which some official code registers as a parameter."""
    denoiser = sizes.load(family, size).denoiser
    return (denoiser.image_size // denoiser.patch) ** 2 * denoiser.transformer.width


def with_positions(family: str, size: str) -> int:
    """Parameters and the fixed table of positions."""
    return parameters(family, size) + positions(family, size)


def shape(family: str, size: str, path: str) -> tuple[int, ...]:
    """The shape of the parameter 'a/b/c'."""
    return tuple(flatten_dict(_shapes(family, size), sep="/")[path].shape)


def image_flops(family: str, size: str) -> int:
    """FLOPs, two per multiply-add, of embedding one picture."""
    system = sizes.load(family, size)
    side = system.vision.image_size
    image = jax.ShapeDtypeStruct((1, 1, side, side, 3), jnp.uint8)
    return 2 * multiply_adds(system.encode_image, _shapes(family, size), image)


def image_flops_with_every_query(family: str, size: str) -> int:
    """`image_flops` of a residual tower whose attention pool projects and answers a query per position."""
    vision = sizes.load(family, size).vision
    width, others = 32 * vision.width, (vision.image_size // 32) ** 2  # beside the query of the mean
    per_query = width * (width + vision.embedding) + 2 * (others + 1) * width
    return image_flops(family, size) + 2 * others * per_query


def text_flops(family: str, size: str) -> int:
    """FLOPs, two per multiply-add, of embedding one caption of full length."""
    system = sizes.load(family, size)
    tokens = jax.ShapeDtypeStruct((1, system.text.length), jnp.int32)
    return 2 * multiply_adds(system.encode_text, _shapes(family, size), tokens)


def denoiser_multiply_adds(family: str, size: str) -> int:
    """Multiply-adds of one answer of a denoiser about one latent."""
    system = sizes.load(family, size)
    x = jax.ShapeDtypeStruct((1, *system.denoiser.shape), jnp.float32)
    time, label, drop = (jax.ShapeDtypeStruct((1,), kind) for kind in (jnp.float32, jnp.int32, bool))
    return multiply_adds(system.denoise, _shapes(family, size), x, time, (label, drop))


@functools.cache
def _shapes(family: str, size: str):
    return nn.meta.unbox(abstract_params(sizes.load(family, size)))


@functools.cache
def _parts(family: str, size: str) -> dict[str | None, int]:
    system, parts = sizes.load(family, size), {}
    for path, leaf in flatten_dict(_shapes(family, size)).items():
        part = system.part("/".join(path))
        parts[part] = parts.get(part, 0) + math.prod(leaf.shape)
    return parts
