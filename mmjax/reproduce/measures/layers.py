"""Fixed tables that are part of published models."""

import jax.numpy as jnp
import numpy as np

from mmjax.layers.attention import linear_biases
from mmjax.layers.embeddings import sincos_positions, time_features

FREQUENCIES, STEPS = 256, 1000


def position_row_norm(grid: int, width: int) -> float:
    """The squared norm of the row that is farthest from the mean one."""
    norms = np.square(np.asarray(sincos_positions(grid, width), np.float64)).sum(axis=1)
    return float(norms[np.argmax(np.abs(norms - norms.mean()))])


def position_sum(grid: int, width: int) -> float:
    """The sum of the whole table."""
    return float(np.sum(np.asarray(sincos_positions(grid, width), np.float64)))


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """What each head loses of a logit per token of distance."""
    biases = linear_biases(jnp.array([[1]]), jnp.array([[0]]), heads)
    return tuple(-float(bias) for bias in biases[0, :, 0, 0])


def time_feature(step: int, place: int) -> float:
    """One of the sinusoidal features of a diffusion step out of 1000."""
    return float(time_features(jnp.array([step / STEPS], jnp.float32), FREQUENCIES)[0, place])
