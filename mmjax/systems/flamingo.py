"""Flamingo: a frozen language model that looks at pictures (Alayrac et al. 2022).

    pictures -> frozen vision encoder -> Perceiver resampler -> a few features per picture
                                                                        |  keys and values
    text     -> [ tanh-gated cross-attention -> k frozen layers ] x depth / k -> next token

Each token looks at the latest picture before it and at no other (section 3.1.3). The gates start at zero, so
at initialisation Flamingo is its language model, to the bit.

Axes: B batch, L tokens, P prompt tokens, M media per row, Q resampled features per medium, D width,
V vocabulary.
"""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.decoding.prompts import continue_prompts
from mmjax.language.decoder import Decoder, DecoderConfig, empty_memory
from mmjax.layers import masks
from mmjax.layers.nfnet import NFNetConfig
from mmjax.layers.queries import PerceiverResampler, ResamplerConfig
from mmjax.layers.transformer import Inputs
from mmjax.layers.vision import VisionConfig
from mmjax.objectives.language import next_token
from mmjax.systems.system import FREEZE, TRAIN, Rows, System

CROSS_ATTENTION = r"language/(groups|last)/cross/.*"


class FlamingoModule(nn.Module):
    """Vision encoder, resampler and decoder as one module."""

    config: "Flamingo"

    def setup(self):
        self.vision = self.config.vision.tower()
        if self.config.resampler is not None:
            self.resampler = PerceiverResampler(self.config.resampler)
        self.language = Decoder(self.config.language)

    def encode_media(self, image: jax.Array) -> jax.Array:
        """uint8 or standardised float[B, M, H, W, 3] -> float[B, M, Q, D]."""
        batch, media = image.shape[:2]
        features, _ = self.vision(image.reshape(batch * media, *image.shape[2:]))
        features = features.reshape(batch, media, *features.shape[1:])
        return features if self.config.resampler is None else self.resampler(features[:, :, None])

    def read(self, tokens: jax.Array, inputs: Inputs, memory=None) -> tuple:
        """int[B, L] -> states float[B, L, D] of the final layer, and the memory."""
        return self.language(self.language.embed(tokens), inputs, memory)

    def logits(self, states: jax.Array) -> jax.Array:
        return self.language.logits(states)

    def __call__(self, tokens, positions, block_start, segment, image, image_valid) -> jax.Array:
        """Logits float32[B, L, V]; see `Flamingo.loss` for the arguments."""
        return self.logits(self.states(tokens, positions, block_start, segment, image, image_valid))

    def states(self, tokens, positions, block_start, segment, image, image_valid) -> jax.Array:
        """Final states float[B, L, D]."""
        inputs = self.inputs(tokens, positions, block_start, segment, image_valid)
        inputs = inputs._replace(context=_flat(self.encode_media(image)))
        return self.read(tokens, inputs)[0]

    def inputs(self, tokens, positions, block_start, segment, image_valid) -> Inputs:
        """Both masks, from the integers that the tokens carry."""
        is_image = tokens == self.config.image_token
        owner = masks.media_segment(is_image, segment, image_valid.shape[1])
        looks_at = masks.latest_media_mask(masks.media_seen(is_image), segment, image_valid, owner)
        return Inputs(
            mask=masks.SelfMask(block_start=block_start, segment=segment),
            positions=positions,
            context_mask=self.config.per_feature(looks_at),
        )


