"""Noise schedules and what samplers make of them, in float64 NumPy. Steps t run from 1 to 1000."""

import math

import numpy as np

from mmjax.diffusion.process import GaussianDiffusion
from mmjax.diffusion.samplers import posterior_deviation
from mmjax.diffusion.schedules import Cosine, Linear, SqrtLinear

STEPS = 1000
SCHEDULES = {
    "linear": Linear(),
    "cosine": Cosine(),
    "stable diffusion": SqrtLinear(),
    "latent diffusion": SqrtLinear(start=0.0015, end=0.0195),
    "latent diffusion, text": SqrtLinear(start=0.0015, end=0.0155),
}


def beta(name: str, t: int) -> float:
    """beta_t, the variance that step t adds."""
    return float(SCHEDULES[name].betas(STEPS)[t - 1])


def capped_betas(name: str) -> int:
    """How many betas are at the schedule's cap."""
    schedule = SCHEDULES[name]
    return int(np.sum(schedule.betas(STEPS) == schedule.cap))


def alpha(name: str, t: int) -> float:
    """The factor of the picture in x_t, sqrt(alpha_bar_t)."""
    return float(_signal_and_noise(name)[0][t])


def alpha_bar(name: str, t: int) -> float:
    """alpha_bar_t."""
    return alpha(name, t) ** 2


def log_snr(name: str, t: int) -> float:
    """ln(alpha_bar_t / (1 - alpha_bar_t))."""
    signal, noise = _signal_and_noise(name)
    return 2 * math.log(signal[t] / noise[t])


def posterior_variance(name: str, t: int) -> float:
    """Variance of q(x_{t-1} | x_t, x_0)."""
    return float(_posterior_variances(name)[t - 1])


def clipped_log_variance(name: str) -> float:
    """The logarithm that stands for the zero posterior variance of step 1 in the released code."""
    return float(GaussianDiffusion(schedule=SCHEDULES[name]).log_variances(np.array([0.0]))[0][0])


def prior_bits(name: str) -> float:
    """KL(q(x_T | x_0) || N(0, 1)) in bits per dimension, for |x_0| = 1."""
    signal, noise = (values[-1] for values in _signal_and_noise(name))
    return (signal**2 + noise**2 - 1 - 2 * math.log(noise)) / 2 / math.log(2)


def ancestral_difference(name: str) -> float:
    """Largest difference between DDIM's sigma^2 at eta = 1 and beta_t (1 - ab_{t-1}) / (1 - ab_t)."""
    betas = SCHEDULES[name].betas(STEPS)
    kept = np.cumprod(1 - betas)
    posterior = betas * (1 - np.append(1.0, kept[:-1])) / (1 - kept)
    return float(np.max(np.abs(_posterior_variances(name) - posterior)))


def one_jump_error(name: str) -> float:
    """Largest error in x_0 after one deterministic DDIM jump from any x_t that is given the true noise."""
    process = GaussianDiffusion(schedule=SCHEDULES[name])
    x0, eps = np.random.default_rng(0).normal(size=(2, STEPS, 16))
    signal, noise = (c[:, None] for c in process.alpha_sigma(np.arange(STEPS) / STEPS))
    x_t = signal * x0 + noise * eps
    # The end of every grid is the clean picture: signal 1, noise 0.
    (end_signal,), (end_noise,) = process.alpha_sigma(np.array([-1 / STEPS]))
    landed = end_signal * (x_t - noise * eps) / signal + end_noise * eps
    return float(np.max(np.abs(landed - x0)))


def visited_steps(spacing: str, count: int) -> tuple[int, ...]:
    """The steps that a sampler visits, ascending, numbered from 0."""
    times = GaussianDiffusion().grid(count, spacing)[:-1]
    return tuple(int(step) for step in np.round(times[::-1] * STEPS))


def _signal_and_noise(name: str) -> tuple[np.ndarray, np.ndarray]:
    """float64[T + 1]: of the clean picture and of x_1..x_T."""
    return GaussianDiffusion(schedule=SCHEDULES[name]).alpha_sigma(np.arange(-1, STEPS) / STEPS)


def _posterior_variances(name: str) -> np.ndarray:
    """float64[T], of steps 1..T."""
    signal, noise = (values[::-1] for values in _signal_and_noise(name))
    return posterior_deviation(signal, noise)[::-1] ** 2
