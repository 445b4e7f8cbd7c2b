"""The denoising objective: weighted squared error of the network's prediction.

    loss = mean over rows of w(t) mean over elements of (y - y_hat)^2

What y and w are is the business of `mmjax.diffusion.process`; this file only counts. Axes: B batch.
"""

import jax
import jax.numpy as jnp


def denoising(
    prediction: jax.Array,
    target: jax.Array,
    *,
    weight: jax.Array | None = None,
    valid: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(sum, count) over rows, float32 scalars.

    prediction, target: float[B, ...] of one shape. weight: float[B], factors of the squared error, not of the
    count. valid: bool[B], rows that count (padding and missing pictures do not, whatever they hold).
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {prediction.shape} and target {target.shape} must have one shape")
    valid = jnp.ones(prediction.shape[:1], bool) if valid is None else valid
    rest = tuple(range(1, prediction.ndim))
    error = prediction.astype(jnp.float32) - target.astype(jnp.float32)
    # Masked before squaring: an invalid row may hold NaN, and 0 * NaN would survive in the gradient.
    error = jnp.where(jnp.expand_dims(valid, rest), error, 0)
    row = jnp.square(error).mean(axis=rest)
    if weight is not None:
        row = row * jnp.where(valid, weight, 0)
    return row.sum(), valid.sum().astype(jnp.float32)
