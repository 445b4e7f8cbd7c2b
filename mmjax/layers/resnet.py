"""The residual network of CLIP (Radford et al. 2021, section 2.4; `ModifiedResNet` of the released code).

A ResNet-D (He et al. 2019) in three respects: a stem of three convolutions, an average pool in front of every
strided step instead of a stride (anti-aliasing), and attention instead of a mean at the end.

Batch normalisation keeps two running moments per channel. Here they are parameters like any other, `mean` and
`var`, so that a checkpoint is whole and a system stays a pure function of its parameters:

- Applied as usual, a network normalises with the running moments and no gradient flows into them.
- Applied with `mutable=[TRACKED]` (what a loss does), it normalises with the moments of the batch, gradients
  flow through those, and the collection comes back with what this batch shows, under the paths of the
  parameters. The training step moves the parameters a tenth of the way there (`mmjax.systems.system.Track`).
- The batch is the whole array: under `jit` on a mesh these are the moments of the global batch. With gradient
  accumulation they are those of a microbatch, and their mean is tracked.

The attention pool asks one question, from the mean, and so saves the queries that the released code computes
for every position and drops: 12.22 GFLOP of RN50 there are 11.59 here.

Axes: B batch, H/W image height and width, C channels, N grid positions, E embedding.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.layers.attention import Attention
from mmjax.layers.embeddings import PositionEmbedding, standardize
from mmjax.layers.partitioning import constrain, named

TRACKED = "tracked"  # the collection of what a batch shows of the running moments
STATISTICS = ("mean", "var")  # names of the parameters that are running moments


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """A residual tower and the pixels it expects.

    Attributes:
      depths: bottleneck blocks in each of the four stages.
      width: channels after the stem; the last stage puts out 32 times as many.
      embedding: width of the pooled feature; the attention pool ends in a projection of its own.
      head_dim: of the attention pool.
      mean, std: standardisation of pixels in [0, 1], applied to uint8 input.
    """

    image_size: int
    depths: tuple[int, ...]
    width: int
    embedding: int
    head_dim: int = 64
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    dtype: str = "float32"

    def __post_init__(self):
        if self.image_size % 32 or self.width * 32 % self.head_dim or len(self.depths) != 4:
            raise ValueError(
                f"a residual tower has 4 depths, an image_size that 32 divides and a head_dim that divides "
                f"32 * width; here {self.depths}, {self.image_size}, {self.head_dim} and {self.width}"
            )

    def tower(self) -> "ResNet":
        """The module of this config."""
        return ResNet(self)


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) of float[B, H, W, C] per channel, in float32.

    The running variance follows the unbiased estimate while the batch is divided by the biased one: PyTorch's
    rule, under which the released towers were trained.
    """

    scale_init: nn.initializers.Initializer = nn.initializers.ones
    epsilon: float = 1e-5
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float[B, H, W, C] -> the same; see the module's docstring for the two modes."""
        shape = x.shape[-1:]
        scale = self.param("scale", named(self.scale_init, None), shape)
        bias = self.param("bias", named(nn.initializers.zeros, None), shape)
        running = [
            self.param("mean", named(nn.initializers.zeros, None), shape),
            self.param("var", named(nn.initializers.ones, None), shape),
        ]
        x = x.astype(jnp.float32)
        if self.is_mutable_collection(TRACKED):
            mean = x.mean((0, 1, 2))
            var = jnp.square(x - mean).mean((0, 1, 2))
            count = x.size // x.shape[-1]
            self._track(mean=mean, var=var * (count / max(count - 1, 1)))
        else:
            mean, var = jax.lax.stop_gradient(running)
        return ((x - mean) * (jax.lax.rsqrt(var + self.epsilon) * scale) + bias).astype(self.dtype)

    def _track(self, **moments: jax.Array) -> None:
        for name, value in moments.items():
            value = jax.lax.stop_gradient(value)
            self.sow(TRACKED, name, value, init_fn=lambda: None, reduce_fn=lambda _, new: new)


