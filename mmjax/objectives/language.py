"""Next-token prediction.

Axes: B batch, L tokens, V vocabulary.
"""

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
    counted = targets >= 0
    logits = logits.astype(jnp.float32)
    label = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    negative = jax.nn.logsumexp(logits, axis=-1) - label
    return jnp.sum(negative * counted), jnp.sum(counted).astype(jnp.float32)


def next_token(logits: jax.Array, targets: jax.Array) -> tuple[dict, dict]:
    """What `System.loss` returns for language: the term `next_token`, and `token_accuracy` to log.

    logits: float[B, L, V]; targets: int[B, L] as in `cross_entropy`.
    """
    total, count = cross_entropy(logits, targets)
    right = (jnp.argmax(logits, axis=-1) == targets).sum()
    return {"next_token": (1.0, total, count)}, {"token_accuracy": right / jnp.maximum(count, 1)}
