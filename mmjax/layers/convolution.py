"""Convolutions, group norms and the residual blocks made of them, channels last.

Axes: B batch, H/W height and width, C channels, G groups, N = H * W.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.layers.attention import attend
from mmjax.layers.partitioning import constrain, dense, named

# What PyTorch gives convolutions, and so how the published ones began.
UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Conv(nn.Module):
    """A square convolution.

    Attributes:
      features: output channels.
      padding: 'SAME', 'VALID' or ((top, bottom), (left, right)).
      axes: logical names of the kernel's input and output channels. None for few channels (pixels, latents),
        which no mesh divides.
    """

    features: int
    size: int = 3
    stride: int = 1
    padding: str | Sequence[tuple[int, int]] = "SAME"
    axes: tuple[str | None, str | None] = (None, "embed")
    bias: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float[B, H, W, C] -> float[B, H', W', features]."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", named(UNIFORM, None, None, *self.axes), shape)
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (self.stride, self.stride),
            self.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        if self.bias:
            init = named(nn.initializers.zeros, self.axes[1])
            y = y + self.param("bias", init, (self.features,)).astype(self.dtype)
        return y


def group_norm(groups: int, *, epsilon: float = 1e-6, dtype: str = "float32", name: str) -> nn.GroupNorm:
    """Normalises groups of channels over all of a picture (Wu & He 2018); statistics in float32."""
    return nn.GroupNorm(
        num_groups=groups,
        epsilon=epsilon,
        use_fast_variance=False,
        scale_init=named(nn.initializers.ones, "embed"),
        bias_init=named(nn.initializers.zeros, "embed"),
        dtype=dtype,
        name=name,
    )


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), x through a 1x1 convolution where the width changes."""

    features: int
    groups: int = 32
    epsilon: float = 1e-6
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float[B, H, W, C] -> float[B, H, W, features]."""
        y = x
        for number in (1, 2):
            norm = group_norm(self.groups, epsilon=self.epsilon, dtype=self.dtype, name=f"norm_{number}")
            y = Conv(self.features, dtype=self.dtype, name=f"conv_{number}")(jax.nn.silu(norm(y)))
        if x.shape[-1] != self.features:
            x = Conv(self.features, size=1, dtype=self.dtype, name="shortcut")(x)
        return constrain(x + y, "batch", None, None, "embed")


class SpatialAttention(nn.Module):
    """x + attention over all places, one head as wide as the picture has channels."""

    groups: int = 32
    epsilon: float = 1e-6
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float[B, H, W, C] -> the same."""
        batch, height, width, channels = x.shape
        norm = group_norm(self.groups, epsilon=self.epsilon, dtype=self.dtype, name="norm")
        y = norm(x).reshape(batch, height * width, channels)

        def project(name: str, y: jax.Array) -> jax.Array:
            return dense(channels, (None, "embed"), init=UNIFORM, dtype=self.dtype, name=name)(y)

        query, key, value = (project(name, y)[:, :, None] for name in ("query", "key", "value"))
        read = project("output", attend(query, key, value)[:, :, 0])
        return x + read.reshape(x.shape)


class Resample(nn.Module):
    """Halves or doubles the sides of a picture.

    'down' pads one row below and one column to the right, and none on the other sides, as latent diffusion
    does; 'up' repeats each pixel and smooths.
    """

    direction: Literal["down", "up"]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float[B, H, W, C] -> float[B, H / 2, W / 2, C] or float[B, 2 H, 2 W, C]."""
        channels = x.shape[-1]
        if self.direction == "down":
            padding = ((0, 1), (0, 1))
            return Conv(channels, stride=2, padding=padding, dtype=self.dtype, name="conv")(x)
        x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        return Conv(channels, dtype=self.dtype, name="conv")(x)
