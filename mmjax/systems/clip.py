"""CLIP: two towers that put a picture and its caption in the same place.

    image -> vision tower       -> projection -> unit vector  \
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
from mmjax.layers.masks import SelfMask
from mmjax.layers.normalization import normalization
from mmjax.layers.partitioning import dense, named
from mmjax.layers.resnet import STATISTICS, TRACKED, ResNetConfig
from mmjax.layers.transformer import Inputs, Stack, TransformerConfig
from mmjax.layers.vision import VisionConfig
from mmjax.objectives.contrastive import sigmoid_contrastive, softmax_contrastive
from mmjax.systems.system import TRAIN, ContrastiveSystem, Track

LARGEST_LOG_SCALE = math.log(100.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The text tower.

    Attributes:
      causal: mask the future (CLIP). SigLIP sees the whole row, padding included.
      pool: 'eos' reads the state at the first end-of-text token (CLIP), 'last' at the last position (SigLIP).
      eos_token: CLIP's own code looks for the largest id of a row, which is its end of text, 49407. A config
        on Hugging Face that says 2 means the same.
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
        # Padding follows the end of text, where a causal mask hides it.
        mask = SelfMask(order="causal") if c.causal else None
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
        self.vision = c.vision.tower()
        self.text = TextTransformer(c.text)
        if c.vision_projection:
            self.vision_projection = self._projection(bias=False)
        if c.text_projection:
            self.text_projection = self._projection(bias=c.text_projection_bias)
        initial = jnp.log(1 / 0.07) if c.objective == "softmax" else jnp.log(10.0)
        self.logit_scale = self.param("logit_scale", named(nn.initializers.constant(initial)), ())
        if c.objective == "sigmoid":
            self.logit_bias = self.param("logit_bias", named(nn.initializers.constant(-10.0)), ())

    def _projection(self, bias: bool) -> nn.Module:
        c = self.config
        return dense(c.embedding, ("embed", None), bias=bias, dtype=c.text.transformer.dtype)

    def encode_image(self, image: jax.Array) -> jax.Array:
        _, pooled = self.vision(image)
        return _unit(self.vision_projection(pooled) if self.config.vision_projection else pooled)

    def encode_text(self, tokens: jax.Array) -> jax.Array:
        pooled = self.text(tokens)
        return _unit(self.text_projection(pooled) if self.config.text_projection else pooled)

    def __call__(self, image: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.encode_image(image), self.encode_text(tokens)


def _unit(x: jax.Array) -> jax.Array:
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-12)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIP(ContrastiveSystem):
    """A contrastive image-text encoder.

    Attributes:
      embedding: width of the shared space.
      vision_projection, text_projection: without one, the tower's own pooled feature has that width already.
      ring: compare with one device's captions at a time instead of gathering all of them; the loss is the
        same, the matrix of similarities is never in memory (`mmjax.objectives.contrastive`).
      chunk: captions compared with at a time, a divisor of a device's share; None for all of them.
    """

    embedding: int
    vision: VisionConfig | ResNetConfig
    text: TextConfig
    objective: str = "softmax"
    vision_projection: bool = True
    text_projection: bool = True
    text_projection_bias: bool = False
    ring: bool = False
    chunk: int | None = None

    def __post_init__(self):
        if self.objective not in ("softmax", "sigmoid"):
            raise ValueError(f"model.objective is {self.objective!r}: expected 'softmax' or 'sigmoid'")

    @property
    def module(self) -> Towers:
        return Towers(self)

    def part(self, path):
        """Published tables count a projection to its tower, and running statistics not at all."""
        if path.split("/")[-1] in STATISTICS:
            return None
        tower = path.split("/")[0].removesuffix("_projection")
        return {"vision": "visual", "text": "text"}.get(tower, tower)

    def init(self, key):
        image = jnp.zeros((1, self.vision.image_size, self.vision.image_size, 3), jnp.uint8)
        return self.module.init(key, image, jnp.zeros((1, self.text.length), jnp.int32))["params"]

    def treatments(self):
        statistics = f".*/({'|'.join(STATISTICS)})"
        tracked = ((statistics, Track()),) if isinstance(self.vision, ResNetConfig) else ()
        return (*tracked, (".*", TRAIN))

    def embed(self, params, batch, key):
        """Of each row, unit float32[B, E] of its picture and of its caption."""
        inputs = batch["image"][:, 0], batch["tokens"]
        return self.module.apply({"params": params}, *inputs, mutable=[TRACKED])

    def contrast(self, params, features):
        image, text = features
        scale, form = jnp.exp(params["logit_scale"]), dict(ring=self.ring, chunk=self.chunk)
        if self.objective == "softmax":
            total, count = softmax_contrastive(image, text, scale, **form)
        else:
            total, count = sigmoid_contrastive(image, text, scale, params["logit_bias"], **form)
        outputs = {"scale": scale}
        if not self.ring and self.chunk is None:
            outputs["batch_accuracy"] = (jnp.argmax(image @ text.T, axis=1) == jnp.arange(len(image))).mean()
        return {"contrastive": (1.0, total, count)}, outputs

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

    def logits(self, params, image, text):
        """How well pictures and captions match.

        Args:
          image, text: float[I, E] and float[T, E] of `encode_image` and `encode_text`; for zero-shot
            classification, row t of `text` is the unit mean of the captions of class t.

        Returns:
          float32[I, T]: a softmax over T (CLIP) or a sigmoid (SigLIP) makes them probabilities.
        """
        similarity = jnp.einsum("IE,TE->IT", image, text, preferred_element_type=jnp.float32)
        return jnp.exp(params["logit_scale"]) * similarity + params.get("logit_bias", 0.0)
