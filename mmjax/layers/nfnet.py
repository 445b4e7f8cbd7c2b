"""Normaliser-free networks (Brock et al. 2021, "High-Performance Large-Scale Image Recognition Without
Normalization"). F6, trained contrastively, is the vision encoder of Flamingo (Alayrac et al. 2022, 3.1.1).

Instead of the activations, every convolution normalises its own kernel; a block counts the variance that
those before it added and divides it away at its entrance; activations are scaled to keep a variance of one.

    y = x + alpha * gain * 2 * squeeze_excite(convolutions(beta * act(x)))
    beta = (1 + alpha^2 * blocks before)^-1/2

The first block of a stage also projects beta * act(x) for its shortcut, so that the variance starts anew.
Stochastic depth and dropout, with which the classifiers were trained, are left out.

Axes: B batch, H/W image height and width, I/O channels in and out, N grid positions.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.layers.embeddings import standardize
from mmjax.layers.partitioning import constrain, named
from mmjax.layers.transformer import ACTIVATIONS

# Over the standard deviation of gelu(x), x standard normal.
GAMMA = 1.7015043497085571


@dataclasses.dataclass(frozen=True, kw_only=True)
class NFNetConfig:
    """A normaliser-free tower and the pixels it expects; the defaults are those of the F family.

    Attributes:
      depths: blocks in each stage; F(n) has (1, 2, 6, 3) times n + 1.
      widths: channels after each stage.
      stem: channels after the stem.
      group: channels per group of the 3x3 convolutions.
      final: channels of the pooled feature.
      epsilon: added to the variance of a kernel: none in the released code, which has a floor, 1e-5 in timm.
      activation: tanh GELU as released; timm has the exact one.
      mean, std: standardisation of pixels in [0, 1], applied to uint8 input.
    """

    image_size: int
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (256, 512, 1536, 1536)
    stem: int = 128
    group: int = 128
    final: int = 3072
    alpha: float = 0.2
    epsilon: float = 0.0
    activation: str = "gelu_tanh"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    dtype: str = "float32"

    @property
    def features_shape(self) -> tuple[int, int]:
        """(N, D) of the features of one picture."""
        return math.ceil(self.image_size / 32) ** 2, self.widths[-1]

    def tower(self) -> "NFNet":
        """The module of this config."""
        return NFNet(self)


def nfnet(number: int, image_size: int, **fields) -> NFNetConfig:
    """F0 to F6 (table 1 of the paper)."""
    depths = tuple(depth * (number + 1) for depth in (1, 2, 6, 3))
    return NFNetConfig(image_size=image_size, depths=depths, **fields)


class ScaledConv(nn.Module):
    """A convolution whose kernel has mean zero and variance 1 / fan-in per output, times a learned gain."""

    features: int
    side: int
    config: NFNetConfig
    stride: int = 1
    groups: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float[B, H, W, I] -> float[B, H / stride, W / stride, O]."""
        shape = (self.side, self.side, x.shape[-1] // self.groups, self.features)
        fan_in = shape[0] * shape[1] * shape[2]
        init = named(nn.initializers.lecun_normal(), None, None, None, None)
        kernel = self.param("kernel", init, shape)
        gain = self.param("gain", named(nn.initializers.ones, None), shape[-1:])
        bias = self.param("bias", named(nn.initializers.zeros, None), shape[-1:])
        variance = jnp.var(kernel, (0, 1, 2)) + self.config.epsilon
        scale = gain * jax.lax.rsqrt(jnp.maximum(variance * fan_in, 1e-4))
        kernel = (kernel - jnp.mean(kernel, (0, 1, 2))) * scale
        y = jax.lax.conv_general_dilated(
            x,
            kernel.astype(x.dtype),
            (self.stride, self.stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
        )
        return y + bias.astype(x.dtype)


class SqueezeExcite(nn.Module):
    """Every channel weighed by what the means of all channels say (Hu et al. 2018)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float[B, H, W, C] -> the same."""
        init = named(nn.initializers.lecun_normal(), None, None, None, None)

        def linear(width, name):
            return nn.Conv(width, (1, 1), kernel_init=init, dtype=x.dtype, name=name)

        weight = linear(x.shape[-1] // 2, "down")(x.mean((1, 2), keepdims=True))
        return x * nn.sigmoid(linear(x.shape[-1], "up")(nn.relu(weight)))


class Block(nn.Module):
    """A bottleneck of half the width with two grouped 3x3 convolutions; a fresh one is its shortcut."""

    width: int
    config: NFNetConfig
    stride: int = 1
    is_first: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, beta: jax.Array) -> tuple[jax.Array, None]:
        """float[B, H, W, I], float[] -> float[B, H / stride, W / stride, O]; None is what a scan stacks."""
        c, inner = self.config, self.width // 2
        groups = inner // c.group

        def conv(features, side, name, **fields):
            return ScaledConv(features, side, c, **fields, name=name)

        y = _activate(x, c) * beta.astype(x.dtype)
        if self.is_first:
            pooled = y
            if self.stride > 1:
                pooled = nn.avg_pool(y, (2, 2), (2, 2), padding="SAME", count_include_pad=False)
            x = conv(self.width, 1, "shortcut")(pooled)
        y = _activate(conv(inner, 1, "conv1")(y), c)
        y = _activate(conv(inner, 3, "conv2", stride=self.stride, groups=groups)(y), c)
        y = _activate(conv(inner, 3, "conv3", groups=groups)(y), c)
        y = 2 * SqueezeExcite(name="squeeze_excite")(conv(self.width, 1, "conv4")(y))
        gain = self.param("gain", named(nn.initializers.zeros), ())
        return x + (c.alpha * gain).astype(y.dtype) * y, None


def _activate(x: jax.Array, config: NFNetConfig) -> jax.Array:
    return ACTIVATIONS[config.activation](x) * GAMMA


class Stage(nn.Module):
    """A block that changes the shape, then equal ones in one `scan`: compiled once, parameters stacked."""

    depth: int
    width: int
    stride: int
    before: int  # blocks of the stage before
    config: NFNetConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float[B, H, W, I] -> float[B, H / stride, W / stride, O]."""
        c = self.config
        betas = jax.lax.rsqrt(1 + c.alpha**2 * jnp.float32([self.before, *range(1, self.depth)]))
        x, _ = Block(self.width, c, self.stride, is_first=True, name="first")(x, betas[0])
        if self.depth > 1:
            rest = nn.scan(
                Block,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=self.depth - 1,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )
            x, _ = rest(self.width, c, name="layers")(x, betas[1:])
        return constrain(x, "batch", None, None, None)


class NFNet(nn.Module):
    """Pictures in, grid features and one pooled feature out: what `VisionTransformer` offers."""

    config: NFNetConfig

    @nn.compact
    def __call__(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """image: uint8 or standardised float[B, H, W, 3].

        Returns:
          features: float[B, N, widths[-1]] of the final stage, row by row, N = H / 32 * W / 32: what Flamingo
            reads.
          pooled: float[B, final].
        """
        c = self.config
        x = standardize(image, c.mean, c.std).astype(c.dtype)
        for index, (share, stride) in enumerate([(8, 2), (4, 1), (2, 1), (1, 2)], 1):
            x = x if index == 1 else _activate(x, c)
            x = ScaledConv(c.stem // share, 3, c, stride=stride, name=f"stem_conv{index}")(x)
        for index, (depth, width) in enumerate(zip(c.depths, c.widths, strict=True)):
            before = c.depths[index - 1] if index else 0
            stage = Stage(depth, width, 2 if index else 1, before, c, name=f"stage{index + 1}")
            x = stage(x)
        pooled = _activate(ScaledConv(c.final, 1, c, name="final")(x), c).mean((1, 2))
        return x.reshape(x.shape[0], -1, x.shape[-1]), pooled
