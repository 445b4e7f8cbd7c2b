"""Samplers: from noise back to a picture, asking the network a fixed number of times.

At each visited time s the network's answer is solved for (x0, eps) (process equations 3 and 4). A sampler
then chooses a point at the next, cleaner time r:

    DDIM   (1)  x_r = alpha_r x0 + sqrt(sigma_r^2 - tau^2) eps + tau z,        z ~ N(0, I)
           (2)  tau = eta sigma_r sqrt(1 - (alpha_s sigma_r / (alpha_r sigma_s))^2)

eta = 0 is deterministic. eta = 1 is the ancestral sampler of DDPM: (1) is then a draw from the exact
posterior q(x_r | x_s, x0), whose variance is tau^2 (Song et al. 2021, section 4.1). With discrete steps that
is the papers' "small" variance; the "large" one, beta, is put around the same mean.

    Euler  (3)  x_r = x_s + (alpha_r - alpha_s) x0 + (sigma_r - sigma_s) eps
    Heun   (4)  the same with x0 and eps averaged over the answers at s and at the Euler point of r

(3) is one step of the probability-flow equation dx = x0 d(alpha) + eps d(sigma), for any process; it equals
(1) with eta = 0, and for flow matching it is the familiar x + (r - s) velocity. (4) is the trapezoid rule for
it: second order, two questions per step; the last step ends where nothing is left to ask and stays Euler's.

The visited times are known before tracing, so all coefficients are computed in float64 on the host, and the
loop is one `lax.scan` in float32.

Axes: B batch, S sampling steps; pictures are float[B, ...], any number of trailing axes.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.diffusion.process import Process, Spacing

Denoise = Callable[[jax.Array, jax.Array], jax.Array]


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

        denoise(x: float32[B, ...], time: float32[B]) -> the process's prediction: float[B, ...].
        key: the start and every step derive their own noise from it. steps: S, a static number.
        """
        start_key, steps_key = jax.random.split(key)
        times = process.grid(steps, self.spacing)
        alpha, sigma = process.alpha_sigma(times)

        def answer(x, time, alpha, sigma):
            prediction = denoise(x, jnp.full(shape[:1], time, jnp.float32))
            x0, eps = process.solve(prediction, x, alpha, sigma)
            if self.clip is not None:
                x0 = jnp.clip(x0, -self.clip, self.clip)
                eps = (x - alpha * x0) / sigma
            return x0, eps

        def body(x, step):
            return self.step(answer, x, step, jax.random.fold_in(steps_key, step["number"])), None

        plan = {
            "now": (times[:-1], alpha[:-1], sigma[:-1]),
            "next": (times[1:], alpha[1:], sigma[1:]),
            "noise": self.noise(alpha, sigma),
        }
        plan = jax.tree.map(lambda values: jnp.asarray(values, jnp.float32), plan)
        plan |= {"number": jnp.arange(steps), "last": jnp.arange(steps) == steps - 1}
        return jax.lax.scan(body, jax.random.normal(start_key, shape, jnp.float32), plan)[0]

    def noise(self, alpha: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(kept, fresh): float64[S], the factors of eps and z in (1), from coefficients float64[S + 1]."""
        return sigma[1:], np.zeros_like(sigma[1:])

    @abc.abstractmethod
    def step(self, answer, x: jax.Array, step: dict, key: jax.Array) -> jax.Array:
        """x at the next time; `answer(x, time, alpha, sigma) -> (x0, eps)` asks the network.

        step: one row of the plan: now, next = (time, alpha, sigma); noise = (kept, fresh); number; last.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Euler(Sampler):
    """Equation (3)."""

    def step(self, answer, x, step, key):
        return flow_step(x, *answer(x, *step["now"]), step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heun(Sampler):
    """Equation (4): 2 S - 1 questions."""

    def step(self, answer, x, step, key):
        x0, eps = answer(x, *step["now"])
        there = flow_step(x, x0, eps, step)

        def correct():
            x0_there, eps_there = answer(there, *step["next"])
            return flow_step(x, (x0 + x0_there) / 2, (eps + eps_there) / 2, step)

        return jax.lax.cond(step["last"], lambda: there, correct)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDIM(Sampler):
    """Equations (1) and (2)."""

    eta: float = 0.0

    def noise(self, alpha, sigma):
        tau = self.eta * posterior_deviation(alpha, sigma)
        return np.sqrt(sigma[1:] ** 2 - tau**2), tau

    def step(self, answer, x, step, key):
        x0, eps = answer(x, *step["now"])
        (_, alpha, _), (kept, fresh) = step["next"], step["noise"]
        z = jax.random.normal(key, x.shape, jnp.float32)
        return alpha * x0 + kept * eps + fresh * z


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPM(DDIM):
    """Ancestral sampling: DDIM with eta = 1, or with the larger variance beta (`variance="large"`)."""

    eta: float = 1.0
    variance: Literal["small", "large"] = "small"

    def noise(self, alpha, sigma):
        kept, fresh = super().noise(alpha, sigma)
        if self.variance == "large":
            beta = sigma[:-1] ** 2 - (alpha[:-1] / alpha[1:] * sigma[1:]) ** 2
            fresh = np.where(sigma[1:] > 0, np.sqrt(beta), 0)
        return kept, fresh


def posterior_deviation(alpha: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """float64[S]: deviation of q(x_r | x_s, x0) between neighbours of a grid float64[S + 1]; (2), eta 1."""
    carried = alpha[:-1] * sigma[1:] / (alpha[1:] * sigma[:-1])
    return sigma[1:] * np.sqrt(1 - carried**2)


def flow_step(x: jax.Array, x0: jax.Array, eps: jax.Array, step: dict) -> jax.Array:
    """Equation (3)."""
    (_, alpha, sigma), (_, next_alpha, next_sigma) = step["now"], step["next"]
    return x + (next_alpha - alpha) * x0 + (next_sigma - sigma) * eps
