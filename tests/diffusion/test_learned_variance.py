"""The learned variance: where it lies, what the sampler makes of it, and the bound that trains it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from mmjax.diffusion.process import GaussianDiffusion
from mmjax.diffusion.samplers import DDIM, DDPM
from mmjax.errors import UserError
from mmjax.objectives.diffusion import Gaussian, divergence, negative_log_likelihood, variational_bound

PROCESS = GaussianDiffusion(learned_variance=True)


def network(v):
    """Predicts some noise, and everywhere the same place in the range."""

    def denoise(x, time):
        prediction = jnp.tanh(x) * time[:, None]
        return jnp.concatenate([prediction, jnp.full_like(x, v)], axis=-1)

    return denoise


@functools.partial(jax.jit, static_argnums=0)
def sample(sampler, v):
    return sampler.sample(network(v), PROCESS, jax.random.key(0), (3, 4), 7)


def test_the_ends_of_the_range_are_the_fixed_variances():
    learned = DDPM(variance="learned")
    for v, fixed in ((-1.0, "small"), (1.0, "large")):
        np.testing.assert_allclose(sample(learned, v), sample(DDPM(variance=fixed), v), rtol=1e-5)
    middle, low, high = (sample(learned, v) for v in (0.0, -1.0, 1.0))
    assert np.abs(middle - low).max() > 1e-4 and np.abs(middle - high).max() > 1e-4
    # A wild answer is no bound, but the last step adds no noise whatever it is.
    assert np.isfinite(sample(learned, 40.0)).all()


def test_samplers_of_fixed_variance_ignore_it():
    np.testing.assert_array_equal(sample(DDIM(), -1.0), sample(DDIM(), 5.0))


def test_a_variance_nobody_learned_cannot_be_sampled():
    fixed = dataclasses.replace(PROCESS, learned_variance=False)
    with pytest.raises(UserError, match="learned_variance"):
        DDPM(variance="learned").sample(lambda x, time: x, fixed, jax.random.key(0), (2, 3), 3)


def test_the_answer_splits_into_prediction_and_fraction():
    prediction, fraction = PROCESS.split(jnp.array([[1.0, 2.0, -1.0, 0.5]]))
    np.testing.assert_array_equal(prediction, [[1.0, 2.0]])
    np.testing.assert_array_equal(fraction, [[0.0, 0.75]])
    assert (PROCESS.outputs(4), GaussianDiffusion().outputs(4)) == (8, 4)


def test_divergence_is_the_integral():
    first, second = (Gaussian(*map(jnp.float32, pair)) for pair in ((0.3, -1.0), (-0.2, 0.4)))
    x = np.linspace(-12, 12, 200_001)
    p, q = (norm(float(g.mean), np.exp(0.5 * float(g.log_variance))) for g in (first, second))
    integral = np.sum(p.pdf(x) * (p.logpdf(x) - q.logpdf(x))) * (x[1] - x[0])
    np.testing.assert_allclose(divergence(first, second), integral, rtol=1e-5)


def test_the_bins_of_a_pixel_hold_all_probability():
    levels = jnp.arange(256) / 127.5 - 1
    model = Gaussian(jnp.float32(0.2), jnp.float32(-2.0))
    likelihood = np.exp(-negative_log_likelihood(levels, model))
    np.testing.assert_allclose(likelihood.sum(), 1, rtol=1e-4)
    edges = (np.arange(257) - 0.5) / 127.5 - 1
    inside = np.diff(norm(0.2, np.exp(-1.0)).cdf(edges))[1:-1]
    np.testing.assert_allclose(likelihood[1:-1], inside, rtol=2e-3)


def test_the_bound_counts_valid_rows_in_bits():
    mean, log_variance = jnp.array([[0.5, 0.5], [0.0, 1.0], [jnp.nan, 0.0]]), jnp.zeros((3, 1))
    posterior, model = Gaussian(mean, log_variance), Gaussian(jnp.zeros((3, 2)), log_variance)
    x0, first = jnp.zeros((3, 2)), jnp.array([False, True, False])
    valid = jnp.array([True, True, False])

    def bound(mean):
        return variational_bound(posterior._replace(mean=mean), model, x0, first=first, valid=valid)

    total, count = bound(mean)
    likelihood = -np.log(norm.cdf(1 / 255) - norm.cdf(-1 / 255))
    np.testing.assert_allclose(total, (0.5 * 0.25 + likelihood) / np.log(2), rtol=1e-4)
    assert count == 2
    gradient = jax.grad(lambda mean: bound(mean)[0])(mean)
    np.testing.assert_allclose(gradient, np.array([[0.25, 0.25], [0, 0], [0, 0]]) / np.log(2), rtol=1e-5)
