import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.diffusion.process import FlowMatching, GaussianDiffusion
from mmjax.diffusion.samplers import DDIM, DDPM, DPMSolver, Euler, Heun
from mmjax.diffusion.schedules import Cosine
from mmjax.errors import UserError

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
    (DPMSolver(), GaussianDiffusion(prediction="eps", schedule=Cosine()), 40),
    (DPMSolver(), FlowMatching(prediction="x0"), 20),
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


ORDERS = [
    (Euler(), FlowMatching(), 20, 1),
    (Heun(), FlowMatching(), 20, 2),
    (Euler(spacing="linspace"), GaussianDiffusion(schedule=Cosine()), 40, 1),
    (DPMSolver(spacing="linspace"), GaussianDiffusion(schedule=Cosine()), 40, 2),
]


@pytest.mark.parametrize(("sampler", "process", "steps", "order"), ORDERS)
def test_twice_the_steps_divide_the_error_by_two_to_the_order(sampler, process, steps, order):
    coarse, fine = (discretisation_error(sampler, process, n) for n in (steps, 2 * steps))
    np.testing.assert_allclose(coarse / fine, 2**order, rtol=0.2)


def test_a_grid_that_repeats_times_does_not_disturb_the_multistep_solver():
    process = GaussianDiffusion()
    times = process.grid(100, "quadratic")
    assert (np.diff(times) == 0).any()
    lean = DPMSolver().coefficients(*process.alpha_sigma(times))["lean"]
    assert np.isfinite(lean).all() and (lean != 0).sum() > 50


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


@pytest.mark.parametrize("sampler", [DDIM(), Euler(), Heun(), DPMSolver()], ids=lambda s: type(s).__name__)
def test_the_true_noise_leads_to_the_picture_in_one_jump_or_many(sampler):
    process, picture = GaussianDiffusion(), np.linspace(-1, 1, 6, dtype=np.float32)

    def denoise(x, time):
        alpha, sigma = (c[:, None] for c in process.alpha_sigma(time))
        return (x - alpha * picture) / sigma

    for steps in (1, 4):
        sample = sampler.sample(denoise, process, jax.random.key(0), (2, 6), steps)
        # float32 noise divided by an alpha of 0.006.
        np.testing.assert_allclose(sample, np.stack([picture] * 2), atol=2e-4)


@pytest.mark.parametrize("process", [GaussianDiffusion(), GaussianDiffusion(prediction="v"), FlowMatching()])
def test_inversion_finds_the_noise_a_picture_was_drawn_from(process):
    denoise, key, shape = gaussian_denoiser(process), jax.random.key(2), (8, 1)
    path = DDIM().trajectory(denoise, process, key, shape, 25)

    def error(iterations):
        return np.abs(DDIM().invert(denoise, process, path[-1], 25, iterations=iterations) - path[0]).max()

    errors = [error(n) for n in (1, 3, 30)]
    # The usual inversion is near; iterating makes the round trip exact.
    assert errors[0] < 0.6 and errors[1] < errors[0] / 2 and errors[2] < 1e-4, errors


def test_what_is_said_of_the_picture_alone_cannot_be_inverted():
    process = GaussianDiffusion(prediction="x0")
    with pytest.raises(UserError, match="choose eps"):
        DDIM().invert(gaussian_denoiser(process), process, jnp.zeros((1, 1)), 5)


def test_a_trajectory_goes_from_the_noise_to_the_sample():
    process, arguments = FlowMatching(), (jax.random.key(3), (4, 1), 5)
    path = Euler().trajectory(gaussian_denoiser(process), process, *arguments)
    start = jax.random.normal(jax.random.split(arguments[0])[0], (4, 1), jnp.float32)
    np.testing.assert_array_equal(path[0], start)
    np.testing.assert_array_equal(path[-1], Euler().sample(gaussian_denoiser(process), process, *arguments))
    assert path.shape == (6, 4, 1)


def test_clipping_bounds_the_samples():
    process = GaussianDiffusion(schedule=Cosine())
    wild = lambda x, time: 3 * x  # noqa: E731
    free, clipped = (
        DDIM(clip=clip).sample(wild, process, jax.random.key(0), (4, 3), 10) for clip in (None, 1.0)
    )
    assert np.abs(free).max() > 2
    assert np.abs(clipped).max() <= 1
