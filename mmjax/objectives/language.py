"""Next-token prediction, with or without all logits in memory at once.

The float32 logits of a batch are often the largest array of a step (8 rows of 8,192 tokens and 32k words:
8.4 GB, and as much again for their gradient). In chunks, those of a few positions exist at a time; the
backward pass makes them again, one more product with the output embedding.

Axes: B batch, L tokens, D width, V vocabulary.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Negative log-likelihood of aligned targets.

    Args:
      logits: float[B, L, V].
      targets: int[B, L], the id each position should predict; -1 where there is no loss.

    Returns:
      (sum over the targets, number of targets).
    """
    return _sums(logits, targets)[0], _count(targets)


def next_token(
    logits: Callable[[jax.Array], jax.Array],
    states: jax.Array,
    targets: jax.Array,
    *,
    chunk: int | None = None,
    z_loss: float = 0.0,
) -> tuple[dict, dict]:
    """What `System.loss` returns for language: the term `next_token`, and `token_accuracy` to log.

    Args:
      logits: final states float[B, l, D] -> float[B, l, V], for any number of positions l.
      states: float[B, L, D].
      targets: int[B, L] as in `cross_entropy`.
      chunk: positions of a row whose logits are in memory at a time; None for all.
      z_loss: weight of the further term `z_loss`, the mean square of log Z, which keeps logits from drifting
        (PaLM, Chowdhery et al. 2022, section 5: 1e-4).
    """

    def sums(states, targets):
        return _sums(logits(states), targets)

    sums = sums if chunk is None else _in_chunks(sums, min(chunk, targets.shape[1]))
    negative, squares, right = sums(states, targets)
    count = _count(targets)
    terms = {"next_token": (1.0, negative, count)}
    if z_loss:
        terms["z_loss"] = (z_loss, squares, count)
    return terms, {"token_accuracy": right / jnp.maximum(count, 1)}


def _count(targets: jax.Array) -> jax.Array:
    return jnp.sum(targets >= 0).astype(jnp.float32)


def _sums(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Over the targets: negative log-likelihoods, squares of log Z, and how many are the likeliest token."""
    counted, logits = targets >= 0, logits.astype(jnp.float32)
    label = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    log_z = jax.nn.logsumexp(logits, axis=-1)
    # argmax(logits) == targets as plain comparisons: XLA reduces pairs of value and index on CPU one by one.
    earlier = jnp.arange(logits.shape[-1]) < targets[..., None]
    likelier = (logits > label[..., None]) | ((logits == label[..., None]) & earlier)
    right = jnp.sum(counted & ~jnp.any(likelier, axis=-1)).astype(jnp.float32)
    return jnp.sum((log_z - label) * counted), jnp.sum(jnp.square(log_z) * counted), right


def _in_chunks(sums: Callable, chunk: int) -> Callable:
    """`sums(states, targets)` by parts of `chunk` positions per row, nothing kept for the backward pass."""

    def chunked(states: jax.Array, targets: jax.Array):
        length = targets.shape[1]
        parts = -(-length // chunk)

        def split(x: jax.Array, fill: int) -> jax.Array:
            # Part p has the positions p, p + parts, ...: of a sequence split over devices, some of each.
            padding = ((0, 0), (0, parts * chunk - length)) + ((0, 0),) * (x.ndim - 2)
            x = jnp.pad(x, padding, constant_values=fill)
            return jnp.moveaxis(x.reshape(len(x), chunk, parts, *x.shape[2:]), 2, 0)

        def add(total, part):
            return jax.tree.map(jnp.add, total, jax.checkpoint(sums, prevent_cse=False)(*part)), None

        nothing = (jnp.zeros((), jnp.float32),) * 3
        return jax.lax.scan(add, nothing, (split(states, 0), split(targets, -1)))[0]

    return chunked
