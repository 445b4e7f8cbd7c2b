"""The corruption process: from a clean picture to noise, and what a network may be asked about it.

A process is a pair of functions of time, alpha (signal) and sigma (noise), with eps ~ N(0, I):

    (1)  x_t = alpha_t x0 + sigma_t eps

A network sees x_t and the time and predicts one linear combination of the two unknowns,

    (2)  y = a x0 + b eps          prediction   a         b
                                   eps          0         1
                                   x0           1         0
                                   v            -sigma    alpha        (Salimans & Ho 2022)
                                   velocity     -1        1            (d x_t / dt of flow matching)

(1) and (2) are two equations in two unknowns. With the determinant d = alpha b - sigma a,

    (3)  x0  = (b x_t - sigma y) / d
    (4)  eps = (alpha y - a x_t) / d

so every conversion between predictions is (3), (4), then (2). An error in y becomes an error in x0 multiplied
by sigma / d, so a loss weight w0(SNR) that is meant for x0 errors, with SNR = alpha^2 / sigma^2, is

    (5)  w = w0 (sigma / d)^2      on errors of y

which gives the published min-SNR weights (Hang et al. 2023) for all four predictions at once. Two processes:

    (6)  GaussianDiffusion   alpha_t = sqrt(alpha_bar_t), sigma_t = sqrt(1 - alpha_bar_t)   (Ho et al. 2020)
    (7)  FlowMatching        alpha_t = 1 - t, sigma_t = t   (Liu et al. 2023; Lipman et al. 2023)

Time. The network is always given `time: float32[B]` in [0, 1], and its embedder multiplies by 1000. Discrete
step n = 0..T-1 (the papers' t = n + 1) is time n / T, so with T = 1000 the embedder sees DiT's integers. Ten
of the thousand float32 products are one unit in the last place off (at most 3.1e-5); an embedder that must
match an integer table bit for bit rounds 1000 * time to the nearest 1/1024, which changes nothing else.
The clean picture is time -1/T in a discrete process (alpha 1, sigma 0) and time 0 in a continuous one.

Axes: B batch, T diffusion steps; pictures are float[B, ...], any trailing axes, scaled to [-1, 1].
"""

import abc
import dataclasses
import functools
from typing import Literal, Protocol, get_args, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.diffusion.schedules import Linear, Schedule
from mmjax.errors import UserError

LINEAR = Linear()
Prediction = Literal["eps", "x0", "v", "velocity"]
Spacing = Literal["leading", "trailing", "linspace"]


