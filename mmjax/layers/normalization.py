"""Normalisation layers: statistics in float32 whatever the compute type, scales and shifts optional."""

from flax import linen as nn

from mmjax.layers.partitioning import named


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
    axes = tuple(range(-len(axis_names), 0))
    settings = dict(
        epsilon=epsilon,
        use_scale=affine,
        scale_init=named(nn.initializers.ones, *axis_names),
        reduction_axes=axes,
        feature_axes=axes,
        dtype=dtype,
        name=name,
    )
    if kind == "rms":
        return nn.RMSNorm(**settings)
    if kind in ("layer", "layer_no_bias"):
        return nn.LayerNorm(
            use_bias=affine and kind == "layer",
            bias_init=named(nn.initializers.zeros, *axis_names),
            use_fast_variance=False,  # E[x^2] - E[x]^2 cancels badly for large means
            **settings,
        )
    raise ValueError(f"unknown norm {kind!r}: expected 'layer', 'layer_no_bias' or 'rms'")
