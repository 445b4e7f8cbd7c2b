"""A decoder-only language model (GPT-2, OPT, Llama, MPT), optionally reading media between its layers.

With `cross_every = k`, gated cross-attention stands before every k-th layer (Flamingo, section 3.1.2):

    tokens -> embed -> [ gated cross-attention -> k layers ] x depth / k -> norm -> logits

The whole groups run in one scan; layers before the first block (`lead`) and what is left of the last group
(`last`) stand beside it. The gates start at zero, so a decoder with fresh cross-attention computes exactly
what it computed without.

Axes: B batch, L tokens, S cache capacity, N media features, D width, E width of the token table,
V vocabulary.
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
    remember,
    scan_layers,
)

DecoderMemory = Memory | dict[str, Memory | tuple[Memory, Memory]]  # a dict where there is cross-attention


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A decoder-only language model.

    Attributes:
      context_length: most tokens in a row; the size of the learned position table where there is one.
      learned_positions: a position table (GPT-2, OPT); otherwise set `transformer.rope_base` (Llama) or
        `transformer.alibi` (MPT).
      position_offset: rows of that table in front of the one of position 0 (OPT has 2).
      tied: the output projection is the transposed token table.
      added_tokens: rows of a table of their own behind the vocabulary, for the tokens that a frozen language
        model learns later (IDEFICS); their ids follow the vocabulary's.
      embedding_width: width of the token table where it is not that of the layers (OPT-350M).
      final_norm: normalise behind the last layer; layers that end in a norm need none.
      cross_every: k, a gated cross-attention block before every k-th layer; 0 for none.
      cross_first: the first layer with such a block before it (OpenFlamingo: k - 1).
      cross: the shape of those blocks; None derives it from `transformer`.
      tokens_initial: standard deviation of a fresh token table. Beside layers that add numbers of about 1
        from the start, tokens of 0.02 are hard to tell apart until they have grown.
      gate_initial: where their gates start: 0 protects a pretrained model, but a model that starts from
        nothing together with its cross-attention has nothing to protect, and zero gates cost it time.
    """

    vocabulary_size: int
    context_length: int
    learned_positions: bool = False
    position_offset: int = 0
    tied: bool = True
    added_tokens: int = 0
    embedding_width: int | None = None
    final_norm: bool = True
    transformer: TransformerConfig
    cross_every: int = 0
    cross_first: int = 0
    cross: TransformerConfig | None = None
    tokens_initial: float = 0.02
    gate_initial: float = 0.0

    def __post_init__(self):
        if self.cross_every and self.cross_first + self.cross_every > self.transformer.depth:
            raise UserError(
                f"cross_first = {self.cross_first} and cross_every = {self.cross_every} do not fit into "
                f"depth = {self.transformer.depth}: lower one of them"
            )

    @property
    def groups(self) -> int:
        """Whole groups: a cross-attention block and the k layers behind it."""
        return (self.transformer.depth - self.cross_first) // self.cross_every

    @property
    def last(self) -> int:
        """Layers of the last group where it is not whole."""
        return (self.transformer.depth - self.cross_first) % self.cross_every

    def layers(self, count: int) -> TransformerConfig:
        """`count` of the layers."""
        return dataclasses.replace(self.transformer, depth=count)

    @property
    def cross_blocks(self) -> TransformerConfig:
        """The cross-attention blocks: tanh gates on attention and MLP, one block per group of layers."""
        base = self.cross or dataclasses.replace(
            self.transformer,
            rope_base=None,
            alibi=False,
            kv_heads=None,
            attention_bias=False,
            mlp_bias=False,
        )
        gated = dict(gate=base.gate or "tanh", gate_initial=self.gate_initial)
        count = self.groups + bool(self.last)
        return dataclasses.replace(base, depth=count, sublayers=("cross", "mlp"), **gated)


class Group(nn.Module):
    """One gated cross-attention block and the language layers behind it."""

    config: DecoderConfig
    layers: int

    @nn.compact
    def __call__(self, x: jax.Array, memory: tuple | None, inputs: Inputs) -> tuple[jax.Array, tuple | None]:
        c = self.config
        cross, layers = memory or (None, None)
        x, cross = Block(c.cross_blocks, name="cross")(x, cross, inputs)
        x, layers = Stack(c.layers(self.layers), name="stack")(x, inputs, layers)
        return x, None if memory is None else (cross, layers)


