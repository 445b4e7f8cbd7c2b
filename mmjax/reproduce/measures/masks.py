"""Attention masks of whole sequences as truth tables: one text per query, '1' where it may look.

A sequence is a text of one letter per token: 't' text, 'I' a picture's marker, 'i' a token of that picture.
"""

import jax.numpy as jnp
import numpy as np

from mmjax.layers import masks


def latest_media(sequence: str) -> tuple[str, ...]:
    """Which pictures (columns) each token (row) reads in Flamingo's cross-attention."""
    is_marker = jnp.array([[letter == "I" for letter in sequence]])
    segment = jnp.ones(is_marker.shape, jnp.int32)
    media = sequence.count("I")
    owner = masks.media_segment(is_marker, segment, media)
    valid = jnp.ones((1, media), bool)
    return _rows(masks.latest_media_mask(masks.media_seen(is_marker), segment, valid, owner))


def block_causal(sequence: str) -> tuple[str, ...]:
    """Self-attention: causal between blocks; each text token is a block, and so is each picture 'Iii...'."""
    block_start = jnp.array([[letter != "i" for letter in sequence]], jnp.int32)
    return _rows(masks.self_attention_mask(block_start, jnp.ones_like(block_start)))


def prefix(length: int, prefix: int) -> tuple[str, ...]:
    """A prefix language model: the first `prefix` tokens see each other, the others are causal."""
    position = jnp.arange(length)
    block_start = ((position == 0) | (position >= prefix)).astype(jnp.int32)[None]
    return _rows(masks.self_attention_mask(block_start, jnp.ones_like(block_start)))


def _rows(mask) -> tuple[str, ...]:
    return tuple("".join("01"[int(allowed)] for allowed in row) for row in np.asarray(mask[0]))
