"""Objectives of autoencoders, summed over a picture as latent diffusion (Rombach et al. 2022) sums them.

The balance of the two depends on that: as means over their elements they would differ by the ratio of the
sizes of picture and latent. Axes: B batch.
"""

import jax
import jax.numpy as jnp


def absolute_error(
    reconstruction: jax.Array, picture: jax.Array, *, valid: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(sum, count) over rows of |reconstruction - picture|, float[B, ...] both; valid: bool[B]."""
    error = reconstruction.astype(jnp.float32) - picture.astype(jnp.float32)
    return _over_rows(jnp.abs(_masked(error, valid)), valid)


def divergence_from_normal(
    mean: jax.Array, log_variance: jax.Array, *, valid: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(sum, count) over rows of KL(N(mean, variance) || N(0, 1)) in nats; float[B, ...], valid: bool[B]."""
    mean, log_variance = _masked(mean, valid), _masked(log_variance, valid)
    return _over_rows(0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance), valid)


def _masked(values: jax.Array, valid: jax.Array) -> jax.Array:
    # Before anything that is not linear: what an invalid row holds must not reach the gradient.
    return jnp.where(jnp.expand_dims(valid, tuple(range(1, values.ndim))), values, 0)


def _over_rows(values: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    return values.sum(), valid.sum().astype(jnp.float32)
