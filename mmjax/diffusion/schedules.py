"""Noise schedules of discrete diffusion: how fast a picture drowns, as T numbers beta_1..beta_T.

beta_t is the variance added by step t; the share of signal left after it is

    alpha_bar_t = prod_{s <= t} (1 - beta_s)

Everything is float64 NumPy, computed once on the host: at T = 1000 the products span ten orders of magnitude
and float32 loses the small betas.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Schedule(Protocol):
    """Anything that can say its betas."""

    def betas(self, steps: int) -> np.ndarray:
        """float64[steps], each in (0, 1)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear:
    """beta rises linearly (Ho et al. 2020, section 4)."""

    start: float = 1e-4
    end: float = 0.02

    def betas(self, steps: int) -> np.ndarray:
        return np.linspace(self.start, self.end, steps, dtype=np.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SqrtLinear:
    """sqrt(beta) rises linearly: latent diffusion's code calls it `linear`, diffusers `scaled_linear`."""

    start: float = 0.00085
    end: float = 0.012

    def betas(self, steps: int) -> np.ndarray:
        return np.linspace(self.start**0.5, self.end**0.5, steps, dtype=np.float64) ** 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine:
    """alpha_bar follows a squared cosine (Nichol & Dhariwal 2021, equation 17), betas capped."""

    offset: float = 0.008
    cap: float = 0.999

    def betas(self, steps: int) -> np.ndarray:
        time = np.arange(steps + 1, dtype=np.float64) / steps
        signal = np.cos((time + self.offset) / (1 + self.offset) * np.pi / 2) ** 2
        return np.minimum(1 - signal[1:] / signal[:-1], self.cap)
