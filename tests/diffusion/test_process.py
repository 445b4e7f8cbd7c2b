import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.diffusion import process as P
from mmjax.diffusion import schedules
from mmjax.diffusion.samplers import posterior_deviation
from mmjax.errors import UserError
from mmjax.objectives.diffusion import denoising

# Computed in float64 from the official code of each schedule: alpha_bar at the papers' step t = n + 1.
PUBLISHED = [
    (schedules.Linear(), {1000: 4.035829765e-5, 500: 0.07858724288}),
    (schedules.Cosine(), {250: 0.8470121613, 500: 0.4938435904, 750: 0.1442721024, 1000: 2.428766907e-9}),
    (schedules.SqrtLinear(), {500: 0.2776696505, 1000: 0.004660098513}),
    (schedules.SqrtLinear(start=0.0015, end=0.0195), {500: 0.1158444908, 1000: 1.423039752e-4}),
    (schedules.SqrtLinear(start=0.0015, end=0.0155), {1000: 6.686651737e-4}),
]
PROCESSES = [
    P.GaussianDiffusion(prediction=prediction, schedule=schedules.Cosine())
    for prediction in ("eps", "x0", "v", "velocity")
] + [P.FlowMatching(prediction=prediction) for prediction in ("x0", "v", "velocity")]


@pytest.mark.parametrize(("schedule", "expected"), PUBLISHED)
def test_alpha_bar_has_its_published_values(schedule, expected):
    alpha, sigma = P.GaussianDiffusion(schedule=schedule).alpha_sigma(np.arange(1000) / 1000)
    for t, value in expected.items():
        np.testing.assert_allclose(alpha[t - 1] ** 2, value, rtol=1e-9)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-12)


def test_cosine_betas():
    betas = schedules.Cosine().betas(1000)
    np.testing.assert_allclose(betas[0], 4.128422482e-5, rtol=1e-9)
    assert np.sum(betas == 0.999) == 1


def test_the_range_of_the_posterior_variance():
    process = P.GaussianDiffusion()
    small, large = process.log_variances(np.arange(1000) / 1000)
    # Published for t = 2; t = 1, whose variance is zero, takes the same.
    np.testing.assert_allclose(np.exp(small[1]), 5.4531877e-5, rtol=1e-8)
    np.testing.assert_allclose(small[:2], -9.816725, rtol=1e-7)
    np.testing.assert_allclose(np.exp(large), schedules.Linear().betas(1000), rtol=1e-12)
    assert (small < large).all()


def test_the_posterior_is_bayes_rule():
    """q(x_{n-1} | x_n, x0) as the product of the two Gaussians that define it, in float64."""
    process, n = P.GaussianDiffusion(steps=20, schedule=schedules.Cosine()), 7
    beta = schedules.Cosine().betas(20)
    before, x0, x_n = np.prod(1 - beta[:n]), 0.3, -1.1
    # N(x_{n-1}; sqrt(before) x0, 1 - before) N(x_n; sqrt(1 - beta) x_{n-1}, beta), by precisions.
    precision = 1 / (1 - before) + (1 - beta[n]) / beta[n]
    mean = (np.sqrt(before) * x0 / (1 - before) + np.sqrt(1 - beta[n]) * x_n / beta[n]) / precision
    time = jnp.array([n / 20])
    got = process.posterior(jnp.full((1, 2), x0), jnp.full((1, 2), x_n), time)
    np.testing.assert_allclose(got, np.full((1, 2), mean), rtol=1e-6)
    np.testing.assert_allclose(process.log_variances(time)[0], -np.log(precision), rtol=1e-6)
    alpha, sigma = process.alpha_sigma(np.array([n, n - 1]) / 20)
    # The sampler's eta = 1 is the same variance.
    np.testing.assert_allclose(posterior_deviation(alpha, sigma) ** 2 * precision, 1, rtol=1e-12)


def test_device_coefficients_are_the_host_ones_rounded():
    process = P.GaussianDiffusion()
    times = np.arange(-1, 1000) / 1000
    host = process.alpha_sigma(times)
    device = process.alpha_sigma(jnp.asarray(times, jnp.float32))
    chex.assert_trees_all_equal(tuple(c.astype(np.float32) for c in host), jax.tree.map(np.asarray, device))
    assert (host[0][0], host[1][0]) == (1, 0)


def test_the_embedder_sees_integer_steps():
    """Parity with integer timesteps: exact after rounding 1000 * time to 1/1024, off by one ulp before."""
    times = jnp.asarray(np.arange(1000) / 1000, jnp.float32)
    scaled = 1000 * times
    np.testing.assert_array_equal(jnp.round(scaled * 1024) / 1024, np.arange(1000))
    np.testing.assert_allclose(scaled, np.arange(1000), rtol=1.2e-7)


def test_training_times_are_steps_and_all_of_them_occur():
    process = P.GaussianDiffusion(steps=10)
    time = process.discretise(P.UniformTime()(jax.random.key(0), (4000,)))
    values, counts = np.unique(np.round(np.asarray(time) * 10, 4), return_counts=True)
    np.testing.assert_array_equal(values, np.arange(10))
    assert counts.min() > 300
    assert float(process.discretise(jnp.float32(0.99999))) == np.float32(0.9)


