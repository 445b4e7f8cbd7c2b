"""The denoising objectives: weighted squared error of the prediction, and the variational bound.

    simple  mean over rows of w(t) mean over elements of (y - y_hat)^2
    bound   mean over rows of KL(q(x_{n-1} | x_n, x0) || p(x_{n-1} | x_n)), at n = 0 of -log p(x0 | x_0)

The simple one says nothing of the variance of p; a network that also chooses that is trained on both, the
bound with a small weight and blind to the mean (Nichol & Dhariwal 2021, section 3.1).

What y, w, q and p are is the business of `mmjax.diffusion.process`; this file only counts. Axes: B batch.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

HALF_BIN = 1 / 255  # of pixels in [-1, 1] with 256 levels
EDGE = 0.999


class Gaussian(NamedTuple):
    """Independent normal distributions: mean float[B, ...], log_variance broadcasting against it."""

    mean: jax.Array
    log_variance: jax.Array


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


def variational_bound(
    posterior: Gaussian,
    model: Gaussian,
    x0: jax.Array,
    *,
    first: jax.Array,
    valid: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(sum, count) over rows of one step's share of the bound, in bits per element.

    posterior, model: of x_{n-1}. x0: float[B, ...] in [-1, 1]. first: bool[B], rows at n = 0, whose model is
    one of x0 itself. valid: bool[B].
    """
    valid = jnp.ones(x0.shape[:1], bool) if valid is None else valid
    rest = tuple(range(1, x0.ndim))
    # As in `denoising`: what an invalid row holds must not reach the gradient.
    mask = jnp.expand_dims(valid, rest)
    posterior, model, x0 = jax.tree.map(lambda v: jnp.where(mask, v, 0), (posterior, model, x0))
    likelihood, step = negative_log_likelihood(x0, model), divergence(posterior, model)
    row = jnp.where(first, likelihood.mean(axis=rest), step.mean(axis=rest))
    return jnp.where(valid, row, 0).sum() / math.log(2), valid.sum().astype(jnp.float32)


def divergence(first: Gaussian, second: Gaussian) -> jax.Array:
    """KL(first || second) of each element, in nats: float[B, ...]."""
    difference = first.log_variance - second.log_variance
    distance = jnp.square(first.mean - second.mean) * jnp.exp(-second.log_variance)
    return 0.5 * (jnp.exp(difference) - 1 - difference + distance)


def negative_log_likelihood(x: jax.Array, model: Gaussian) -> jax.Array:
    """-log of the probability of each element's bin of width 2/255, in nats; the outermost bins are open.

    (Ho et al. 2020, equation 13.) Latents are no levels of pixels; DiT counts them the same way.
    """
    deviation = jnp.exp(0.5 * model.log_variance)
    high, low = ((x + side - model.mean) / deviation for side in (HALF_BIN, -HALF_BIN))
    cdf, normal = jax.scipy.stats.norm.cdf, jax.scipy.stats.norm
    inside = jnp.log(jnp.maximum(cdf(high) - cdf(low), 1e-12))
    return -jnp.where(x < -EDGE, normal.logcdf(high), jnp.where(x > EDGE, normal.logsf(low), inside))
