"""A diffusion transformer that draws what an embedding describes.

    noised picture -> patches -> [ adaLN-Zero blocks ] -> what the process asks for (velocity, noise, ...)
                                  ^ time + embedding       ^ context tokens, by cross-attention

The network is DiT (Peebles & Xie 2023) with the class label replaced by a CLIP embedding, as in unCLIP
(Ramesh et al. 2022), and cross-attention to context tokens where there are any. Conditions are dropped at
random in training, so that one network also knows the unconditional distribution (classifier-free guidance).

Axes: B batch, H/W/C picture, E CLIP embedding, N context tokens, D width.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.diffusion.guidance import classifier_free
from mmjax.diffusion.process import FlowMatching, Process
from mmjax.diffusion.samplers import Euler, Sampler
from mmjax.layers.embeddings import PatchEmbed, TimeEmbedding, sincos_positions, standardize, unpatchify
from mmjax.layers.normalization import normalization
from mmjax.layers.partitioning import constrain, dense, named
from mmjax.layers.transformer import Inputs, Stack, TransformerConfig
from mmjax.objectives.diffusion import denoising
from mmjax.systems.clip import CLIP
from mmjax.systems.system import FREEZE, TRAIN, System


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """The network.

    Attributes:
      channels: 3 for pixels, the width of the latents otherwise.
      context: width of the context tokens; None for a network without cross-attention.
      transformer: `conditioned` and the sublayers follow from the above.
    """

    image_size: int
    patch: int
    channels: int = 3
    context: int | None = None
    transformer: TransformerConfig

    @property
    def blocks(self) -> TransformerConfig:
        sublayers = ("self", "mlp") if self.context is None else ("self", "cross", "mlp")
        return dataclasses.replace(self.transformer, conditioned=True, sublayers=sublayers)


class Denoiser(nn.Module):
    """Predicts from a noised picture, its time and a condition."""

    config: DenoiserConfig

    @nn.compact
    def __call__(
        self, x: jax.Array, time: jax.Array, embedding: jax.Array, context: jax.Array | None, drop: jax.Array
    ) -> jax.Array:
        """x float[B, H, W, C], time float[B], embedding float[B, E], context float[B, N, D'], drop bool[B]
        -> float32[B, H, W, C]; zero at initialisation."""
        c, t = self.config, self.config.blocks
        keep = ~drop[:, None]

        null = self.param("null_embedding", named(nn.initializers.normal(0.02), None), embedding.shape[1:])
        embedding = jnp.where(keep, embedding, null).astype(t.dtype)
        project = dense(t.width, (None, "modulation"), dtype=t.dtype, name="embedding_projection")
        condition = TimeEmbedding(t.width, dtype=t.dtype, name="time_embedding")(time) + project(embedding)

        if context is not None:
            context = dense(t.width, (None, "embed"), dtype=t.dtype, name="context_projection")(context)
            null = self.param("null_context", named(nn.initializers.normal(0.02), "embed"), (t.width,))
            context = jnp.where(keep[:, :, None], context, null.astype(t.dtype))

        tokens = PatchEmbed(t.width, c.patch, dtype=t.dtype, name="patch_embed")(x.astype(t.dtype))
        tokens = tokens + sincos_positions(c.image_size // c.patch, t.width).astype(tokens.dtype)
        tokens = constrain(tokens, "batch", "sequence", "embed")
        tokens, _ = Stack(t, name="stack")(tokens, Inputs(context=context, condition=condition))

        zeros = nn.initializers.zeros
        modulation = dense(2 * t.width, ("embed", "modulation"), init=zeros, dtype=t.dtype, name="modulation")
        shift, scale = jnp.split(modulation(jax.nn.silu(condition))[:, None], 2, axis=-1)
        norm = normalization(t.norm, epsilon=t.epsilon, affine=False, dtype=t.dtype, name="norm")
        width = c.patch**2 * c.channels
        output = dense(width, ("embed", "patch"), init=zeros, dtype=t.dtype, name="output")
        patches = output(norm(tokens) * (1 + scale) + shift)
        return unpatchify(patches, c.patch, c.image_size, c.image_size).astype(jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionDecoder(System):
    """Draws pictures from CLIP embeddings of captions or of other pictures.

    Attributes:
      clip: the frozen encoder whose embeddings are the condition.
      embedding_source: 'text' or 'image': which embedding the network is trained on.
      drop: share of training rows whose condition is dropped.
    """

    clip: CLIP
    denoiser: DenoiserConfig
    process: Process = FlowMatching()
    sampler: Sampler = Euler()
    embedding_source: str = "text"
    drop: float = 0.1

    def __post_init__(self):
        if self.embedding_source not in ("text", "image"):
            source = self.embedding_source
            raise ValueError(f"model.embedding_source is {source!r}: expected 'text' or 'image'")

    def treatments(self):
        return ((r"clip/.*", FREEZE), (".*", TRAIN))

    def init(self, key):
        c = self.denoiser
        shape = (1, c.image_size, c.image_size, c.channels)
        embedding = jnp.zeros((1, self.clip.embedding))
        context = None if c.context is None else jnp.zeros((1, 1, c.context))
        keys = jax.random.split(key)
        drop = jnp.zeros(1, bool)
        network = Denoiser(c).init(keys[0], jnp.zeros(shape), jnp.zeros(1), embedding, context, drop)
        return {"clip": self.clip.init(keys[1]), "denoiser": network["params"]}

    def loss(self, params, batch, key):
        if self.embedding_source == "text":
            embedding = self.clip.encode_text(params["clip"], batch["tokens"])
        else:
            embedding = self.clip.encode_image(params["clip"], batch["image"])
        return self.denoising_loss(params, batch, embedding, None, key)

    def denoising_loss(self, params, batch, embedding, context, key):
        """Loss on the first medium of each row, or on `latent` float[B, H, W, C] if the batch has it.

        embedding: unit float[B, E]; context: float[B, N, D'] or None.
        """
        if "latent" in batch:
            target = batch["latent"]
        else:
            target = standardize(batch["image"][:, 0], (0.5,) * 3, (0.5,) * 3)
        corruption_key, drop_key = jax.random.split(key)
        corrupted = self.process.corrupt(corruption_key, target)
        drop = jax.random.bernoulli(drop_key, self.drop, target.shape[:1])
        condition = jax.lax.stop_gradient(embedding), context, drop
        prediction = self._denoise(params, corrupted.x_t, corrupted.time, condition)
        valid = batch["image_valid"][:, 0]
        total, count = denoising(prediction, corrupted.target, weight=corrupted.weight, valid=valid)
        return {"denoising": (1.0, total, count)}, {}

    def _denoise(self, params, x, time, condition):
        embedding, context, drop = condition
        # Unit vectors have entries of size 1 / sqrt(E); the network wants entries of size 1.
        embedding = embedding * self.clip.embedding**0.5
        variables = {"params": params["denoiser"]}
        return Denoiser(self.denoiser).apply(variables, x, time, embedding, context, drop)

    def sample(self, params, embedding, context, key, *, steps, guidance):
        """Unit embeddings float[B, E] and context -> float32[B, H, W, C] in [-1, 1], or latents."""
        c = self.denoiser
        condition = embedding, context, jnp.zeros(len(embedding), bool)
        dropped = (*jax.tree.map(jnp.zeros_like, (embedding, context)), jnp.ones(len(embedding), bool))

        def denoise(x, time, condition):
            return self._denoise(params, x, time, condition)

        denoise = classifier_free(denoise, condition, dropped, scale=guidance)
        shape = (len(embedding), c.image_size, c.image_size, c.channels)
        return self.sampler.sample(denoise, self.process, key, shape, steps)

    def draw(self, params, tokens, segment, key, *, steps, guidance):
        """Captions int[B, L] -> pictures float32[B, H, W, 3] in [0, 1]."""
        embedding = self.clip.encode_text(params["clip"], tokens, segment)
        return pixels(self.sample(params, embedding, None, key, steps=steps, guidance=guidance))

    def vary(self, params, image, key, *, steps, guidance):
        """New pictures of what float or uint8[B, M, H, W, 3] shows (unCLIP's variations), in [0, 1]."""
        embedding = self.clip.encode_image(params["clip"], image)
        return pixels(self.sample(params, embedding, None, key, steps=steps, guidance=guidance))


def pixels(x: jax.Array) -> jax.Array:
    """[-1, 1] -> [0, 1], clipped."""
    return jnp.clip((x + 1) / 2, 0.0, 1.0)
