"""Contrastive objectives between matching rows of two sets of unit vectors.

Both compare every row of the first set with every row of the second. With `chunk`, that many rows of the
second at a time: the B x B similarities are then never in memory together, nor kept for the backward pass.
Under `jit` on a mesh the sets are the global batch, however many devices share it.

Axes: A/B pairs, E embedding. Logits are float32, or float64 for float64 vectors.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmjax.errors import UserError


def softmax_contrastive(
    first: jax.Array, second: jax.Array, scale: jax.Array, *, chunk: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """CLIP's loss: cross-entropy over rows and over columns of the similarity matrix, averaged.

    Source: Radford et al. 2021, figure 3. The factor 1/2 is in the paper and in the released code.

    Args:
      first, second: unit vectors float[B, E]; row i of one belongs to row i of the other.
      scale: the inverse temperature, already exponentiated.
      chunk: rows of `second` at a time, a divisor of B; None for all.

    Returns:
      (sum over pairs, number of pairs).

    Raises:
      UserError: `chunk` does not divide B.
    """

    def one(rows, some, start):
        logits = scale * _similarity(first, some)
        matching = jnp.sum(jnp.where(_matching(logits, start), logits, 0), axis=0)
        rows = jnp.logaddexp(rows, jax.nn.logsumexp(logits, axis=1))
        return rows, (jax.nn.logsumexp(logits, axis=0), matching)

    nothing = jnp.full(first.shape[0], -jnp.inf, _accuracy(first))
    rows, (columns, matching) = _over_chunks(one, nothing, second, chunk)
    return jnp.sum(0.5 * (rows + columns) - matching), jnp.float32(first.shape[0])


def sigmoid_contrastive(
    first: jax.Array, second: jax.Array, scale: jax.Array, bias: jax.Array, *, chunk: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """SigLIP's loss: every pair of the batch is a yes-or-no question of its own.

    Source: Zhai et al. 2023, algorithm 1: a sum over each row, a mean over rows. Arguments as above.

    Returns:
      (sum over rows, number of rows).
    """

    def one(carry, some, start):
        logits = scale * _similarity(first, some) + bias
        answers = jnp.where(_matching(logits, start), logits, -logits)
        return carry, -jnp.sum(jax.nn.log_sigmoid(answers), axis=0)

    _, losses = _over_chunks(one, None, second, chunk)
    return jnp.sum(losses), jnp.float32(first.shape[0])


def _accuracy(x: jax.Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


def _similarity(first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.einsum("AE,BE->AB", first, second, preferred_element_type=_accuracy(first))


def _matching(logits: jax.Array, start: int | jax.Array) -> jax.Array:
    """bool[A, B]: whose partner stands in which column, the first column being number `start`."""
    return jnp.arange(logits.shape[0])[:, None] == start + jnp.arange(logits.shape[1])


def _over_chunks(one: Callable, carry, second: jax.Array, chunk: int | None):
    """Folds `one(carry, rows of second, number of the first of them) -> (carry, float[rows])`.

    Returns:
      The last carry, and the rows' values float[B].
    """
    total = second.shape[0]
    if chunk is None:
        return one(carry, second, 0)
    if total % chunk:
        raise UserError(
            f"a contrastive loss of {total} pairs does not split into chunks of {chunk}; change chunk"
        )
    parts = second.reshape(total // chunk, chunk, -1), jnp.arange(0, total, chunk)
    one = jax.checkpoint(one, prevent_cse=False)
    carry, values = jax.lax.scan(lambda carry, part: one(carry, *part), carry, parts)
    return carry, jax.tree.map(lambda x: x.reshape(total), values)
