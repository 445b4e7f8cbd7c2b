"""Rotary position embedding (Su et al. 2021), halves paired as in the Llama releases on Hugging Face.

Axes: B batch, T tokens, H heads, K head dimension.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How Llama 3.1 stretches rotary frequencies to a longer context (Llama 3 report, section 3.4.3).

    A frequency that turns more than `high` times within `original_length` tokens stays, one that turns less
    than `low` times is divided by `factor`, and between the two the share of the stretch is linear in turns.
    """

    factor: float
    low: float = 1.0
    high: float = 4.0
    original_length: int = 8192

    def __call__(self, frequency: jax.Array) -> jax.Array:
        """Radians per token float[K / 2] -> the same, stretched."""
        turns = self.original_length * frequency / (2 * math.pi)
        kept = jnp.clip((turns - self.low) / (self.high - self.low), 0.0, 1.0)
        return frequency * (kept + (1 - kept) / self.factor)


class Rotation(NamedTuple):
    """Of the angle by which each pair of channels of each token turns: float32[B, T, 1, K / 2] each."""

    cos: jax.Array
    sin: jax.Array


def rotation_at(
    positions: jax.Array, head_dim: int, base: float, scaling: RopeScaling | None = None
) -> Rotation:
    """Of positions int[B, T]; the same for all layers and heads.

    In a loop of two turns, since XLA on CPU fuses whatever is not in one (barriers included) into all that
    reads it, and so computed cosines and sines again for every layer and head: 6 % of a Llama's training step
    of width 256.
    """
    half = head_dim // 2
    frequency = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if scaling is not None:
        frequency = scaling(frequency)
    angle = positions[:, :, None, None].astype(jnp.float32) * frequency
    return Rotation(*jax.lax.map(lambda turn: jax.lax.switch(turn, (jnp.cos, jnp.sin), angle), jnp.arange(2)))


def rotate(x: jax.Array, rotation: Rotation) -> jax.Array:
    """float[B, T, H, K] -> the same, turned."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = rotation
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
