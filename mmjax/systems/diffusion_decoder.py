"""A diffusion transformer that draws what an embedding describes.

The network is `mmjax.diffusion.denoiser` with a CLIP embedding for its summary, as in unCLIP (Ramesh et al.
2022), and cross-attention to context tokens where there are any. Conditions are dropped at random in
training, so that one network also knows the unconditional distribution (classifier-free guidance).

Axes: B batch, H/W/C picture, E CLIP embedding, N context tokens, D width.
"""

import dataclasses

import jax
import jax.numpy as jnp

from mmjax.diffusion.denoiser import Denoiser, DenoiserConfig
from mmjax.diffusion.guidance import Guidance
from mmjax.diffusion.process import FlowMatching, Process
from mmjax.diffusion.samplers import Euler, Sampler
from mmjax.layers.embeddings import standardize
from mmjax.objectives.diffusion import denoising
from mmjax.systems.clip import CLIP
from mmjax.systems.system import FREEZE, TRAIN, System

GUIDANCE = Guidance()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionDecoder(System):
    """Draws pictures from CLIP embeddings of captions or of other pictures.

    Attributes:
      clip: the frozen encoder whose embeddings are the condition.
      denoiser: its `image_size` may be smaller than that of the pictures: it then draws small ones, which are
        enlarged.
      embedding_source: 'text' or 'image': which embedding the network is trained on.
      drop: share of training rows whose condition is dropped.
      guidance: what is guided when drawing, and when; how much is said at each drawing.
    """

    clip: CLIP
    denoiser: DenoiserConfig
    process: Process = FlowMatching()
    sampler: Sampler = Euler()
    guidance: Guidance = GUIDANCE
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
        embedding = jnp.zeros((1, self.clip.embedding))
        context = None if c.context is None else jnp.zeros((1, 1, c.context))
        keys = jax.random.split(key)
        x, drop = jnp.zeros((1, *c.shape)), jnp.zeros(1, bool)
        network = Denoiser(c).init(keys[0], x, jnp.zeros(1), embedding, context, drop)
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
        c = self.denoiser
        if "latent" in batch:
            target = batch["latent"]
        else:
            target = _resized(standardize(batch["image"][:, 0], (0.5,) * 3, (0.5,) * 3), c.image_size)
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
        condition = embedding, context, jnp.zeros(len(embedding), bool)
        dropped = (*jax.tree.map(jnp.zeros_like, (embedding, context)), jnp.ones(len(embedding), bool))

        def denoise(x, time, condition):
            return self._denoise(params, x, time, condition)

        denoise = self.guidance(denoise, condition, dropped, scale=guidance)
        shape = (len(embedding), *self.denoiser.shape)
        return self.sampler.sample(denoise, self.process, key, shape, steps)

    def draw(self, params, tokens, segment, key, *, steps, guidance):
        """Captions int[B, L] -> pictures float32[B, H, W, 3] in [0, 1]."""
        embedding = self.clip.encode_text(params["clip"], tokens, segment)
        return self.picture(self.sample(params, embedding, None, key, steps=steps, guidance=guidance))

    def vary(self, params, image, key, *, steps, guidance):
        """New pictures of what float or uint8[B, M, H, W, 3] shows (unCLIP's variations), in [0, 1]."""
        embedding = self.clip.encode_image(params["clip"], image)
        return self.picture(self.sample(params, embedding, None, key, steps=steps, guidance=guidance))

    def picture(self, sample):
        """Samples in [-1, 1], of the denoiser's size -> pictures in [0, 1], of the size CLIP sees."""
        return pixels(_resized(sample, self.clip.vision.image_size))


def _resized(x: jax.Array, size: int) -> jax.Array:
    """float[B, H, W, C] -> float[B, size, size, C], smoothed before it is made smaller."""
    return jax.image.resize(x, (len(x), size, size, x.shape[-1]), "cubic")


def pixels(x: jax.Array) -> jax.Array:
    """[-1, 1] -> [0, 1], clipped."""
    return jnp.clip((x + 1) / 2, 0.0, 1.0)