class Decoder(nn.Module):
    """Tokens (and media features) in, states and logits out."""

    config: DecoderConfig

    def setup(self):
        c, t = self.config, self.config.transformer
        width = c.embedding_width or t.width
        self.tokens = TokenEmbedding(c.vocabulary_size, width, c.tokens_initial, dtype=t.dtype)
        if c.added_tokens:
            self.added_tokens = TokenEmbedding(c.added_tokens, width, dtype=t.dtype, rows=None)
        if c.embedding_width:
            self.project_in = dense(t.width, ("embed", None), bias=False, dtype=t.dtype)
            self.project_out = dense(width, ("embed", None), bias=False, dtype=t.dtype)
        if c.learned_positions:
            self.positions = PositionEmbedding(c.context_length, t.width, offset=c.position_offset)
        if c.cross_every:
            if c.cross_first:
                self.lead = Stack(c.layers(c.cross_first))
            if c.last:
                self.last = Group(c, c.last)
        else:
            self.stack = Stack(t)
        if c.final_norm:
            self.norm = normalization(t.norm, epsilon=t.epsilon, dtype=t.dtype)
        if not c.tied:
            self.head = dense(c.vocabulary_size, ("embed", "vocab"), bias=False, dtype=t.dtype)
            if c.added_tokens:
                self.added_head = dense(c.added_tokens, ("embed", None), bias=False, dtype=t.dtype)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """int[B, L] -> float[B, L, E]."""
        c = self.config
        if c.added_tokens:
            added = tokens - c.vocabulary_size
            known = self.tokens(jnp.where(added < 0, tokens, 0))
            x = jnp.where((added < 0)[..., None], known, self.added_tokens(jnp.maximum(added, 0)))
        else:
            x = self.tokens(tokens)
        return constrain(x, "batch", "sequence", "embed")

    def __call__(
        self, x: jax.Array, inputs: Inputs, memory: DecoderMemory | None = None
    ) -> tuple[jax.Array, DecoderMemory | None]:
        """Embedded tokens float[B, L, E] -> final states float[B, L, E], and the memory with them in it."""
        c = self.config
        if c.embedding_width:
            x = self.project_in(x)
        if c.learned_positions:
            x = self.positions(x, inputs.positions)
        inputs = inputs.rotating(c.transformer)
        if c.cross_every:
            x, new = self._groups(x, inputs, memory)
        else:
            x, new = self.stack(x, inputs, memory)
        if memory is not None:
            memory = remember(memory, new, inputs.write_at)
        if c.final_norm:
            x = self.norm(x)
        return self.project_out(x) if c.embedding_width else x, memory

    @nn.compact
    def _groups(self, x: jax.Array, inputs: Inputs, memory: dict | None) -> tuple[jax.Array, dict | None]:
        c, before, after = self.config, memory or {}, {}
        if c.cross_first:
            x, after["lead"] = self.lead(x, inputs, before.get("lead"))
        unroll = c.transformer.unroll if memory is None else 1  # as in `Stack`
        groups = scan_layers(Group, c.groups, unroll=unroll)(c, c.cross_every, name="groups")
        x, after["groups"] = groups(x, before.get("groups"), inputs)
        if c.last:
            x, after["last"] = self.last(x, before.get("last"), inputs)
        return x, None if memory is None else after

    def logits(self, states: jax.Array) -> jax.Array:
        """float[B, L, E] -> float32[B, L, V], the added tokens last."""
        c = self.config
        logits = self.tokens.logits(states) if c.tied else self.head(states)
        if c.added_tokens:
            added = self.added_tokens.logits(states) if c.tied else self.added_head(states)
            logits = jnp.concatenate([logits, added], axis=-1)
        return constrain(logits.astype(jnp.float32), "batch", "sequence", "vocab")


def empty_memory(config: DecoderConfig, batch: int, capacity: int) -> DecoderMemory:
    """An empty static cache for `Decoder`; what cross-attention reads is put in at prefill."""

    def layers(count: int) -> Memory:
        return Memory(self_attention=empty_cache(config.layers(count), batch, capacity))

    if not config.cross_every:
        return layers(config.transformer.depth)
    groups, every = config.groups, config.cross_every
    grouped = KeysValues(
        *(a.reshape(groups, every, *a.shape[1:]) for a in layers(groups * every).self_attention)
    )
    memory: dict = {"groups": (Memory(), Memory(self_attention=grouped))}
    if config.cross_first:
        memory["lead"] = layers(config.cross_first)
    if config.last:
        memory["last"] = (Memory(), layers(config.last))
    return memory