@runtime_checkable
class TimeSampler(Protocol):
    """Draws training times in [0, 1)."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniformTime:
    """Every time equally often."""

    def __call__(self, key, shape):
        return jax.random.uniform(key, shape, jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitNormalTime:
    """sigmoid(N(mean, std^2)): trains more in the middle, where it is hard (Esser et al. 2024, 3.1)."""

    mean: float = 0.0
    std: float = 1.0

    def __call__(self, key, shape):
        return jax.nn.sigmoid(self.mean + self.std * jax.random.normal(key, shape, jnp.float32))


@runtime_checkable
class Weight(Protocol):
    """A loss weight as a function of (alpha, sigma) and the determinant d of (3)."""

    def __call__(self, alpha: jax.Array, sigma: jax.Array, determinant: jax.Array) -> jax.Array: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniformWeight:
    """Every squared error of the prediction itself counts once (the `simple` loss of Ho et al.)."""

    def __call__(self, alpha, sigma, determinant):
        return jnp.ones_like(alpha)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinSNRWeight:
    """w0 = min(SNR, gamma) on errors of x0, carried over to the prediction by (5)."""

    gamma: float = 5.0

    def __call__(self, alpha, sigma, determinant):
        # min(SNR, gamma) * sigma^2 without the division, so that sigma = 0 is no special case.
        return jnp.minimum(alpha**2, self.gamma * sigma**2) / determinant**2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Corrupted:
    """One noised batch and every answer about it; all float32.

    x_t, x0, eps, v, velocity, target: float[B, ...]; `target` is the one of them the network is trained on.
    time: float[B] in [0, 1]. weight: float[B], the factor of the squared error of `target`.
    """

    x_t: jax.Array
    time: jax.Array
    x0: jax.Array
    eps: jax.Array
    v: jax.Array
    velocity: jax.Array
    target: jax.Array
    weight: jax.Array


def combination(prediction: Prediction, alpha, sigma):
    """(a, b) of equation (2)."""
    zero, one = 0 * alpha, 0 * alpha + 1
    return {"eps": (zero, one), "x0": (one, zero), "v": (-sigma, alpha), "velocity": (-one, one)}[prediction]


def like(values: jax.Array, x: jax.Array) -> jax.Array:
    """Reshapes [B] (or a scalar) so that it broadcasts over the trailing axes of x: float[B, ...]."""
    values = jnp.asarray(values, jnp.float32)
    return values.reshape(values.shape + (1,) * (x.ndim - values.ndim))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process(abc.ABC):
    """What both processes share. Fields: what the network outputs, when it is trained, how errors count."""

    prediction: Prediction = "eps"
    time_sampler: TimeSampler = UniformTime()
    weight: Weight = UniformWeight()

    def __post_init__(self):
        if self.prediction not in get_args(Prediction):
            known = ", ".join(get_args(Prediction))
            raise UserError(f"process.prediction is {self.prediction!r}: choose one of {known}.")

    @abc.abstractmethod
    def alpha_sigma(self, time):
        """(alpha, sigma) at `time`, same shape. NumPy in, float64 NumPy out; JAX in, float32 out."""

    def discretise(self, time: jax.Array) -> jax.Array:
        """The nearest time not after `time: float[...]` that the process knows."""
        return time

    @abc.abstractmethod
    def grid(self, steps: int, spacing: Spacing = "trailing") -> np.ndarray:
        """float64[steps + 1]: descending times at which the network is asked, and the clean end."""

    def corrupt(self, key: jax.Array, x0: jax.Array) -> Corrupted:
        """Equation (1) at random times, one per row of `x0: float[B, ...]`."""
        time_key, noise_key = jax.random.split(key)
        time = self.discretise(self.time_sampler(time_key, x0.shape[:1]))
        x0 = x0.astype(jnp.float32)
        eps = jax.random.normal(noise_key, x0.shape, jnp.float32)
        alpha, sigma = self.alpha_sigma(time)
        a, b = combination(self.prediction, alpha, sigma)
        alphas, sigmas = like(alpha, x0), like(sigma, x0)
        answers = _answers(x0, eps, alphas, sigmas)
        return Corrupted(
            x_t=alphas * x0 + sigmas * eps,
            time=time,
            target=answers[self.prediction],
            weight=self.weight(alpha, sigma, alpha * b - sigma * a),
            **answers,
        )

    def convert(self, prediction: jax.Array, x_t: jax.Array, time: jax.Array) -> dict[str, jax.Array]:
        """All four predictions implied by the network's output.

        prediction, x_t: float[B, ...]; time: float[B] -> {"x0", "eps", "v", "velocity"}: float32[B, ...].
        """
        alpha, sigma = (like(c, x_t) for c in self.alpha_sigma(time))
        return _answers(*self.solve(prediction, x_t, alpha, sigma), alpha, sigma)

    def solve(self, prediction: jax.Array, x_t: jax.Array, alpha, sigma) -> tuple[jax.Array, jax.Array]:
        """(x0, eps) by equations (3) and (4); alpha and sigma broadcast against `x_t: float[B, ...]`."""
        y, x_t = prediction.astype(jnp.float32), x_t.astype(jnp.float32)
        a, b = combination(self.prediction, alpha, sigma)
        determinant = alpha * b - sigma * a
        # d = 0 only where nothing can be known (eps of an x0 prediction at sigma = 0): there, merely finite.
        determinant = jnp.where(determinant == 0, 1e-12, determinant)
        return (b * x_t - sigma * y) / determinant, (alpha * y - a * x_t) / determinant


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianDiffusion(Process):
    """DDPM's T discrete steps, equation (6)."""

    schedule: Schedule = LINEAR
    steps: int = 1000

    def alpha_sigma(self, time):
        tables = _tables(self.schedule, self.steps)
        if isinstance(time, np.ndarray):
            row = np.round(time * self.steps).astype(np.int32) + 1
        else:
            row = jnp.round(time * self.steps).astype(jnp.int32) + 1
            tables = (jnp.asarray(table, jnp.float32) for table in tables)
        return tuple(table[row] for table in tables)

    def discretise(self, time):
        return jnp.minimum(jnp.floor(time * self.steps), self.steps - 1) / self.steps

    def grid(self, steps: int, spacing: Spacing = "trailing") -> np.ndarray:
        """Visits `steps` of the T steps. With T = 1000 and steps = 4, in units of 1/T:

        leading 750 500 250 0 (DDIM, diffusers); trailing 999 749 499 249 (starts at the noisiest step, needed
        by zero-terminal-SNR schedules); linspace 999 666 333 0. The end is always -1: clean.
        """
        if not 1 <= steps <= self.steps:
            raise UserError(
                f"{steps} sampling steps asked of a process of {self.steps}: choose fewer, at least 1."
            )
        _require(spacing, get_args(Spacing))
        visited = {
            "leading": np.arange(steps)[::-1] * (self.steps // steps),
            "trailing": np.round(self.steps - np.arange(steps) * (self.steps / steps)) - 1,
            "linspace": np.round(np.linspace(self.steps - 1, 0, steps)),
        }[spacing]
        return np.append(visited, -1) / self.steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowMatching(Process):
    """The straight line from picture (t = 0) to noise (t = 1), equation (7)."""

    prediction: Prediction = "velocity"

    def __post_init__(self):
        super().__post_init__()
        if self.prediction == "eps":
            raise UserError(
                "process.prediction is 'eps' for FlowMatching, which tells nothing of the picture at t = 1: "
                "choose velocity, v or x0."
            )

    def alpha_sigma(self, time):
        return 1 - time, 1 * time

    def grid(self, steps: int, spacing: Spacing = "trailing") -> np.ndarray:
        """1, 1 - 1/steps, ..., 1/steps and the end 0; other spacings would skip the noise or the end."""
        if steps < 1:
            raise UserError(f"{steps} sampling steps asked: choose at least 1.")
        _require(spacing, ("trailing",))
        return np.linspace(1.0, 0.0, steps + 1)


def _answers(x0, eps, alpha, sigma) -> dict[str, jax.Array]:
    """Equation (2) for every prediction."""
    pairs = {name: combination(name, alpha, sigma) for name in get_args(Prediction)}
    return {name: a * x0 + b * eps for name, (a, b) in pairs.items()}


def _require(spacing: str, known: tuple[str, ...]) -> None:
    if spacing not in known:
        raise UserError(f"sampler.spacing is {spacing!r}: this process knows {', '.join(known)}.")


@functools.cache
def _tables(schedule: Schedule, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """(alpha, sigma): float64[T + 1]; row 0 is the clean picture, row n + 1 is step n."""
    alpha_bar = np.append(1.0, np.cumprod(1 - schedule.betas(steps)))
    return np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