def _flat(media: jax.Array) -> jax.Array:
    """float[B, M, Q, D] -> float[B, M * Q, D]."""
    return media.reshape(media.shape[0], -1, media.shape[-1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flamingo(System):
    """A visual language model.

    Attributes:
      resampler: None lets the language model read all features of the encoder, as IDEFICS without one does.
      stage: what is trained. 'published' freezes the vision encoder and the language model, as the paper
        does with pretrained ones; 'language' freezes the vision encoder only, for a language model that
        starts from nothing; 'all' freezes nothing.
      trained_rows: token rows [start, stop) trained although the language model is frozen (`<image>`, ...);
        None for none. The rows of `language.added_tokens` are trained in any case.
      loss_chunk, z_loss: see `mmjax.objectives.language.next_token`.
    """

    vision: VisionConfig | NFNetConfig
    resampler: ResamplerConfig | None
    language: DecoderConfig
    stage: str = "published"
    trained_rows: tuple[int, int] | None = (3, 4)
    loss_chunk: int | None = None
    z_loss: float = 0.0
    image_token: int = 3
    eos_token: int = 2
    pad_token: int = 0

    def __post_init__(self):
        if self.stage not in ("published", "language", "all"):
            raise ValueError(f"model.stage is {self.stage!r}: expected 'published', 'language' or 'all'")

    @property
    def features_shape(self) -> tuple[int, int]:
        """(Q, D) of what the language model reads of one medium."""
        if self.resampler is None:
            return self.vision.features_shape
        return self.resampler.queries, self.resampler.transformer.width

    @property
    def module(self) -> FlamingoModule:
        return FlamingoModule(self)

    def part(self, path):
        return "cross_attention" if re.fullmatch(CROSS_ATTENTION, path) else super().part(path)

    def treatments(self):
        if self.stage == "all":
            return ((".*", TRAIN),)
        new = rf"resampler/.*|{CROSS_ATTENTION}|language/added_.*"
        added = ((r"vision/.*", FREEZE), (new, TRAIN))
        if self.stage == "language":
            return (*added, (".*", TRAIN))
        if self.trained_rows is not None:
            start, stop = self.trained_rows
            added = (*added, (r"language/tokens/table", Rows(start=start, stop=stop)))
        return (*added, (".*", FREEZE))

    def per_feature(self, looks_at: jax.Array) -> jax.Array:
        """Media mask bool[B, L, M] -> mask over their features bool[B, L, M * Q]."""
        return jnp.repeat(looks_at, self.features_shape[0], axis=-1)

    def init(self, key):
        size, tokens = self.vision.image_size, jnp.zeros((1, 1), jnp.int32)
        image, valid = jnp.zeros((1, 1, size, size, 3), jnp.uint8), jnp.ones((1, 1), bool)
        return self.module.init(key, tokens, tokens, tokens, tokens, image, valid)["params"]

    def loss(self, params, batch, key):
        """Next-token loss on `targets` given `tokens` and `image`; arguments as in the batch contract."""
        names = ("tokens", "positions", "block_start", "segment", "image", "image_valid")
        states = self._apply(params, "states", *(batch[name] for name in names))
        logits = functools.partial(self._apply, params, "logits")
        return next_token(logits, states, batch["targets"], chunk=self.loss_chunk, z_loss=self.z_loss)

    def states(self, params, tokens, segment):
        """Final states of text without pictures: int[B, L] twice -> float[B, L, D]."""
        features = jnp.zeros((len(tokens), *self.features_shape))
        positions = jnp.maximum(jnp.cumsum(segment > 0, axis=1) - 1, 0)
        nothing = jnp.zeros((len(tokens), 1), bool)
        text = (tokens, positions, jnp.ones_like(tokens), segment)
        inputs = self._apply(params, "inputs", *text, nothing)._replace(context=features)
        return self._apply(params, "read", tokens, inputs)[0]

    def caption(self, params, image, image_valid, tokens, segment, key, *, length, temperature=0.0):
        """Continues prompts that contain pictures; these are encoded once, whatever the length.

        Args:
          image: uint8 or standardised float[B, M, H, W, 3]; image_valid: bool[B, M].
          tokens, segment: int[B, P], prompts padded on either side with segment 0.

        Returns:
          int[B, length]: the new ids, then EOS, then PAD.
        """
        text = (tokens, jnp.zeros_like(tokens), jnp.ones_like(tokens), segment)
        capacity = tokens.shape[1] + length
        return continue_prompts(
            functools.partial(self._apply, params, "read"),
            functools.partial(self._apply, params, "logits"),
            tokens,
            segment,
            key,
            memory=empty_memory(self.language, len(tokens), capacity),
            capacity=capacity,
            context=_flat(self._apply(params, "encode_media", image)),
            context_mask=self._apply(params, "inputs", *text, image_valid).context_mask,
            length=length,
            stop=self.eos_token,
            pad=self.pad_token,
            temperature=temperature,
        )

    def _apply(self, params, method, *arguments):
        return self.module.apply({"params": params}, *arguments, method=method)
