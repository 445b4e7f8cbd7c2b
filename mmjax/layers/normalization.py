"""Normalisation layers: statistics in float32 whatever the compute type, scales and shifts optional."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.layers.partitioning import named

KINDS = ("layer", "layer_no_bias", "rms")


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def normalize(
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    axes: tuple[int, ...],
    epsilon: float,
    centered: bool,
) -> jax.Array:
    """scale * (x - m) r + bias, r the inverse root of the mean square of what it multiplies.

    The backward pass keeps x as it is and two numbers per row. With y = (x - m) r and g = scale * dL/d(out),
    dL/dx = r (g - mean(g) - y mean(g y)). To differentiate the statistics instead takes one mean more, and
    keeps three float32 arrays of the size of x.

    Args:
      x: any float[...]; its statistics, and the result, are in float32.
      scale, bias: float[...] of the last axes of x; None for none.
      axes: the last ones, over which means go.
      epsilon: added to the mean square.
      centered: m is the mean (LayerNorm), otherwise 0 (RMSNorm), and mean(g) is left out.
    """
    return _normalize(x, scale, bias, axes, epsilon, centered)[0]


def _normalize(x, scale, bias, axes, epsilon, centered):
    mean = jnp.mean(x, axes, jnp.float32, keepdims=True) if centered else jnp.float32(0)
    # Not E[x^2] - E[x]^2, which cancels badly for large means.
    squares = jnp.square(x.astype(jnp.float32) - mean)
    rate = jax.lax.rsqrt(jnp.mean(squares, axes, keepdims=True) + epsilon)
    out = (x.astype(jnp.float32) - mean) * rate
    out = out if scale is None else out * scale
    return out if bias is None else out + bias, (x, mean, rate, scale, bias)


def _normalize_backward(axes, epsilon, centered, saved, d_out):
    x, mean, rate, scale, bias = saved
    rows = tuple(range(x.ndim - len(axes)))
    y = (x.astype(jnp.float32) - mean) * rate
    g = d_out if scale is None else d_out * scale
    d_x = g - y * jnp.mean(g * y, axes, keepdims=True)
    if centered:
        d_x = d_x - jnp.mean(g, axes, keepdims=True)
    d_scale = None if scale is None else jnp.sum(d_out * y, rows).astype(scale.dtype)
    d_bias = None if bias is None else jnp.sum(d_out, rows).astype(bias.dtype)
    return (d_x * rate).astype(x.dtype), d_scale, d_bias


normalize.defvjp(_normalize, _normalize_backward)


class Normalization(nn.Module):
    """`normalize` with what is learned; see `normalization`."""

    kind: str
    epsilon: float
    affine: bool
    axis_names: tuple[str | None, ...]
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        axes = tuple(range(-len(self.axis_names), 0))
        shape, scale, bias = x.shape[axes[0] :], None, None
        if self.affine:
            scale = self.param("scale", named(nn.initializers.ones, *self.axis_names), shape)
        if self.affine and self.kind == "layer":
            bias = self.param("bias", named(nn.initializers.zeros, *self.axis_names), shape)
        return normalize(x, scale, bias, axes, self.epsilon, self.kind != "rms").astype(self.dtype)


def normalization(
    kind: str,
    *,
    epsilon: float = 1e-5,
    affine: bool = True,
    axis_names: tuple[str | None, ...] = ("embed",),
    dtype: str = "float32",
    name: str | None = None,
) -> nn.Module:
    """A norm over the last axes, one by default.

    Args:
      kind: 'layer' (Ba et al. 2016), 'layer_no_bias' (the same without a shift; MPT) or 'rms' (Zhang &
        Sennrich 2019).
      affine: learn a scale (and, for 'layer', a shift).
      axis_names: logical names of the axes that are normalised together.

    Raises:
      ValueError: an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown norm {kind!r}: expected one of {KINDS}")
    return Normalization(kind, epsilon, affine, axis_names, dtype, name=name)
