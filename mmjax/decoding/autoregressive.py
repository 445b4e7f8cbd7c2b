"""Autoregressive decoding: one `while_loop`, pure processors, rows independent of each other.

A decoder is a function `advance(state, token) -> (state, logits)`; the loop knows nothing else about it.

Axes: B batch, T generated tokens, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Advance = Callable[[Any, jax.Array], tuple[Any, jax.Array]]
Processor = Callable[[jax.Array], jax.Array]  # float[B, V] -> float[B, V]


class _Loop(NamedTuple):
    index: jax.Array  # int[]
    tokens: jax.Array  # int[B, T]
    finished: jax.Array  # bool[B]
    logits: jax.Array  # float[B, V], of the next token
    state: Any


def forbid(tokens: Sequence[int]) -> Processor:
    """Never emits the given ids."""
    banned = jnp.asarray(tokens, jnp.int32)
    return lambda logits: logits.at[:, banned].set(-jnp.inf)


def top_k(count: int) -> Processor:
    """Keeps the `count` most likely ids."""

    def process(logits):
        threshold = jax.lax.top_k(logits, count)[0][:, -1:]
        return jnp.where(logits < threshold, -jnp.inf, logits)

    return process


def top_p(mass: float) -> Processor:
    """Keeps the smallest set of ids whose probability reaches `mass` (Holtzman et al. 2020)."""

    def process(logits):
        descending = -jnp.sort(-logits, axis=-1)
        before = jnp.cumsum(jax.nn.softmax(descending), axis=-1) - jax.nn.softmax(descending)
        threshold = jnp.min(jnp.where(before < mass, descending, jnp.inf), axis=-1, keepdims=True)
        return jnp.where(logits < threshold, -jnp.inf, logits)

    return process


def choose(logits: jax.Array, key: jax.Array, temperature: float) -> jax.Array:
    """The next token of each row: the most likely one at temperature 0, else a sample. -> int[B].

    Each row draws with a key of its own, so that a row's text does not depend on the rows beside it.
    """
    if temperature == 0.0:
        return jnp.argmax(logits, axis=-1)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(logits.shape[0]))
    return jax.vmap(jax.random.categorical)(keys, logits / temperature)


def generate(
    advance: Advance,
    state: Any,
    logits: jax.Array,
    key: jax.Array,
    *,
    length: int,
    stop: int,
    pad: int,
    temperature: float = 0.0,
    processors: Sequence[Processor] = (),
) -> jax.Array:
    """Generates until every row has stopped or has `length` tokens.

    Args:
      state: what `advance` carries: caches, positions. Its shapes must not change.
      logits: float[B, V] of the first token, from the prefill.
      stop: id that ends a row; it is kept, and followed by `pad`.

    Returns:
      int[B, length].
    """

    def unfinished(loop: _Loop):
        return (loop.index < length) & ~jnp.all(loop.finished)

    def body(loop: _Loop):
        logits = loop.logits
        for process in processors:
            logits = process(logits)
        token = choose(logits, jax.random.fold_in(key, loop.index), temperature)
        token = jnp.where(loop.finished, pad, token).astype(jnp.int32)
        tokens = jax.lax.dynamic_update_slice(loop.tokens, token[:, None], (0, loop.index))
        state, next_logits = advance(loop.state, token)
        return _Loop(loop.index + 1, tokens, loop.finished | (token == stop), next_logits, state)

    batch = logits.shape[0]
    start = _Loop(
        index=jnp.int32(0),
        tokens=jnp.full((batch, length), pad, jnp.int32),
        finished=jnp.zeros(batch, bool),
        logits=logits,
        state=state,
    )
    return jax.lax.while_loop(unfinished, body, start).tokens
