"""From raw arrays to token features: pixels, patches, positions, times and token ids.

Axes: B batch, H/W image height and width, P patch size, N patches, L tokens, D width, V vocabulary.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mmjax.layers.partitioning import dense, named


def standardize(image: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """uint8 pixels -> float32 `(pixel / 255 - mean) / std`; float input is taken as standardised already.

    Images travel to the device as bytes: a quarter of the traffic of float32.
    """
    if image.dtype != jnp.uint8:
        return image
    mean, std = (np.asarray(v, np.float32) for v in (mean, std))
    return image.astype(jnp.float32) * (1 / (255 * std)) - mean / std


def patchify(image: jax.Array, patch: int) -> jax.Array:
    """float[B, H, W, C] -> float[B, N, P * P * C], patches in row-major order."""
    batch, height, width, channels = image.shape
    grid = image.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, patch * patch * channels)


def unpatchify(patches: jax.Array, patch: int, height: int, width: int) -> jax.Array:
    """The inverse of `patchify`: float[B, N, P * P * C] -> float[B, H, W, C]."""
    grid = patches.reshape(patches.shape[0], height // patch, width // patch, patch, patch, -1)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(patches.shape[0], height, width, -1)


def sincos_positions(grid: int, width: int) -> np.ndarray:
    """Fixed 2D sine-cosine table float32[grid * grid, D] (MAE and DiT layout: x first, then y).

    Half of the width codes x and half y; each half is all sines, then all cosines.
    """
    frequency = 1.0 / 10000 ** (np.arange(width // 4, dtype=np.float64) / (width / 4))
    y, x = np.meshgrid(np.arange(grid, dtype=np.float64), np.arange(grid, dtype=np.float64), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequency for axis in (x, y)]
    return np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], axis=1).astype(np.float32)


class PatchEmbed(nn.Module):
    """A linear map of each patch, which is what a convolution with stride = kernel = P computes."""

    width: int
    patch: int
    bias: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """float[B, H, W, C] -> float[B, N, D]."""
        project = dense(self.width, ("patch", "embed"), bias=self.bias, dtype=self.dtype, name="projection")
        return project(patchify(image, self.patch))


class PositionEmbedding(nn.Module):
    """A learned table added to a sequence; `positions` picks rows, otherwise the first L are used.

    `offset` rows stand before the one of position 0; OPT has two that no position reaches.
    """

    length: int
    width: int
    stddev: float = 0.02
    offset: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, positions: jax.Array | None = None) -> jax.Array:
        """float[B, L, D], int[B, L] or None -> float[B, L, D]."""
        init = named(nn.initializers.normal(self.stddev), None, "embed")
        table = self.param("table", init, (self.offset + self.length, self.width)).astype(x.dtype)
        table = table[self.offset :]
        return x + (table[: x.shape[1]] if positions is None else table[positions])


class TokenEmbedding(nn.Module):
    """The token table, also usable as the output projection. Rows can be locked by a `Rows` treatment."""

    vocabulary_size: int
    width: int
    stddev: float = 0.02
    dtype: str = "float32"
    rows: str | None = "vocab"  # the logical name of the table's first axis

    def setup(self):
        init = named(nn.initializers.normal(self.stddev), self.rows, "embed")
        self.table = self.param("table", init, (self.vocabulary_size, self.width))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """int[B, L] -> float[B, L, D]."""
        return self.table[tokens].astype(self.dtype)

    def logits(self, x: jax.Array) -> jax.Array:
        """float[B, L, D] -> float32[B, L, V], with the transposed table."""
        return jnp.einsum("BLD,VD->BLV", x, self.table.astype(x.dtype), preferred_element_type=jnp.float32)


def time_features(time: jax.Array, frequencies: int = 256) -> jax.Array:
    """Sinusoids of diffusion time float[B] in [0, 1] -> float32[B, frequencies] (ADM and DiT: cosines first).

    Time is scaled by 1000 so that the frequencies match those of integer timesteps.
    """
    half = frequencies // 2
    frequency = jnp.exp(-math.log(10000) * jnp.arange(half, dtype=jnp.float32) / half)
    # float32(n / 1000) * 1000 misses the integer n by a rounding error for some n; steps must be exact.
    # The rounding stays out of the derivative.
    steps = 1000.0 * time
    steps += jax.lax.stop_gradient(jnp.round(1024.0 * steps) / 1024.0 - steps)
    angle = steps[:, None] * frequency
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class TimeEmbedding(nn.Module):
    """`time_features` through a two-layer MLP."""

    width: int
    frequencies: int = 256
    dtype: str = "float32"

    @nn.compact
    def __call__(self, time: jax.Array) -> jax.Array:
        """float[B] -> float[B, D]."""
        features = time_features(time, self.frequencies).astype(self.dtype)
        init = nn.initializers.normal(0.02)
        hidden = dense(self.width, (None, "modulation"), init=init, dtype=self.dtype, name="hidden")(features)
        return dense(self.width, ("modulation", "embed"), init=init, dtype=self.dtype, name="output")(
            jax.nn.silu(hidden)
        )
