"""Learned queries that read a variable set into a fixed one.

Axes: B batch, S features read, Q queries, D width of the queries, M media, F frames.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.layers.attention import Attention
from mmjax.layers.normalization import normalization
from mmjax.layers.partitioning import named
from mmjax.layers.transformer import MLP, Inputs, Stack, TransformerConfig


class MAPHead(nn.Module):
    """Multi-head attention pooling (Zhai et al. 2022; the head of SigLIP).

    One learned probe reads the features; there is no residual around the probe, but one around the MLP.
    """

    heads: int
    mlp_width: int | None = None
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    dtype: str = "float32"

    @nn.compact
    def __call__(self, features: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """features: float[B, S, D], mask: bool[B, S] or None -> float[B, D]."""
        batch, _, width = features.shape
        probe = self.param(
            "probe", named(nn.initializers.xavier_uniform(), None, None, "embed"), (1, 1, width)
        )
        probe = jnp.broadcast_to(probe, (batch, 1, width)).astype(self.dtype)
        attention = Attention(
            features=width, heads=self.heads, head_dim=width // self.heads, dtype=self.dtype, name="attention"
        )
        x, _ = attention(probe, features, mask=None if mask is None else mask[:, None])
        y = normalization("layer", epsilon=self.epsilon, dtype=self.dtype, name="norm")(x)
        hidden = self.mlp_width or 4 * width
        x = x + MLP(width=width, hidden=hidden, activation=self.activation, dtype=self.dtype, name="mlp")(y)
        return x[:, 0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResamplerConfig:
    """The Perceiver resampler of Flamingo (Alayrac et al. 2022, section 3.1.1 and appendix A.1.1).

    Attributes:
      queries: latents per medium.
      frames: longest video the learned frame embedding covers; 0 for no frame embedding.
      transformer: its sublayers are ('cross', 'mlp'), each query reading the features and the queries.
    """

    queries: int = 64
    frames: int = 0
    transformer: TransformerConfig


def resampler_transformer(**fields) -> TransformerConfig:
    """What makes a transformer a resampler: no biases, each query reads the features and the queries."""
    return TransformerConfig(
        **dict(
            sublayers=("cross", "mlp"),
            context_norm=True,
            context_with_queries=True,
            attention_bias=False,
            mlp_bias=False,
        )
        | fields
    )


class PerceiverResampler(nn.Module):
    """Any number of visual features per medium -> `queries` of them."""

    config: ResamplerConfig

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """float[B, M, F, S, D] -> float[B, M, Q, D]: frames of one medium are read together."""
        c = self.config
        batch, media, frames, length, width = features.shape
        if c.frames:
            init = named(nn.initializers.normal(1.0), None, "embed")
            features = features + self.param("frame_embedding", init, (c.frames, width))[:frames, None]
        features = features.reshape(batch * media, frames * length, width)
        latents = self.param(
            "latents", named(nn.initializers.normal(1.0), "latent", "embed"), (c.queries, c.transformer.width)
        )
        latents = jnp.broadcast_to(latents, (batch * media, *latents.shape)).astype(c.transformer.dtype)
        latents, _ = Stack(c.transformer, name="stack")(latents, Inputs(context=features))
        latents = normalization(
            c.transformer.norm, epsilon=c.transformer.epsilon, dtype=c.transformer.dtype, name="norm"
        )(latents)
        return latents.reshape(batch, media, c.queries, -1)
