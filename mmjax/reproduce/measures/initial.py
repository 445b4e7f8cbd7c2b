"""What systems are before any training, on tiny ones."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mmjax.diffusion.denoiser import DenoiserConfig
from mmjax.language.decoder import DecoderConfig
from mmjax.layers.queries import ResamplerConfig, resampler_transformer
from mmjax.layers.transformer import TransformerConfig
from mmjax.layers.vision import VisionConfig
from mmjax.systems.clip import CLIP, TextConfig
from mmjax.systems.dit import DiT
from mmjax.systems.flamingo import Flamingo
from mmjax.systems.language_model import LanguageModel

_BLOCKS = TransformerConfig(depth=2, width=16, heads=2)
_VISION = VisionConfig(image_size=16, patch=8, transformer=_BLOCKS)
_TEXT = TextConfig(vocabulary_size=32, length=8, transformer=_BLOCKS)
_CLIP = CLIP(embedding=8, vision=_VISION, text=_TEXT)
_DIT = DiT(denoiser=DenoiserConfig(image_size=32, patch=8, channels=4, classes=10, transformer=_BLOCKS))
_FLAMINGO = Flamingo(
    vision=_VISION,
    resampler=ResamplerConfig(queries=3, transformer=resampler_transformer(depth=1, width=16, heads=2)),
    language=DecoderConfig(
        vocabulary_size=32,
        context_length=8,
        transformer=dataclasses.replace(_BLOCKS, depth=4, rope_base=10000.0),
        cross_every=2,
    ),
)

# Each program runs once, on a tiny system: making it fast would take longer than running it.
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def _fresh(system, name: str) -> float:
    """One scalar of the fresh parameters; nothing else is compiled."""
    return float(_jit(lambda key: nn.meta.unbox(system.init(key)[name]))(jax.random.key(0)))


def logit_scale(objective: str) -> float:
    """The logarithm of the scale of the similarities."""
    return _fresh(dataclasses.replace(_CLIP, objective=objective), "logit_scale")


def logit_bias() -> float:
    """The bias of the similarities, of the sigmoid objective."""
    return _fresh(dataclasses.replace(_CLIP, objective="sigmoid"), "logit_bias")


def largest_scale() -> float:
    """What an update leaves of a scale of a million."""
    params = _CLIP.after_update({"logit_scale": jnp.log(1e6)})
    return float(jnp.exp(params["logit_scale"]))


def dit_largest_output() -> float:
    """The largest absolute value that a fresh DiT answers."""
    return _dit()[0]


def dit_denoising_loss() -> float:
    """The mean squared error of a fresh DiT about 262,144 numbers."""
    return _dit()[1]


@functools.cache
def _dit() -> tuple[float, float]:
    """The largest answer of a fresh DiT about 64 latents, and its loss on them."""

    @_jit
    def both(key):
        params = nn.meta.unbox(_DIT.init(key))
        x, label = jax.random.normal(key, (64, *_DIT.denoiser.shape)), jnp.arange(64) % 10
        answer = _DIT.denoise(params, x, jnp.linspace(0, 0.999, 64), (label, jnp.zeros(64, bool)))
        terms, _ = _DIT.loss(params, {"latent": x, "label": label}, jax.random.fold_in(key, 1))
        _, total, count = terms["denoising"]
        return jnp.max(jnp.abs(answer)), total / count

    largest, loss = both(jax.random.key(2))
    return float(largest), float(loss)


def flamingo_difference() -> float:
    """Largest difference between the logits of a fresh Flamingo and those of its language model."""
    params = _jit(lambda key: nn.meta.unbox(_FLAMINGO.init(key)))(jax.random.key(3))
    language = dataclasses.replace(_FLAMINGO.language, cross_every=0)
    groups = params["language"]["groups"]["stack"]
    stack = jax.tree.map(lambda leaf: leaf.reshape(language.transformer.depth, *leaf.shape[2:]), groups)
    alone = {name: value for name, value in params["language"].items() if name != "groups"} | {"stack": stack}

    random = np.random.default_rng(0)
    tokens = jnp.asarray(random.integers(4, 32, (2, 8))).at[:, 2].set(_FLAMINGO.image_token)
    positions, ones = jnp.tile(jnp.arange(8), (2, 1)), jnp.ones((2, 8), jnp.int32)
    image = jnp.asarray(random.integers(0, 256, (2, 1, 16, 16, 3)), jnp.uint8)
    there = jnp.ones((2, 1), bool)
    with_pictures = _jit(_FLAMINGO.module.apply)(
        {"params": params}, tokens, positions, ones, ones, image, there
    )
    without = _jit(LanguageModel(decoder=language).logits)(alone, tokens, ones)
    return float(jnp.max(jnp.abs(with_pictures - without)))