def _convolution(channels: int, kernel: int, dtype: str, *, name: str, stride: int = 1) -> nn.Module:
    init = named(nn.initializers.he_normal(), None, None, None, None)
    padding = [(kernel // 2, kernel // 2)] * 2
    settings = dict(use_bias=False, kernel_init=init, dtype=dtype, name=name)
    return nn.Conv(channels, (kernel, kernel), stride, padding=padding, **settings)


def _shrink(x: jax.Array, factor: int) -> jax.Array:
    return x if factor == 1 else nn.avg_pool(x, (factor, factor), (factor, factor))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, each normalised; the last norm starts at zero, so that a fresh block is its shortcut.

    Attributes:
      width: inner channels; four times as many come out.
      stride: side of the average pool behind the 3x3 and in front of the shortcut's projection.
    """

    width: int
    stride: int = 1
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, _=None) -> tuple[jax.Array, None]:
        """float[B, H, W, C] -> float[B, H / stride, W / stride, 4 * width]; None is what a scan stacks."""
        out, d = 4 * self.width, self.dtype
        y = nn.relu(BatchNorm(dtype=d, name="norm1")(_convolution(self.width, 1, d, name="conv1")(x)))
        y = nn.relu(BatchNorm(dtype=d, name="norm2")(_convolution(self.width, 3, d, name="conv2")(y)))
        y = _convolution(out, 1, d, name="conv3")(_shrink(y, self.stride))
        y = BatchNorm(nn.initializers.zeros, dtype=d, name="norm3")(y)
        if self.stride > 1 or x.shape[-1] != out:
            x = _convolution(out, 1, d, name="shortcut")(_shrink(x, self.stride))
            x = BatchNorm(dtype=d, name="shortcut_norm")(x)
        return nn.relu(x + y), None


class Stage(nn.Module):
    """A block that changes the shape, then equal ones in one `scan`: compiled once, parameters stacked."""

    depth: int
    width: int
    stride: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float[B, H, W, C] -> float[B, H / stride, W / stride, 4 * width]."""
        x, _ = Bottleneck(self.width, self.stride, self.dtype, name="first")(x)
        if self.depth > 1:
            rest = nn.scan(
                Bottleneck,
                variable_axes={"params": 0, TRACKED: 0},
                split_rngs={"params": True},
                length=self.depth - 1,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )
            x, _ = rest(self.width, dtype=self.dtype, name="layers")(x, None)
        return constrain(x, "batch", None, None, None)


class AttentionPool(nn.Module):
    """One attention read of a grid by its own mean, with learned positions and a projection at the end."""

    features: int
    head_dim: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, grid: jax.Array) -> jax.Array:
        """float[B, N, C] -> float[B, E]."""
        width = grid.shape[-1]
        x = jnp.concatenate([grid.mean(axis=1, keepdims=True), grid], axis=1)
        x = PositionEmbedding(x.shape[1], width, width**-0.5, name="positions")(x)
        heads = dict(heads=width // self.head_dim, head_dim=self.head_dim)
        pool = Attention(features=self.features, **heads, dtype=self.dtype, name="attention")
        return pool(x[:, :1], x)[0][:, 0]


class ResNet(nn.Module):
    """Pictures in, grid features and one pooled feature out: what `VisionTransformer` offers."""

    config: ResNetConfig

    @nn.compact
    def __call__(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """image: uint8 or standardised float[B, H, W, 3].

        Returns:
          features: float[B, N, 32 * width] of the last stage, row by row, N = H / 32 * W / 32.
          pooled: float[B, E].
        """
        c, d = self.config, self.config.dtype
        x = standardize(image, c.mean, c.std).astype(d)
        for index, (channels, stride) in enumerate([(c.width // 2, 2), (c.width // 2, 1), (c.width, 1)], 1):
            x = _convolution(channels, 3, d, name=f"stem_conv{index}", stride=stride)(x)
            x = nn.relu(BatchNorm(dtype=d, name=f"stem_norm{index}")(x))
        x = constrain(_shrink(x, 2), "batch", None, None, None)
        for index, depth in enumerate(c.depths):
            x = Stage(depth, c.width * 2**index, 2 if index else 1, d, name=f"stage{index + 1}")(x)
        grid = x.reshape(x.shape[0], -1, x.shape[-1])
        return grid, AttentionPool(c.embedding, c.head_dim, d, name="pool")(grid)
