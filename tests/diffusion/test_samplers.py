import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.diffusion.guidance import classifier_free
from mmjax.diffusion.process import FlowMatching, GaussianDiffusion
from mmjax.diffusion.samplers import DDIM, DDPM, Euler, Heun
from mmjax.diffusion.schedules import Cosine

MEAN, DEVIATION = 0.5, 0.4


def gaussian_denoiser(process):
    """The exact network for data ~ N(MEAN, DEVIATION^2): E[x0 | x_t] in closed form, as a prediction."""

    def denoise(x, time):
        alpha, sigma = (c[:, None] for c in process.alpha_sigma(time))
        x0 = MEAN + alpha * DEVIATION**2 * (x - alpha * MEAN) / (alpha**2 * DEVIATION**2 + sigma**2)
        # At sigma = 0 eps is never read; elsewhere it follows from x_t.
        eps = (x - alpha * x0) / jnp.maximum(sigma, 1e-6)
        return {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0, "velocity": eps - x0}[process.prediction]

    return denoise


CASES = [
    (DDPM(), GaussianDiffusion(prediction="eps", schedule=Cosine()), 200),
    (DDPM(variance="large"), GaussianDiffusion(prediction="v", schedule=Cosine()), 400),
    (DDIM(), GaussianDiffusion(prediction="v"), 200),
    (DDIM(eta=0.5, spacing="leading"), GaussianDiffusion(prediction="x0", schedule=Cosine()), 200),
    (DDIM(eta=1.0), FlowMatching(), 200),
    (Euler(), FlowMatching(), 100),
    (Heun(), FlowMatching(prediction="v"), 20),
    (Heun(), GaussianDiffusion(prediction="eps"), 40),
]


@pytest.mark.parametrize(("sampler", "process", "steps"), CASES)
def test_the_exact_denoiser_gives_the_data_distribution(sampler, process, steps):
    sample = jax.jit(
        lambda key: sampler.sample(gaussian_denoiser(process), process, key, (40_000, 1), steps)
    )(jax.random.key(0))
    assert sample.dtype == jnp.float32
    # Standard errors are 0.002 and 0.0014; the rest is for the finite number of steps.
    np.testing.assert_allclose([sample.mean(), sample.std()], [MEAN, DEVIATION], atol=0.015)


def discretisation_error(sampler, process, steps):
    """How far the map start -> sample is from the exact one, which is affine for Gaussian data."""
    key = jax.random.key(0)
    start = jax.random.normal(jax.random.split(key)[0], (64, 1), jnp.float32)
    sample = sampler.sample(gaussian_denoiser(process), process, key, (64, 1), steps)
    return np.abs(sample - (MEAN + DEVIATION * start)).max()


def test_heun_is_second_order_and_euler_first():
    process = FlowMatching()
    for sampler, ratio in ((Euler(), 2), (Heun(), 4)):
        coarse, fine = (discretisation_error(sampler, process, steps) for steps in (20, 40))
        np.testing.assert_allclose(coarse / fine, ratio, rtol=0.2)


def test_ddim_is_deterministic_and_ddpm_is_not():
    process = GaussianDiffusion(prediction="v")
    denoise, shape = gaussian_denoiser(process), (4, 2)
    start = jax.random.normal(jax.random.split(jax.random.key(5))[0], shape, jnp.float32)
    once, again = (DDIM().sample(denoise, process, jax.random.key(5), shape, 10) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    # Monotone in the start alone: no other noise enters.
    assert (np.argsort(np.asarray(once), axis=None) == np.argsort(np.asarray(start), axis=None)).all()
    noisy = DDPM().sample(denoise, process, jax.random.key(5), shape, 10)
    assert np.abs(noisy - once).max() > 0.05


def test_ddim_without_noise_is_euler_for_flow_matching():
    process = FlowMatching()
    samples = [
        sampler.sample(gaussian_denoiser(process), process, jax.random.key(1), (8, 1), 7)
        for sampler in (DDIM(), Euler())
    ]
    np.testing.assert_allclose(*samples, atol=1e-6)


STEPS = [
    (DDIM(eta=0.3), "leading"),
    (DDIM(), "trailing"),
    (DDPM(), "leading"),
    (DDPM(variance="large"), "leading"),
]


@pytest.mark.parametrize(("sampler", "spacing"), STEPS)
def test_steps_follow_the_papers_formulas_in_float64(sampler, spacing):
    """An independent float64 loop, written from the papers' formulas in alpha_bar and beta."""
    process, steps, shape = GaussianDiffusion(), 20, (3, 5)
    sampler = type(sampler)(**{**vars(sampler), "spacing": spacing})
    network = np.random.default_rng(0).normal(size=(5, 5)) * 0.2

    key = jax.random.key(11)
    got = sampler.sample(lambda x, t: jnp.tanh(x @ network) + t[:, None], process, key, shape, steps)

    start_key, step_key = jax.random.split(key)
    x = np.asarray(jax.random.normal(start_key, shape, jnp.float32), np.float64)
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    first = 950 if spacing == "leading" else 999
    for number, n in enumerate(range(first, -1, -50)):
        here, there = alpha_bar[n], alpha_bar[n - 50] if n >= 50 else 1.0
        z = np.asarray(
            jax.random.normal(jax.random.fold_in(step_key, number), shape, jnp.float32), np.float64
        )
        eps = np.tanh(x @ network) + n / 1000
        x0 = (x - np.sqrt(1 - here) * eps) / np.sqrt(here)
        if isinstance(sampler, DDPM):
            alpha, beta = here / there, 1 - here / there
            mean = np.sqrt(there) * beta / (1 - here) * x0 + np.sqrt(alpha) * (1 - there) / (1 - here) * x
            variance = beta if sampler.variance == "large" else (1 - there) / (1 - here) * beta
            x = mean + (np.sqrt(variance) * z if there < 1 else 0)
        else:
            noise = sampler.eta * np.sqrt((1 - there) / (1 - here)) * np.sqrt(1 - here / there)
            x = np.sqrt(there) * x0 + np.sqrt(1 - there - noise**2) * eps + noise * z
    np.testing.assert_allclose(got, x, rtol=2e-5, atol=2e-5 * np.abs(x).max())


def test_clipping_bounds_the_samples():
    process = GaussianDiffusion(schedule=Cosine())
    wild = lambda x, time: 3 * x  # noqa: E731
    free, clipped = (
        DDIM(clip=clip).sample(wild, process, jax.random.key(0), (4, 3), 10) for clip in (None, 1.0)
    )
    assert np.abs(free).max() > 2
    assert np.abs(clipped).max() <= 1


def test_guidance_is_one_call_on_twice_the_rows():
    rows = []

    def denoise(x, time, condition):
        rows.append((x.shape[0], time.shape[0]))
        return x * time[:, None] + condition["c"]

    condition, null = {"c": jnp.array([[1.0], [2.0]])}, {"c": jnp.array([[0.5]])}
    x, time = jnp.array([[1.0], [-1.0]]), jnp.array([0.25, 0.5])
    plain = classifier_free(denoise, condition, null, scale=1.0)(x, time)
    np.testing.assert_allclose(plain, [[1.25], [1.5]])
    guided = classifier_free(denoise, condition, null, scale=3.0)(x, time)
    np.testing.assert_allclose(guided, [[0.75 + 3 * 0.5], [0.0 + 3 * 1.5]])
    unconditional = classifier_free(denoise, condition, null, scale=0.0)(x, time)
    np.testing.assert_allclose(unconditional, [[0.75], [0.0]])
    assert rows == [(2, 2), (4, 4), (4, 4)]
