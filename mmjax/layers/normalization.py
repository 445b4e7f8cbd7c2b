"""Normalisation layers: statistics in float32 whatever the compute type, scales and shifts optional."""

from flax import linen as nn

from mmjax.layers.partitioning import named


def normalization(
    kind: str,
    *,
    epsilon: float = 1e-5,
    affine: bool = True,
    axis_name: str | None = "embed",
    dtype: str = "float32",
    name: str | None = None,
) -> nn.Module:
    """A norm over the last axis.

    Args:
      kind: 'layer' (Ba et al. 2016) or 'rms' (Zhang & Sennrich 2019).
      affine: learn a scale (and, for 'layer', a shift).

    Raises:
      ValueError: an unknown kind.
    """
    scale_init = named(nn.initializers.ones, axis_name)
    if kind == "rms":
        return nn.RMSNorm(epsilon=epsilon, use_scale=affine, scale_init=scale_init, dtype=dtype, name=name)
    if kind == "layer":
        return nn.LayerNorm(
            epsilon=epsilon,
            use_scale=affine,
            use_bias=affine,
            scale_init=scale_init,
            bias_init=named(nn.initializers.zeros, axis_name),
            use_fast_variance=False,  # E[x^2] - E[x]^2 cancels badly for large means
            dtype=dtype,
            name=name,
        )
    raise ValueError(f"unknown norm {kind!r}: expected 'layer' or 'rms'")
