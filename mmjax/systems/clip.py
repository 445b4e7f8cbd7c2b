"""CLIP: two towers that put a picture and its caption in the same place.

    image -> vision transformer -> projection -> unit vector  \
                                                               scale * cosine -> which belongs to which?
    text  -> text transformer   -> projection -> unit vector  /

Two objectives: `softmax` (Radford et al. 2021: pick the partner among the batch, both ways) and `sigmoid`
(Zhai et al. 2023, SigLIP: is this pair a match, for every pair).

Axes: B batch, M media per row (the first is used), H/W image size, L tokens, D width, E embedding.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.layers.embeddings import PositionEmbedding, TokenEmbedding
from mmjax.layers.masks import self_attention_mask
from mmjax.layers.normalization import normalization
from mmjax.layers.partitioning import dense, named
from mmjax.layers.transformer import Inputs, Stack, TransformerConfig
from mmjax.layers.vision import VisionConfig, VisionTransformer
from mmjax.objectives.contrastive import sigmoid_contrastive, softmax_contrastive
from mmjax.systems.system import System

LARGEST_LOG_SCALE = math.log(100.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The text tower.

    Attributes:
      causal: mask the future (CLIP). SigLIP sees the whole row, padding included.
      pool: 'eos' reads the state at the first end-of-text token (CLIP), 'last' at the last position (SigLIP).
    """

    vocabulary_size: int
    length: int
    causal: bool = True
    pool: str = "eos"
    eos_token: int = 2
    transformer: TransformerConfig


class TextTransformer(nn.Module):
    """Captions in, one feature each out."""

    config: TextConfig

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """int[B, L] -> float[B, D]."""
        c, t = self.config, self.config.transformer
        x = TokenEmbedding(c.vocabulary_size, t.width, dtype=t.dtype, name="tokens")(tokens)
        x = PositionEmbedding(c.length, t.width, 0.01, name="positions")(x)
        ones = jnp.ones_like(tokens)  # padding follows the end of text, where a causal mask hides it
        mask = self_attention_mask(ones, ones) if c.causal else None
        x, _ = Stack(t, name="stack")(x, Inputs(mask=mask))
        at = (
            jnp.argmax(tokens == c.eos_token, axis=1) if c.pool == "eos" else jnp.full(len(x), x.shape[1] - 1)
        )
        pooled = jnp.take_along_axis(x, at[:, None, None], axis=1)[:, 0]
        return normalization(t.norm, epsilon=t.epsilon, dtype=t.dtype, name="norm")(pooled)


class Towers(nn.Module):
    """Both towers with their projections, the scale and the bias of the similarity."""

    config: "CLIP"

    def setup(self):
        c = self.config
        self.vision = VisionTransformer(c.vision)
        self.text = TextTransformer(c.text)
        if c.vision_projection:
            self.vision_projection = self._projection(c.vision.transformer, bias=False)
        self.text_projection = self._projection(c.text.transformer, bias=c.text_projection_bias)
        initial = jnp.log(1 / 0.07) if c.objective == "softmax" else jnp.log(10.0)
        self.logit_scale = self.param("logit_scale", named(nn.initializers.constant(initial)), ())
        if c.objective == "sigmoid":
            self.logit_bias = self.param("logit_bias", named(nn.initializers.constant(-10.0)), ())

    def _projection(self, tower: TransformerConfig, bias: bool) -> nn.Module:
        return dense(self.config.embedding, ("embed", None), bias=bias, dtype=tower.dtype)

    def encode_image(self, image: jax.Array) -> jax.Array:
        _, pooled = self.vision(image)
        return _unit(self.vision_projection(pooled) if self.config.vision_projection else pooled)

    def encode_text(self, tokens: jax.Array) -> jax.Array:
        return _unit(self.text_projection(self.text(tokens)))

    def __call__(self, image: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.encode_image(image), self.encode_text(tokens)


def _unit(x: jax.Array) -> jax.Array:
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-12)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIP(System):
    """A contrastive image-text encoder."""

    embedding: int
    vision: VisionConfig
    text: TextConfig
    objective: str = "softmax"
    vision_projection: bool = True
    text_projection_bias: bool = False

    def __post_init__(self):
        if self.objective not in ("softmax", "sigmoid"):
            raise ValueError(f"model.objective is {self.objective!r}: expected 'softmax' or 'sigmoid'")

    @property
    def module(self) -> Towers:
        return Towers(self)

    def part(self, path):
        """Published tables count a projection to its tower."""
        tower = path.split("/")[0].removesuffix("_projection")
        return {"vision": "visual", "text": "text"}.get(tower, tower)

    def init(self, key):
        size = self.vision.image_size
        image = jnp.zeros((1, size, size, 3), jnp.uint8)
        tokens = jnp.zeros((1, self.text.length), jnp.int32)
        return self.module.init(key, image, tokens)["params"]

    def loss(self, params, batch, key):
        image, text = self.module.apply({"params": params}, batch["image"][:, 0], batch["tokens"])
        scale = jnp.exp(params["logit_scale"])
        if self.objective == "softmax":
            total, count = softmax_contrastive(image, text, scale)
        else:
            total, count = sigmoid_contrastive(image, text, scale, params["logit_bias"])
        found = jnp.argmax(image @ text.T, axis=1) == jnp.arange(len(image))
        return {"contrastive": (1.0, total, count)}, {"scale": scale, "batch_accuracy": found.mean()}

    def after_update(self, params):
        """Clamps the learned scale to at most 100: after the update, as published, not inside the loss."""
        if self.objective == "sigmoid":
            return params
        return {**params, "logit_scale": jnp.clip(params["logit_scale"], 0.0, LARGEST_LOG_SCALE)}

    def encode_image(self, params, image):
        """uint8 or standardised float[B, M, H, W, 3] -> unit float32[B, E] of the first medium."""
        return self.module.apply({"params": params}, image[:, 0], method="encode_image")

    def encode_text(self, params, tokens, segment=None):
        """int[B, L] -> unit float32[B, E]. The end-of-text token tells the padding; `segment` is not read."""
        return self.module.apply({"params": params}, tokens, method="encode_text")
