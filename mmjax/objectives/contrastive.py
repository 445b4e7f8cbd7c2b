"""Contrastive objectives between matching rows of two sets of unit vectors.

Axes: B pairs, E embedding.
"""

import jax
import jax.numpy as jnp


def softmax_contrastive(first: jax.Array, second: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """CLIP's loss: cross-entropy over rows and over columns of the similarity matrix, averaged.

    Source: Radford et al. 2021, figure 3. The factor 1/2 is in the paper and in the released code.

    Args:
      first, second: unit vectors float[B, E]; row i of one belongs to row i of the other.
      scale: the inverse temperature, already exponentiated.

    Returns:
      (sum over pairs, number of pairs).
    """
    logits = scale * jnp.einsum("AE,BE->AB", first, second, preferred_element_type=jnp.float32)
    matching = jnp.diagonal(logits)
    rows = jax.nn.logsumexp(logits, axis=1) - matching
    columns = jax.nn.logsumexp(logits, axis=0) - matching
    return 0.5 * jnp.sum(rows + columns), jnp.float32(first.shape[0])


def sigmoid_contrastive(
    first: jax.Array, second: jax.Array, scale: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """SigLIP's loss: every pair of the batch is a yes-or-no question of its own.

    Source: Zhai et al. 2023, algorithm 1: a sum over each row, a mean over rows.

    Returns:
      (sum over rows, number of rows).
    """
    logits = scale * jnp.einsum("AE,BE->AB", first, second, preferred_element_type=jnp.float32) + bias
    labels = 2 * jnp.eye(first.shape[0]) - 1
    return -jnp.sum(jax.nn.log_sigmoid(labels * logits)), jnp.float32(first.shape[0])
