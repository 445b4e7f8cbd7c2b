"""The diffusion transformer (Peebles & Xie 2023): a network that denoises, whatever its conditions are.

    noised picture -> patches -> [ adaLN-Zero blocks ] -> what the process asks for (velocity, noise, ...)
                                  ^ time + summary         ^ context tokens, by cross-attention

The summary is one vector for the whole picture: the row of a class in a learned table (DiT), or a projected
embedding (unCLIP, Ramesh et al. 2022). Cross-attention to context tokens comes where there are any. Rows with
dropped conditions see learned null ones, so that one network also knows the unconditional distribution
(classifier-free guidance).

Axes: B batch, H/W/C picture, E embedding, N context tokens, D width.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.layers.embeddings import PatchEmbed, TimeEmbedding, sincos_positions, unpatchify
from mmjax.layers.normalization import normalization
from mmjax.layers.partitioning import constrain, dense, named
from mmjax.layers.transformer import Inputs, Stack, TransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """The network.

    Attributes:
      channels: 3 for pixels, the width of the latents otherwise.
      outputs: channels of the answer, twice as many with a learned variance; None for `channels`.
      classes: how many classes the summary tells apart; None where it is an embedding.
      context: width of the context tokens; None for a network without cross-attention.
      transformer: `conditioned` and the sublayers follow from the above.
    """

    image_size: int
    patch: int
    channels: int = 3
    outputs: int | None = None
    classes: int | None = None
    context: int | None = None
    transformer: TransformerConfig

    @property
    def blocks(self) -> TransformerConfig:
        sublayers = ("self", "mlp") if self.context is None else ("self", "cross", "mlp")
        return dataclasses.replace(self.transformer, conditioned=True, sublayers=sublayers)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of what is denoised."""
        return self.image_size, self.image_size, self.channels


class Denoiser(nn.Module):
    """Predicts from a noised picture, its time and a condition."""

    config: DenoiserConfig

    @nn.compact
    def __call__(
        self, x: jax.Array, time: jax.Array, summary: jax.Array, context: jax.Array | None, drop: jax.Array
    ) -> jax.Array:
        """x float[B, H, W, C], time float[B], summary float[B, E] or a class int[B],
        context float[B, N, D'] or None, drop bool[B] -> float32[B, H, W, outputs]; zero at initialisation."""
        c, t = self.config, self.config.blocks
        condition = TimeEmbedding(t.width, dtype=t.dtype, name="time_embedding")(time)
        condition = condition + self._summary(summary, drop)

        if context is not None:
            context = dense(t.width, (None, "embed"), dtype=t.dtype, name="context_projection")(context)
            null = self.param("null_context", named(nn.initializers.normal(0.02), "embed"), (t.width,))
            context = jnp.where(drop[:, None, None], null.astype(t.dtype), context)

        tokens = PatchEmbed(t.width, c.patch, dtype=t.dtype, name="patch_embed")(x.astype(t.dtype))
        tokens = tokens + sincos_positions(c.image_size // c.patch, t.width).astype(tokens.dtype)
        tokens = constrain(tokens, "batch", "sequence", "embed")
        tokens, _ = Stack(t, name="stack")(tokens, Inputs(context=context, condition=condition))

        zeros = nn.initializers.zeros
        modulation = dense(2 * t.width, ("embed", "modulation"), init=zeros, dtype=t.dtype, name="modulation")
        shift, scale = jnp.split(modulation(jax.nn.silu(condition))[:, None], 2, axis=-1)
        norm = normalization(t.norm, epsilon=t.epsilon, affine=False, dtype=t.dtype, name="norm")
        width = c.patch**2 * (c.outputs or c.channels)
        output = dense(width, ("embed", "patch"), init=zeros, dtype=t.dtype, name="output")
        patches = output(norm(tokens) * (1 + scale) + shift)
        return unpatchify(patches, c.patch, c.image_size, c.image_size).astype(jnp.float32)

    def _summary(self, summary: jax.Array, drop: jax.Array) -> jax.Array:
        """float[B, E] or int[B], with drop bool[B] -> float[B, D]."""
        c, t, init = self.config, self.config.blocks, nn.initializers.normal(0.02)
        if c.classes is not None:
            table = self.param("class_table", named(init, None, "embed"), (c.classes + 1, t.width))
            return table[jnp.where(drop, c.classes, summary)].astype(t.dtype)
        null = self.param("null_embedding", named(init, None), summary.shape[1:])
        summary = jnp.where(drop[:, None], null, summary).astype(t.dtype)
        return dense(t.width, (None, "modulation"), dtype=t.dtype, name="embedding_projection")(summary)
