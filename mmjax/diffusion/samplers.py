"""Samplers: from noise back to a picture, asking the network a fixed number of times.

At each visited time s the network's answer is solved for (x0, eps) (process equations 3 and 4). A sampler
then chooses a point at the next, cleaner time r:

    DDIM   (1)  x_r = alpha_r x0 + sqrt(sigma_r^2 - tau^2) eps + tau z,        z ~ N(0, I)
           (2)  tau = eta sigma_r sqrt(1 - (alpha_s sigma_r / (alpha_r sigma_s))^2)

eta = 0 is deterministic. eta = 1 is the ancestral sampler of DDPM: (1) is then a draw from the exact
posterior q(x_r | x_s, x0), whose variance is tau^2 (Song et al. 2021, section 4.1). With discrete steps that
is the papers' "small" variance; the "large" one, beta, is put around the same mean, and so is a learned one
between the two.

    Euler  (3)  x_r = x_s + (alpha_r - alpha_s) x0 + (sigma_r - sigma_s) eps
    Heun   (4)  the same with x0 and eps averaged over the answers at s and at the Euler point of r

(3) is one step of the probability-flow equation dx = x0 d(alpha) + eps d(sigma), for any process; it equals
(1) with eta = 0, and for flow matching it is the familiar x + (r - s) velocity. (4) is the trapezoid rule for
it: second order, two questions per step; the last step ends where nothing is left to ask and stays Euler's.

    DPM-Solver++(2M)  (5)  x_r = k x_s + (alpha_r - k alpha_s) d,  k = sigma_r / sigma_s
                      (6)  d = x0 + h / (2 h') (x0 - x0'),         h = log(alpha_r / alpha_s) - log k

where x0' and h' are those of the step before (Lu et al. 2022, algorithm 2). With d = x0, (5) is (3) again;
(6) makes it second order at one question per step. The first step has nothing before it and the last one is
infinitely long in h, so both stay first order.

The visited times are known before tracing, so all coefficients are computed in float64 on the host, and the
loop is one `lax.scan` in float32.

Axes: B batch, S sampling steps; pictures are float[B, ...], any number of trailing axes.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.diffusion.process import Process, Spacing
from mmjax.errors import UserError

Denoise = Callable[[jax.Array, jax.Array], jax.Array]
SMALLEST = 1e-10  # deviation that stands for none at all in a logarithm


class Answer(NamedTuple):
    """What the network says at one time: x0, eps float32[B, ...], and where its own variance lies between the
    small (0) and the large (1) one, if it has learned that."""

    x0: jax.Array
    eps: jax.Array
    fraction: jax.Array | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler(abc.ABC):
    """Visits the times of `process.grid(steps, spacing)`.

    spacing: see GaussianDiffusion.grid. clip: bound on |x0|, for pixels in [-1, 1]; eps is then re-derived so
    that (x0, eps) still explain x_t (None: no bound, right for latents and embeddings).
    """

    spacing: Spacing = "trailing"
    clip: float | None = None

    def sample(
        self, denoise: Denoise, process: Process, key: jax.Array, shape: tuple[int, ...], steps: int
    ) -> jax.Array:
        """float32[*shape], distributed like the data as far as the network and the number of steps allow.

        denoise(x: float32[B, ...], time: float32[B]) -> the process's answer: float[B, ...].
        key: the start and every step derive their own noise from it. steps: S, a static number.
        """
        return self._walk(denoise, process, key, shape, steps)[0]

    def trajectory(self, denoise, process, key, shape, steps) -> jax.Array:
        """float32[S + 1, *shape]: the noise, x after each step, and so at last what `sample` returns."""
        last, visited = self._walk(denoise, process, key, shape, steps)
        return jnp.concatenate([visited, last[None]])

    def _walk(self, denoise, process, key, shape, steps):
        start_key, steps_key = jax.random.split(key)
        times = process.grid(steps, self.spacing)
        alpha, sigma = process.alpha_sigma(times)

        def answer(x, time, alpha, sigma):
            prediction, fraction = process.split(denoise(x, jnp.full(shape[:1], time, jnp.float32)))
            x0, eps = process.solve(prediction, x, alpha, sigma)
            if self.clip is not None:
                x0 = jnp.clip(x0, -self.clip, self.clip)
                eps = (x - alpha * x0) / sigma
            return Answer(x0, eps, fraction)

        def body(carry, step):
            key = jax.random.fold_in(steps_key, step["number"])
            return self.step(answer, *carry, step, key), carry[0]

        plan = {"now": (times[:-1], alpha[:-1], sigma[:-1]), "next": (times[1:], alpha[1:], sigma[1:])}
        plan |= self.coefficients(alpha, sigma)
        plan = jax.tree.map(lambda values: jnp.asarray(values, jnp.float32), plan)
        plan |= {"number": jnp.arange(steps), "last": jnp.arange(steps) == steps - 1}
        start = jax.random.normal(start_key, shape, jnp.float32)
        (x, _), visited = jax.lax.scan(body, (start, jnp.zeros_like(start)), plan)
        return x, visited

    def coefficients(self, alpha: np.ndarray, sigma: np.ndarray) -> dict[str, np.ndarray]:
        """What `step` needs to know of its step: float64[S] each, from coefficients float64[S + 1]."""
        return {}

    @abc.abstractmethod
    def step(
        self, answer, x: jax.Array, before: jax.Array, step: dict, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """(x at the next time, x0 as answered at this one).

        answer(x, time, alpha, sigma) -> Answer: asks the network. before: x0 one step before, zero at first.
        step: one row of the plan: now, next = (time, alpha, sigma); number; last; and the coefficients.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Euler(Sampler):
    """Equation (3)."""

    def step(self, answer, x, before, step, key):
        x0, eps, _ = answer(x, *step["now"])
        return flow_step(x, x0, eps, step), x0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heun(Sampler):
    """Equation (4): 2 S - 1 questions."""

    def step(self, answer, x, before, step, key):
        x0, eps, _ = answer(x, *step["now"])
        there = flow_step(x, x0, eps, step)

        def correct():
            x0_there, eps_there, _ = answer(there, *step["next"])
            return flow_step(x, (x0 + x0_there) / 2, (eps + eps_there) / 2, step)

        return jax.lax.cond(step["last"], lambda: there, correct), x0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPMSolver(Sampler):
    """DPM-Solver++(2M), equations (5) and (6)."""

    def coefficients(self, alpha, sigma):
        with np.errstate(divide="ignore", invalid="ignore"):
            h = np.diff(np.log(alpha / sigma))
            lean = h / (2 * np.append(np.inf, h[:-1]))
        # Infinite at the clean end, undefined after an infinite first step (flow matching: alpha = 0)
        # or where a grid visits a time twice.
        return {"lean": np.where(np.isfinite(lean), lean, 0.0), "kept": sigma[1:] / sigma[:-1]}

    def step(self, answer, x, before, step, key):
        x0, _, _ = answer(x, *step["now"])
        (_, alpha, _), (_, next_alpha, _) = step["now"], step["next"]
        direction = x0 + step["lean"] * (x0 - before)
        return step["kept"] * x + (next_alpha - step["kept"] * alpha) * direction, x0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDIM(Sampler):
    """Equations (1) and (2)."""

    eta: float = 0.0

    def coefficients(self, alpha, sigma):
        tau = self.eta * posterior_deviation(alpha, sigma)
        return {"kept": np.sqrt(sigma[1:] ** 2 - tau**2), "fresh": tau}

    def step(self, answer, x, before, step, key):
        x0, eps, _ = answer(x, *step["now"])
        return ancestral_step(x0, eps, step["fresh"], step, key), x0

    def invert(
        self, denoise: Denoise, process: Process, x: jax.Array, steps: int, *, iterations: int = 1
    ) -> jax.Array:
        """From a picture to the noise that `sample` with eta 0 draws it from: float32[B, ...] -> the same.

        A step of `sample` asks the network at the noisier point, which is not known here. It is found by
        fixed-point iteration, from the cleaner point on; one iteration is the usual DDIM inversion, and each
        further one costs S questions and brings the round trip closer to exact.

        Raises:
          UserError: the network predicts x0, which together with a clean picture tells nothing of the noise.
        """
        if process.prediction == "x0":
            raise UserError("process.prediction 'x0' cannot be inverted: choose eps, v or velocity.")
        times = process.grid(steps, self.spacing)[::-1]
        alpha, sigma = process.alpha_sigma(times)
        points = jax.tree.map(lambda c: jnp.asarray(c, jnp.float32), (times, alpha, sigma))

        def body(x, step):
            (_, alpha, sigma), (time, next_alpha, next_sigma) = step
            there = x
            for _ in range(iterations):
                prediction, _ = process.split(denoise(there, jnp.full(x.shape[:1], time)))
                x0, eps = process.solve(prediction, x, alpha, sigma, asked=(next_alpha, next_sigma))
                there = next_alpha * x0 + next_sigma * eps
            return there, None

        ends = jax.tree.map(lambda c: c[:-1], points), jax.tree.map(lambda c: c[1:], points)
        return jax.lax.scan(body, x.astype(jnp.float32), ends)[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPM(Sampler):
    """Ancestral sampling: DDIM with eta = 1 ('small'), or with another variance around the same mean.

    variance: 'small' the posterior's, 'large' beta, 'learned' what the network chooses between the two.
    """

    variance: Literal["small", "large", "learned"] = "small"

    def coefficients(self, alpha, sigma):
        small = posterior_deviation(alpha, sigma)
        large = np.sqrt(sigma[:-1] ** 2 - (alpha[:-1] / alpha[1:] * sigma[1:]) ** 2)
        return {
            "kept": np.sqrt(sigma[1:] ** 2 - small**2),
            "small": np.log(np.maximum(small, SMALLEST)),
            "large": np.log(np.maximum(large, SMALLEST)),
        }

    def step(self, answer, x, before, step, key):
        x0, eps, learned = answer(x, *step["now"])
        if self.variance == "learned" and learned is None:
            raise UserError("sampler.variance is 'learned': set process.learned_variance, or choose small.")
        fraction = {"small": 0.0, "large": 1.0, "learned": learned}[self.variance]
        deviation = jnp.exp(fraction * step["large"] + (1 - fraction) * step["small"])
        return ancestral_step(x0, eps, jnp.where(step["last"], 0.0, deviation), step, key), x0


def posterior_deviation(alpha: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """float64[S]: deviation of q(x_r | x_s, x0) between neighbours of a grid float64[S + 1]; (2), eta 1."""
    carried = alpha[:-1] * sigma[1:] / (alpha[1:] * sigma[:-1])
    return sigma[1:] * np.sqrt(1 - carried**2)


def flow_step(x: jax.Array, x0: jax.Array, eps: jax.Array, step: dict) -> jax.Array:
    """Equation (3)."""
    (_, alpha, sigma), (_, next_alpha, next_sigma) = step["now"], step["next"]
    return x + (next_alpha - alpha) * x0 + (next_sigma - sigma) * eps


def ancestral_step(x0: jax.Array, eps: jax.Array, deviation, step: dict, key: jax.Array) -> jax.Array:
    """Equation (1), with any deviation of the fresh noise."""
    z = jax.random.normal(key, x0.shape, jnp.float32)
    return step["next"][1] * x0 + step["kept"] * eps + deviation * z
