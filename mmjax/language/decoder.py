"""A decoder-only language model (GPT-2, OPT, Llama families), optionally reading media between its layers.

With `cross_every = k`, gated cross-attention stands before every k-th layer (Flamingo, section 3.1.2):

    tokens -> embed -> [ gated cross-attention -> k layers ] x depth / k -> norm -> logits

The gates start at zero, so a decoder with fresh cross-attention computes exactly what it computed without.

Axes: B batch, L tokens, S cache capacity, N media features, D width, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.layers.attention import KeysValues
from mmjax.layers.embeddings import PositionEmbedding, TokenEmbedding
from mmjax.layers.normalization import normalization
from mmjax.layers.partitioning import constrain, dense
from mmjax.layers.transformer import (
    Block,
    Inputs,
    Memory,
    Stack,
    TransformerConfig,
    empty_cache,
    scan_layers,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A decoder-only language model.

    Attributes:
      context_length: most tokens in a row; the size of the learned position table where there is one.
      learned_positions: a position table (GPT-2, OPT); otherwise set `transformer.rope_base` (Llama).
      tied: the output projection is the transposed token table.
      cross_every: k, a gated cross-attention block before every k-th layer; 0 for none.
      cross: the shape of those blocks; None derives it from `transformer`.
      gate_initial: where their gates start: 0 protects a pretrained model, but a model that starts from
        nothing together with its cross-attention has nothing to protect, and zero gates cost it time.
    """

    vocabulary_size: int
    context_length: int
    learned_positions: bool = False
    tied: bool = True
    transformer: TransformerConfig
    cross_every: int = 0
    cross: TransformerConfig | None = None
    gate_initial: float = 0.0

    def __post_init__(self):
        if self.cross_every and self.transformer.depth % self.cross_every:
            raise UserError(
                f"cross_every = {self.cross_every} must divide depth = {self.transformer.depth}: change it"
            )

    @property
    def cross_blocks(self) -> TransformerConfig:
        """The cross-attention blocks: tanh gates on attention and MLP, one block per group of layers."""
        groups = self.transformer.depth // self.cross_every
        base = self.cross or dataclasses.replace(
            self.transformer, rope_base=None, kv_heads=None, attention_bias=False, mlp_bias=False
        )
        gated = dict(gate=base.gate or "tanh", gate_initial=self.gate_initial)
        return dataclasses.replace(base, depth=groups, sublayers=("cross", "mlp"), **gated)


class Group(nn.Module):
    """One gated cross-attention block and the k language layers behind it."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: jax.Array, memory: tuple | None, inputs: Inputs) -> tuple[jax.Array, tuple | None]:
        c = self.config
        cross, layers = memory or (None, None)
        x, cross = Block(c.cross_blocks, name="cross")(x, cross, inputs)
        inner = dataclasses.replace(c.transformer, depth=c.cross_every)
        layers_out = Stack(inner, name="stack")(x, inputs, layers)
        return layers_out[0], None if memory is None else (cross, layers_out[1])


class Decoder(nn.Module):
    """Tokens (and media features) in, states and logits out."""

    config: DecoderConfig

    def setup(self):
        c, t = self.config, self.config.transformer
        self.tokens = TokenEmbedding(c.vocabulary_size, t.width, dtype=t.dtype)
        if c.learned_positions:
            self.positions = PositionEmbedding(c.context_length, t.width)
        if c.cross_every:
            groups = t.depth // c.cross_every
            self.groups = scan_layers(Group, groups, unroll=t.unroll)(c)
        else:
            self.stack = Stack(t)
        self.norm = normalization(t.norm, epsilon=t.epsilon, dtype=t.dtype)
        if not c.tied:
            self.head = dense(c.vocabulary_size, ("embed", "vocab"), bias=False, dtype=t.dtype)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """int[B, L] -> float[B, L, D]."""
        return constrain(self.tokens(tokens), "batch", "sequence", "embed")

    def __call__(
        self, x: jax.Array, inputs: Inputs, memory: Memory | tuple | None = None
    ) -> tuple[jax.Array, Memory | tuple | None]:
        """Embedded tokens float[B, L, D] -> normalised final states float[B, L, D], and the memory."""
        if self.config.learned_positions:
            x = self.positions(x, inputs.positions)
        if self.config.cross_every:
            x, memory = self.groups(x, memory, inputs)
        else:
            x, memory = self.stack(x, inputs, memory)
        return self.norm(x), memory

    def logits(self, states: jax.Array) -> jax.Array:
        """float[B, L, D] -> float32[B, L, V]."""
        if self.config.tied:
            return self.tokens.logits(states)
        return constrain(self.head(states).astype(jnp.float32), "batch", "sequence", "vocab")


def empty_memory(config: DecoderConfig, batch: int, capacity: int) -> Memory | tuple:
    """An empty static cache for `Decoder`; cross-attention fills in its own part at prefill."""
    cache = empty_cache(config.transformer, batch, capacity)
    if not config.cross_every:
        return Memory(self_attention=cache)
    groups = config.transformer.depth // config.cross_every
    grouped = KeysValues(*(a.reshape(groups, config.cross_every, *a.shape[1:]) for a in cache))
    return Memory(), Memory(self_attention=grouped)
