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
      pre_norm: normalise the embedded patches before the first block (CLIP's ln_pre).
      mean, std: standardisation of pixels in [0, 1], applied to uint8 input.
    """

    image_size: int
    patch: int
    pool: str = "class"
    pre_norm: bool = False
    patch_bias: bool = True
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    transformer: TransformerConfig


class VisionTransformer(nn.Module):
    """Pictures in, patch features and one pooled feature out."""

    config: VisionConfig

    @nn.compact
    def __call__(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """image: uint8 or standardised float[B, H, W, 3].

        Returns:
          features: float[B, N, D] after the last norm; the class token, if there is one, comes first.
          pooled: float[B, D].
        """
        c, t = self.config, self.config.transformer

        def norm(name):
            return normalization(t.norm, epsilon=t.epsilon, dtype=t.dtype, name=name)

        x = standardize(image, c.mean, c.std).astype(t.dtype)
        x = PatchEmbed(t.width, c.patch, bias=c.patch_bias, dtype=t.dtype, name="patch_embed")(x)
        if c.pool == "class":
            init = named(nn.initializers.normal(t.width**-0.5), None, None, "embed")
            token = self.param("class_token", init, (1, 1, t.width)).astype(t.dtype)
            x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, t.width)), x], axis=1)
        x = PositionEmbedding(x.shape[1], t.width, t.width**-0.5, name="positions")(x)
        x = constrain(x, "batch", "sequence", "embed")
        if c.pre_norm:
            x = norm("pre_norm")(x)
        x, _ = Stack(t, name="stack")(x, Inputs())
        x = norm("norm")(x)
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
        return x, pooled
