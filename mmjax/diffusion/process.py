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

Going back one discrete step, from n to n - 1, has an exact answer once x0 is known: a Gaussian with

    (8)  mean      (alpha_{n-1} beta_n x0 + sqrt(1 - beta_n) sigma_{n-1}^2 x_n) / sigma_n^2
    (9)  variance  beta_n sigma_{n-1}^2 / sigma_n^2   <=  beta_n

and a network may also choose its variance between the two sides of (9): it gives twice the channels, and the
second half v in [-1, 1] interpolates their logarithms (Nichol & Dhariwal 2021, equation 15).

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
Spacing = Literal["leading", "trailing", "linspace", "quadratic"]
LAST_FLOW_TIME = 1 / 1000  # of diffusers' flow schedulers, which count flow time in thousandths


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

    def outputs(self, channels: int) -> int:
        """How many channels a network answers with about pictures of `channels`."""
        return channels

    def split(self, answer: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """The network's answer -> the prediction, and where the variance lies in its range (0 small, 1 large)
        or None; float[B, ..., outputs(C)] -> float[B, ..., C] each."""
        return answer, None

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

    def solve(
        self, prediction: jax.Array, x_t: jax.Array, alpha, sigma, *, asked=None
    ) -> tuple[jax.Array, jax.Array]:
        """(x0, eps) by equations (3) and (4); alpha and sigma broadcast against `x_t: float[B, ...]`.

        asked: (alpha, sigma) of the time that the prediction is about, where that is not the time of x_t.
        """
        y, x_t = prediction.astype(jnp.float32), x_t.astype(jnp.float32)
        a, b = combination(self.prediction, *(asked or (alpha, sigma)))
        determinant = alpha * b - sigma * a
        # d = 0 only where nothing can be known (eps of an x0 prediction at sigma = 0): there, merely finite.
        determinant = jnp.where(determinant == 0, 1e-12, determinant)
        return (b * x_t - sigma * y) / determinant, (alpha * y - a * x_t) / determinant


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianDiffusion(Process):
    """DDPM's T discrete steps, equation (6). learned_variance: the network also chooses the variance, (9)."""

    schedule: Schedule = LINEAR
    steps: int = 1000
    learned_variance: bool = False

    def alpha_sigma(self, time):
        return self._look_up(_marginals(self.schedule, self.steps), time, 1)

    def discretise(self, time):
        return jnp.minimum(jnp.floor(time * self.steps), self.steps - 1) / self.steps

    def outputs(self, channels):
        return 2 * channels if self.learned_variance else channels

    def split(self, answer):
        if not self.learned_variance:
            return answer, None
        prediction, v = jnp.split(answer, 2, axis=-1)
        return prediction, (v.astype(jnp.float32) + 1) / 2

    def posterior(self, x0: jax.Array, x_t: jax.Array, time: jax.Array) -> jax.Array:
        """The mean of q(x_{n-1} | x_n, x0), equation (8); x0, x_t: float[B, ...], time: float[B]."""
        of_x0, of_x_t, _, _ = self._look_up(_posteriors(self.schedule, self.steps), time)
        return like(of_x0, x0) * x0 + like(of_x_t, x_t) * x_t

    def log_variances(self, time):
        """(small, large): logarithms of the two sides of (9), same shape as `time`.

        The small one is zero at step 0, where it takes the value of step 1 (as in the papers' code).
        """
        return self._look_up(_posteriors(self.schedule, self.steps), time)[2:]

    def grid(self, steps: int, spacing: Spacing = "trailing") -> np.ndarray:
        """Visits `steps` of the T steps. With T = 1000 and steps = 4, in units of 1/T:

        leading 750 500 250 0 (DDIM, diffusers); trailing 999 749 499 249 (starts at the noisiest step, needed
        by zero-terminal-SNR schedules); linspace 999 666 333 0; quadratic 800 355 88 0 (DDIM for CIFAR-10:
        denser where the picture is clean, and blind to the noisiest fifth). The end is always -1: clean.
        Beyond some 25 steps quadratic visits the cleanest times more than once, as the paper's code does.
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
            "quadratic": np.floor(np.linspace(0, np.sqrt(0.8 * self.steps), steps) ** 2 + 1e-9)[::-1],
        }[spacing]
        return np.append(visited, -1) / self.steps

    def _look_up(self, tables: tuple[np.ndarray, ...], time, offset: int = 0):
        """Rows of float64 tables: as they are for NumPy times, as float32 for JAX ones."""
        if isinstance(time, np.ndarray):
            row = np.round(time * self.steps).astype(np.int32)
        else:
            row = jnp.round(time * self.steps).astype(jnp.int32)
            tables = (jnp.asarray(table, jnp.float32) for table in tables)
        return tuple(table[row + offset] for table in tables)


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
        """trailing: 1, 1 - 1/steps, ..., 1/steps and the end 0. linspace: evenly from 1 to 1/1000 and the end
        0, which is what diffusers' flow schedulers do. Other spacings would skip the noise."""
        if steps < 1:
            raise UserError(f"{steps} sampling steps asked: choose at least 1.")
        _require(spacing, ("trailing", "linspace"))
        if spacing == "linspace":
            return np.append(np.linspace(1.0, LAST_FLOW_TIME, steps), 0.0)
        return np.linspace(1.0, 0.0, steps + 1)


def _answers(x0, eps, alpha, sigma) -> dict[str, jax.Array]:
    """Equation (2) for every prediction."""
    pairs = {name: combination(name, alpha, sigma) for name in get_args(Prediction)}
    return {name: a * x0 + b * eps for name, (a, b) in pairs.items()}


def _require(spacing: str, known: tuple[str, ...]) -> None:
    if spacing not in known:
        raise UserError(f"sampler.spacing is {spacing!r}: this process knows {', '.join(known)}.")


@functools.cache
def _marginals(schedule: Schedule, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """(alpha, sigma): float64[T + 1]; row 0 is the clean picture, row n + 1 is step n."""
    alpha_bar = np.append(1.0, np.cumprod(1 - schedule.betas(steps)))
    return np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)


@functools.cache
def _posteriors(schedule: Schedule, steps: int) -> tuple[np.ndarray, ...]:
    """Factors of x0 and x_n in (8), and the logarithms of both sides of (9): float64[T] each."""
    beta = schedule.betas(steps)
    before, now = (np.append(1.0, np.cumprod(1 - beta))[cut] for cut in (np.s_[:-1], np.s_[1:]))
    variance = beta * (1 - before) / (1 - now)
    return (
        np.sqrt(before) * beta / (1 - now),
        np.sqrt(1 - beta) * (1 - before) / (1 - now),
        np.log(np.append(variance[1:2], variance[1:])),
        np.log(beta),
    )
