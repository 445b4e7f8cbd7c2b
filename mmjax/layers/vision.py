"""The vision transformer (Dosovitskiy et al. 2021) in the variants that CLIP and SigLIP publish.

Axes: B batch, H/W image height and width, N patches (plus one with a class token), D width.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.layers.embeddings import PatchEmbed, PositionEmbedding, standardize
from mmjax.layers.normalization import normalization
from mmjax.layers.partitioning import constrain, named
from mmjax.layers.queries import MAPHead
from mmjax.layers.transformer import Inputs, Stack, TransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A vision transformer and the pixels it expects.

    Attributes:
      pool: 'class' (a class token), 'map' (attention pooling) or 'mean'.
      positions_initial: standard deviation of a fresh position table; None for 1 / sqrt(width), as in
        OpenAI's CLIP. Where little else tells places apart, 1 lets a small tower see them sooner.
      pre_norm: normalise the embedded patches before the first block (CLIP's ln_pre).
      features: 'normalized' (all tokens, after the last norm), 'states' (all tokens, before it; IDEFICS) or
        'patches' (before it, without the class token; OpenFlamingo).
      mean, std: standardisation of pixels in [0, 1], applied to uint8 input.
    """

    image_size: int
    patch: int
    pool: str = "class"
    positions_initial: float | None = None
    pre_norm: bool = False
    patch_bias: bool = True
    features: str = "normalized"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    transformer: TransformerConfig

    @property
    def features_shape(self) -> tuple[int, int]:
        """(N, D) of the features of one picture."""
        has_class = self.pool == "class" and self.features != "patches"
        return (self.image_size // self.patch) ** 2 + has_class, self.transformer.width

    def tower(self) -> "VisionTransformer":
        """The module of this config."""
        return VisionTransformer(self)


class VisionTransformer(nn.Module):
    """Pictures in, patch features and one pooled feature out."""

    config: VisionConfig

    @nn.compact
    def __call__(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """image: uint8 or standardised float[B, H, W, 3].

        Returns:
          features: float[B, N, D] as `VisionConfig.features` says; the class token, if any, comes first.
          pooled: float[B, D].
        """
        c, t = self.config, self.config.transformer

        def norm(name):
            return normalization(t.norm, epsilon=t.epsilon, dtype=t.dtype, name=name)

        # A patch convolution drops the pixels that fill no patch: SigLIP's So400m/14 sees 378 of 384.
        height, width = (side // c.patch * c.patch for side in image.shape[1:3])
        x = standardize(image[:, :height, :width], c.mean, c.std).astype(t.dtype)
        x = PatchEmbed(t.width, c.patch, bias=c.patch_bias, dtype=t.dtype, name="patch_embed")(x)
        if c.pool == "class":
            init = named(nn.initializers.normal(t.width**-0.5), None, None, "embed")
            token = self.param("class_token", init, (1, 1, t.width)).astype(t.dtype)
            x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, t.width)), x], axis=1)
        stddev = t.width**-0.5 if c.positions_initial is None else c.positions_initial
        x = PositionEmbedding(x.shape[1], t.width, stddev, name="positions")(x)
        x = constrain(x, "batch", "sequence", "embed")
        if c.pre_norm:
            x = norm("pre_norm")(x)
        states, _ = Stack(t, name="stack")(x, Inputs())
        x = norm("norm")(states)
        match c.pool:
            case "class":
                pooled = x[:, 0]
            case "map":
                settings = dict(mlp_width=t.mlp_width, activation=t.activation, epsilon=t.epsilon)
                pooled = MAPHead(t.heads, dtype=t.dtype, **settings, name="head")(x)
            case "mean":
                pooled = x.mean(axis=1)
            case _:
                raise ValueError(f"unknown pool {c.pool!r}: expected 'class', 'map' or 'mean'")
        match c.features:
            case "normalized":
                return x, pooled
            case "states":
                return states, pooled
            case "patches":
                return states[:, 1:] if c.pool == "class" else states, pooled
        raise ValueError(f"unknown features {c.features!r}: expected 'normalized', 'states' or 'patches'")
