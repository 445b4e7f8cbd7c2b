"""Continuing prompts with a decoder language model: one prefill, then token by token from a static cache.

Axes: B batch, P prompt tokens, S cache capacity, N media features, D width, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.decoding.autoregressive import generate
from mmjax.layers.masks import attention_mask
from mmjax.layers.transformer import Inputs

Read = Callable[[jax.Array, Inputs, Any], tuple[jax.Array, Any]]


def continue_prompts(
    read: Read,
    logits: Callable[[jax.Array], jax.Array],
    tokens: jax.Array,
    segment: jax.Array,
    key: jax.Array,
    *,
    memory: Any,
    capacity: int,
    context: jax.Array | None = None,
    context_mask: jax.Array | None = None,
    **settings,
) -> jax.Array:
    """Continues every row from its last real token.

    Args:
      read: (tokens int[B, T], inputs, memory) -> (states float[B, T, D], memory).
      logits: states float[B, T, D] -> float[B, T, V].
      tokens, segment: int[B, P], prompts padded on either side with segment 0.
      memory: an empty cache of `capacity` >= P + length slots.
      context: float[B, N, D'], read at prefill; its keys and values are remembered.
      context_mask: bool[B, P, N]; new tokens see what the last token of the prompt sees.
      settings: of `generate`: length, stop, pad, temperature, processors.

    Returns:
      int[B, length].
    """
    tokens, segment = jnp.asarray(tokens), jnp.asarray(segment)
    batch, prompt = tokens.shape
    real = segment > 0
    positions = jnp.maximum(jnp.cumsum(real, axis=1) - 1, 0)
    # The cache is wider than the prompt: its empty slots carry segment 0, which nothing may see.
    filled = jnp.pad(segment, ((0, 0), (0, capacity - prompt)))
    placed = jnp.pad(positions, ((0, 0), (0, capacity - prompt)))
    order = jnp.broadcast_to(jnp.arange(1, capacity + 1), filled.shape)
    inputs = Inputs(
        mask=attention_mask(order[:, :prompt], segment, order, filled),
        positions=positions,
        context=context,
        context_mask=context_mask,
        write_at=jnp.int32(0),
        key_positions=placed,
    )
    states, memory = read(tokens, inputs, memory)

    row, last = jnp.arange(batch), prompt - 1 - jnp.argmax(real[:, ::-1], axis=1)
    document = segment[row, last][:, None]
    sees = None if context_mask is None else context_mask[row, last][:, None]

    def advance(state, token):
        at, position, filled, placed, memory = state
        filled = jax.lax.dynamic_update_slice(filled, document, (0, at))
        placed = jax.lax.dynamic_update_slice(placed, position, (0, at))
        inputs = Inputs(
            mask=attention_mask(order[:, :1] + at, document, order, filled),
            positions=position,
            context_mask=sees,
            write_at=at,
            key_positions=placed,
        )
        states, memory = read(token[:, None], inputs, memory)
        return (at + 1, position + 1, filled, placed, memory), logits(states)[:, 0]

    state = (jnp.int32(prompt), positions[row, last][:, None] + 1, filled, placed, memory)
    return generate(advance, state, logits(states[row, last][:, None])[:, 0], key, **settings)