def test_logit_normal_times_have_the_stated_median_and_spread():
    time = P.LogitNormalTime(mean=1.0, std=0.5)(jax.random.key(0), (20000,))
    logit = np.log(time / (1 - time))
    np.testing.assert_allclose([logit.mean(), logit.std()], [1.0, 0.5], atol=0.02)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: f"{type(p).__name__}-{p.prediction}")
def test_any_prediction_converts_to_all_the_others(process):
    x0 = jax.random.normal(jax.random.key(1), (16, 4, 4, 3))
    noisy = process.corrupt(jax.random.key(2), x0)
    chex.assert_shape([noisy.x_t, noisy.target, noisy.v], x0.shape)
    chex.assert_shape([noisy.time, noisy.weight], (16,))
    # Where (2) barely depends on the wanted unknown, float32 cannot give it back; keep away from both ends.
    middle = np.asarray((noisy.time > 0.05) & (noisy.time < 0.9))
    assert middle.sum() > 8
    answers = process.convert(noisy.target, noisy.x_t, noisy.time)
    for name, answer in answers.items():
        expected = getattr(noisy, name)
        np.testing.assert_allclose(answer[middle], expected[middle], atol=1e-4, rtol=1e-4, err_msg=name)


def test_corruption_follows_the_definition_row_by_row():
    process = P.GaussianDiffusion(prediction="v")
    noisy = process.corrupt(jax.random.key(2), jnp.ones((5, 2, 2, 1)))
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    for row in range(5):
        signal = alpha_bar[round(float(noisy.time[row]) * 1000)]
        eps = np.asarray(noisy.eps[row], np.float64)
        x_t = np.sqrt(signal) + np.sqrt(1 - signal) * eps
        np.testing.assert_allclose(noisy.x_t[row], x_t, rtol=1e-5, atol=1e-6)
        v = np.sqrt(signal) * eps - np.sqrt(1 - signal)
        np.testing.assert_allclose(noisy.target[row], v, rtol=1e-5, atol=1e-6)


def test_velocity_of_flow_matching_is_the_time_derivative():
    process = P.FlowMatching()
    noisy = process.corrupt(jax.random.key(0), jax.random.normal(jax.random.key(1), (3, 2, 2, 1)))
    moved = (1 - noisy.time - 0.25)[:, None, None, None] * noisy.x0
    moved += (noisy.time + 0.25)[:, None, None, None] * noisy.eps
    np.testing.assert_allclose((moved - noisy.x_t) / 0.25, noisy.velocity, atol=1e-5)


@pytest.mark.parametrize(
    ("prediction", "factor"),
    [("x0", lambda snr: 1), ("eps", lambda snr: 1 / snr), ("v", lambda snr: 1 / (snr + 1))],
)
def test_min_snr_weights_are_the_published_ones(prediction, factor):
    process = P.GaussianDiffusion(prediction=prediction, weight=P.MinSNRWeight(gamma=5.0))
    noisy = process.corrupt(jax.random.key(3), jnp.zeros((32, 1)))
    alpha, sigma = process.alpha_sigma(np.asarray(noisy.time, np.float64))
    snr = (alpha / sigma) ** 2
    assert snr.min() < 5 < snr.max()
    np.testing.assert_allclose(noisy.weight, np.minimum(snr, 5) * factor(snr), rtol=1e-4)


def test_the_grids_are_the_documented_ones():
    process = P.GaussianDiffusion()
    expected = {
        "leading": [750, 500, 250, 0, -1],
        "trailing": [999, 749, 499, 249, -1],
        "linspace": [999, 666, 333, 0, -1],
    }
    for spacing, steps in expected.items():
        np.testing.assert_allclose(process.grid(4, spacing) * 1000, steps)
    quadratic = [800, 632, 483, 355, 246, 158, 88, 39, 9, 0, -1]  # published (DDIM's code)
    np.testing.assert_allclose(process.grid(10, "quadratic") * 1000, quadratic)
    np.testing.assert_allclose(P.FlowMatching().grid(4), [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(P.FlowMatching().grid(4, "linspace"), [1, 0.667, 0.334, 0.001, 0])


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: P.GaussianDiffusion(prediction="noise"),
        lambda: P.FlowMatching(prediction="eps"),
        lambda: P.GaussianDiffusion().grid(1001),
        lambda: P.GaussianDiffusion().grid(10, "even"),
        lambda: P.FlowMatching().grid(10, "leading"),
        lambda: P.FlowMatching().grid(0),
    ],
)
def test_mistakes_are_one_sentence(mistake):
    with pytest.raises(UserError, match=r"choose|knows"):
        mistake()


def test_the_loss_counts_rows_and_ignores_invalid_ones():
    prediction = jnp.array([[1.0, 1.0], [3.0, 1.0], [jnp.nan, jnp.nan]])
    target = jnp.zeros((3, 2))
    valid, weight = jnp.array([True, True, False]), jnp.array([1.0, 2.0, jnp.inf])
    total, count = denoising(prediction, target, weight=weight, valid=valid)
    assert (float(total), float(count)) == (1.0 + 2.0 * 5.0, 2.0)
    gradient = jax.grad(lambda p: denoising(p, target, weight=weight, valid=valid)[0])(prediction)
    np.testing.assert_allclose(gradient, [[1, 1], [6, 2], [0, 0]])
    with pytest.raises(ValueError, match="one shape"):
        denoising(prediction, target[:2])
