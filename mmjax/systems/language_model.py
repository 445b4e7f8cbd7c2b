"""A decoder language model by itself: next-token training and continuation of prompts.

    tokens -> embed -> layers -> norm -> logits        GPT-2 (Radford et al. 2019), OPT (Zhang et al. 2022),
                                                       Llama (Touvron et al. 2023)

It is what Flamingo and its kin stand on. Its parameters are those of `Decoder`, so that a trained one fills
the `language` of a fusion system.

Axes: B batch, L tokens, P prompt tokens, D width, V vocabulary.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from mmjax.decoding.prompts import continue_prompts
from mmjax.language.decoder import Decoder, DecoderConfig, empty_memory
from mmjax.layers import masks
from mmjax.layers.transformer import Inputs
from mmjax.objectives.language import next_token
from mmjax.systems.system import System


def _read(decoder: Decoder, tokens: jax.Array, inputs: Inputs, memory=None) -> tuple:
    return decoder(decoder.embed(tokens), inputs, memory)


def _logits(decoder: Decoder, tokens: jax.Array, inputs: Inputs) -> jax.Array:
    return decoder.logits(_read(decoder, tokens, inputs)[0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModel(System):
    """A decoder-only language model.

    Attributes:
      prefixes: rows may have blocks that see themselves (`block_start`). Without, every row is causal,
        whatever it carries, and an attention kernel does half the work.
      loss_chunk: positions of a row whose logits are in memory at a time; None for all.
      z_loss: weight of the mean square of log Z beside the loss; see `mmjax.objectives.language`.
      eos_token: ends a generated text.
      pad_token: follows it.
    """

    decoder: DecoderConfig
    prefixes: bool = True
    loss_chunk: int | None = None
    z_loss: float = 0.0
    eos_token: int = 2
    pad_token: int = 0

    @property
    def module(self) -> Decoder:
        return Decoder(self.decoder)

    def init(self, key):
        tokens = jnp.zeros((1, 1), jnp.int32)
        return self.module.init(key, tokens, Inputs(positions=tokens), method=_logits)["params"]

    def loss(self, params, batch, key):
        """Next-token loss on `targets` given `tokens`; documents packed in a row do not see each other."""
        starts = dict(block_start=batch["block_start"]) if self.prefixes else dict(order="causal")
        mask = masks.SelfMask(segment=batch["segment"], **starts)
        inputs = Inputs(mask=mask, positions=batch["positions"])
        states, _ = self._apply(params, _read, batch["tokens"], inputs)
        logits = functools.partial(self._apply, params, Decoder.logits)
        return next_token(logits, states, batch["targets"], chunk=self.loss_chunk, z_loss=self.z_loss)

    def logits(self, params, tokens, segment):
        """Causal logits of padded rows: int[B, L] twice -> float32[B, L, V]; segment 0 is padding."""
        positions = jnp.maximum(jnp.cumsum(segment > 0, axis=1) - 1, 0)
        mask = masks.SelfMask(order="causal", segment=segment)
        return self._apply(params, _logits, tokens, Inputs(mask=mask, positions=positions))

    def generate(self, params, tokens, segment, key, *, length, temperature=0.0, processors=()):
        """Continues prompts from a static cache.

        Args:
          tokens, segment: int[B, P], prompts padded on either side with segment 0.
          temperature: 0 takes the most likely token.
          processors: of `mmjax.decoding.autoregressive`, such as `top_p(0.9)`.

        Returns:
          int[B, length]: the new ids, then EOS, then PAD.
        """
        capacity = tokens.shape[1] + length
        return continue_prompts(
            functools.partial(self._apply, params, _read),
            functools.partial(self._apply, params, Decoder.logits),
            tokens,
            segment,
            key,
            memory=empty_memory(self.decoder, len(tokens), capacity),
            capacity=capacity,
            length=length,
            stop=self.eos_token,
            pad=self.pad_token,
            temperature=temperature,
            processors=processors,
        )

    def _apply(self, params, method, *arguments):
        return self.module.apply({"params": params}, *arguments, method=method)
