"""Every attention mask follows from a few integers that each token carries.

Axes: B batch, L tokens, T queries, S keys, M media.

* `block`: tokens of the same block see each other; a token sees its own block and all earlier ones. The data
  carries `block_start` (1 opens a block, 0 joins the previous token's); `block = cumsum(block_start)`.

      block_start  1 1 1 1   causal                     1 0 0 0   bidirectional
                   1 0 0 1   prefix of 3, then causal   1 1 0 0   text, then an image that sees itself

* `segment`: documents packed in one row; 0 is padding. No token sees another segment.
* `media`: for cross-attention, the number of media markers seen so far (Flamingo's "text time").

All functions return booleans, True where attention is allowed. A row that may see nothing is legal: `attend`
turns it into exact zeros. `SelfMask` is the same rule not yet written out, for kernels that never need it.
"""

import jax
import jax.numpy as jnp
from flax import struct


def blocks(block_start: jax.Array) -> jax.Array:
    """Block number of each token, from 1 upwards. block_start: int[B, L] -> int[B, L]."""
    return jnp.cumsum(block_start, axis=-1)


def attention_mask(
    query_block: jax.Array, query_segment: jax.Array, key_block: jax.Array, key_segment: jax.Array
) -> jax.Array:
    """Who sees whom. Queries int[B, T], keys int[B, S] -> bool[B, T, S].

    Queries and keys are separate so that the same rule serves a cache, whose empty slots carry segment 0.
    """
    earlier = key_block[:, None, :] <= query_block[:, :, None]
    same_document = key_segment[:, None, :] == query_segment[:, :, None]
    return earlier & same_document & (key_segment > 0)[:, None, :]


def self_attention_mask(block_start: jax.Array, segment: jax.Array) -> jax.Array:
    """int[B, L] twice -> bool[B, L, L]."""
    block = blocks(block_start)
    return attention_mask(block, segment, block, segment)


@struct.dataclass
class SelfMask:
    """Who sees whom in one sequence, as the integers it follows from: B * L numbers instead of B * L * L.

    Attributes:
      order: what is known when the program is traced: 'causal', 'full' (bidirectional), or 'blocks', which
        reads `block_start`. A causal kernel does half the work.
      block_start, segment: int[B, L]; without segments everything is one document.
    """

    order: str = struct.field(pytree_node=False, default="blocks")
    block_start: jax.Array | None = None
    segment: jax.Array | None = None

    def dense(self, length: int) -> jax.Array:
        """bool[B or 1, L, L]."""
        segment = jnp.ones((1, length), jnp.int32) if self.segment is None else self.segment
        block = jnp.broadcast_to(self._block(length), segment.shape)
        return attention_mask(block, segment, block, segment)

    def reach(self, length: int) -> jax.Array:
        """The last position each token may see, segments aside. -> int[B or 1, L]."""
        block, at = self._block(length), jnp.arange(length)
        ends = jnp.pad(block[:, 1:] != block[:, :-1], ((0, 0), (0, 1)), constant_values=True)
        return jax.lax.cummin(jnp.where(ends, at, length), axis=1, reverse=True)

    def _block(self, length: int) -> jax.Array:
        match self.order:
            case "blocks":
                return blocks(self.block_start)
            case "causal":
                return jnp.arange(length)[None]
            case "full":
                return jnp.zeros((1, length), jnp.int32)
        raise ValueError(f"unknown order {self.order!r}: expected 'causal', 'full' or 'blocks'")


def media_seen(is_marker: jax.Array) -> jax.Array:
    """Number of media markers up to and including each token. bool[B, L] -> int[B, L]."""
    return jnp.cumsum(is_marker.astype(jnp.int32), axis=-1)


def media_segment(is_marker: jax.Array, segment: jax.Array, media: int) -> jax.Array:
    """The document each medium belongs to, read off its marker. -> int[B, M]; 0 where there is no marker."""
    number = jnp.where(is_marker, media_seen(is_marker), 0)
    one_hot = number[:, :, None] == jnp.arange(1, media + 1)
    return jnp.einsum("BLM,BL->BM", one_hot.astype(segment.dtype), segment)


def latest_media_mask(seen: jax.Array, segment: jax.Array, valid: jax.Array, owner: jax.Array) -> jax.Array:
    """Flamingo's rule: a token sees the latest medium of its own document and no other (paper section 3.1.3).

    Args:
      seen: int[B, L], `media_seen` of each token.
      segment: int[B, L].
      valid: bool[B, M], which media exist.
      owner: int[B, M], `media_segment`.

    Returns:
      bool[B, L, M]. All False for text before the first image, for padding, and for a marker whose image is
      missing: those rows must read nothing (OpenFlamingo lets them leak; systems.md Q1).
    """
    latest = seen[:, :, None] == jnp.arange(1, valid.shape[1] + 1)
    same_document = (owner[:, None, :] == segment[:, :, None]) & (segment > 0)[:, :, None]
    return latest & same_document & valid[:, None, :]
