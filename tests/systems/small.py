"""Small systems and batches for the tests of this folder.

Axes: B batch, L tokens, M media.
"""

import dataclasses

import jax
import numpy as np
from flax import linen as nn

from mmjax.language.decoder import DecoderConfig
from mmjax.layers.queries import ResamplerConfig, resampler_transformer
from mmjax.layers.transformer import TransformerConfig
from mmjax.layers.vision import VisionConfig
from mmjax.systems.clip import CLIP, TextConfig
from mmjax.systems.diffusion_decoder import DenoiserConfig, DiffusionDecoder
from mmjax.systems.flamingo import Flamingo
from mmjax.systems.generator import Generator

VOCABULARY, LENGTH, SIZE = 40, 12, 16
BLOCKS = TransformerConfig(depth=2, width=16, heads=2)
VISION = VisionConfig(image_size=SIZE, patch=8, transformer=BLOCKS)
CLIP_SYSTEM = CLIP(
    embedding=8,
    vision=VISION,
    text=TextConfig(vocabulary_size=VOCABULARY, length=LENGTH, transformer=BLOCKS),
)
FLAMINGO = Flamingo(
    vision=VISION,
    resampler=ResamplerConfig(queries=3, transformer=resampler_transformer(depth=1, width=16, heads=2)),
    language=DecoderConfig(
        vocabulary_size=VOCABULARY,
        context_length=LENGTH,
        transformer=dataclasses.replace(BLOCKS, depth=4, kv_heads=1, rope_base=10000.0),
        cross_every=2,
    ),
)
DECODER = DiffusionDecoder(
    clip=CLIP_SYSTEM, denoiser=DenoiserConfig(image_size=SIZE, patch=8, transformer=BLOCKS)
)
GENERATOR = Generator(
    flamingo=FLAMINGO,
    decoder=dataclasses.replace(DECODER, denoiser=dataclasses.replace(DECODER.denoiser, context=24)),
)


def fresh(system, seed=0):
    """Parameters as initialised."""
    return jax.jit(lambda key: nn.meta.unbox(system.init(key)))(jax.random.key(seed))


def perturbed(system, seed=0, scale=0.3):
    """Parameters with noise on all of them, zero-initialised gates and heads included."""
    leaves, structure = jax.tree.flatten(fresh(system, seed))
    random = np.random.default_rng(seed)
    noisy = [leaf + scale * random.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    return jax.tree.unflatten(structure, noisy)


def random_parameters(system, seed=0, scale=0.3):
    """Parameters of the right shapes, nothing compiled: scales around one, everything else around zero."""
    random = np.random.default_rng(seed)

    def leaf(path, shape):
        return np.float32(path[-1].key == "scale") + scale * random.standard_normal(shape.shape, np.float32)

    shapes = nn.meta.unbox(jax.eval_shape(system.init, jax.random.key(0)))
    return jax.device_put(jax.tree_util.tree_map_with_path(leaf, shapes))


def batch(tokens, *, media=2, valid=None, seed=0):
    """A batch around tokens [B, L]; 0 is padding. Targets are the next tokens."""
    tokens = np.asarray(tokens, np.int32)
    random = np.random.default_rng(seed)
    real = (tokens > 0).astype(np.int32)
    following = np.concatenate([tokens[:, 1:], np.zeros_like(tokens[:, :1])], axis=1)
    return {
        "tokens": tokens,
        "targets": np.where(following > 3, following, -1),
        "segment": real,
        "block_start": np.ones_like(tokens),
        "positions": np.maximum(np.cumsum(real, axis=1) - 1, 0),
        "image": random.integers(0, 256, (len(tokens), media, SIZE, SIZE, 3), np.uint8),
        "image_valid": np.ones((len(tokens), media), bool) if valid is None else np.asarray(valid),
        "index": np.arange(len(tokens), dtype=np.int32),
    }
