"""The KL autoencoder of latent diffusion (Rombach et al. 2022): pictures to small latents and back.

    picture -> [encoder] -> mean, log variance -> latent, scaled -> [decoder] -> picture

Encoder and decoder are ladders of residual blocks, with one attention at the bottom. A weak pull towards the
standard normal keeps the latents smooth and bounded; dividing by their standard deviation, once measured for
the data, makes them of unit size for a diffusion model.

The published models are trained with a perceptual and an adversarial term besides; here the loss is the
reconstruction and the divergence, so what this trains is blurrier than the released weights.

Axes: B batch, H/W/C picture, h/w/Z latent.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.layers.convolution import Conv, Resample, ResidualBlock, SpatialAttention, group_norm
from mmjax.layers.embeddings import standardize
from mmjax.objectives.reconstruction import absolute_error, divergence_from_normal
from mmjax.systems.system import System


@dataclasses.dataclass(frozen=True, kw_only=True)
class Autoencoder(System):
    """A convolutional autoencoder with Gaussian latents.

    Attributes:
      image_size: side of the pictures in pixels; the networks take others too.
      latent: channels Z of the latents.
      width: channels of the first level; `multipliers` are those of each level, from the picture down.
      blocks: residual blocks per level; the decoder has one more.
      scale: multiplies the latents outside of the networks.
      divergence: weight of the divergence, summed over a latent, beside the error summed over a picture.
    """

    image_size: int
    channels: int = 3
    latent: int = 4
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    groups: int = 32
    epsilon: float = 1e-6
    scale: float = 0.18215
    divergence: float = 1e-6
    dtype: str = "float32"

    def __post_init__(self):
        if self.image_size % self.reduction:
            raise UserError(
                f"image_size {self.image_size} of the autoencoder: give a multiple of {self.reduction}, "
                "by which it divides the side of a picture."
            )

    @property
    def reduction(self) -> int:
        """Pixels along a side of the picture per place of the latent."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(h, w, Z) of the latent of a picture."""
        return self.image_size // self.reduction, self.image_size // self.reduction, self.latent

    @property
    def module(self) -> "Networks":
        return Networks(self)

    def init(self, key):
        image = jnp.zeros((1, self.image_size, self.image_size, self.channels))
        return self.module.init(key, image)["params"]

    def loss(self, params, batch, key):
        """Absolute error of the reconstruction plus the divergence, each summed over a picture, as published.

        The first picture of each row: `image` uint8 or float[B, M, H, W, C], `image_valid` bool[B, M].
        """
        image, valid = self._first(batch["image"]), batch["image_valid"][:, 0]
        mean, log_variance = self.moments(params, image)
        reconstruction = self._decode(params, _sampled(mean, log_variance, key))
        return {
            "reconstruction": (1.0, *absolute_error(reconstruction, image, valid=valid)),
            "divergence": (self.divergence, *divergence_from_normal(mean, log_variance, valid=valid)),
        }, {}

    def moments(self, params, image) -> tuple[jax.Array, jax.Array]:
        """float[B, H, W, C] in [-1, 1] -> mean, log variance of the unscaled latent: float32[B, h, w, Z]."""
        return self.module.apply({"params": params}, image, method="encode")

    def encode(self, params, image, key=None):
        """The scaled latents of the first pictures of uint8 or float[B, M, H, W, C]: float32[B, h, w, Z].

        A draw from their distribution, or without a key its mean.
        """
        mean, log_variance = self.moments(params, self._first(image))
        return self.scale * (mean if key is None else _sampled(mean, log_variance, key))

    def decode(self, params, latent):
        """Scaled latents float[B, h, w, Z] -> pictures float32[B, H, W, C], about [-1, 1]."""
        return self._decode(params, latent / self.scale)

    def _decode(self, params, latent):
        return self.module.apply({"params": params}, latent, method="decode")

    def _first(self, image):
        return standardize(image[:, 0], (0.5,) * self.channels, (0.5,) * self.channels)


class Networks(nn.Module):
    """Encoder and decoder, with the linear maps of each place on both sides of the latent."""

    config: Autoencoder

    def setup(self):
        c = self.config
        few = dict(size=1, axes=(None, None), dtype=c.dtype)
        self.encoder, self.to_moments = Encoder(c), Conv(2 * c.latent, **few)
        self.from_latent, self.decoder = Conv(c.latent, **few), Decoder(c)

    def __call__(self, image: jax.Array) -> jax.Array:
        """float[B, H, W, C] -> its reconstruction from the mean latent."""
        return self.decode(self.encode(image)[0])

    def encode(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """float[B, H, W, C] -> mean and log variance, float32[B, h, w, Z] each."""
        moments = self.to_moments(self.encoder(image)).astype(jnp.float32)
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        return mean, jnp.clip(log_variance, -30.0, 20.0)

    def decode(self, latent: jax.Array) -> jax.Array:
        """float[B, h, w, Z] -> float32[B, H, W, C]."""
        return self.decoder(self.from_latent(latent)).astype(jnp.float32)


class Encoder(nn.Module):
    """float[B, H, W, C] -> float[B, h, w, 2 Z]."""

    config: Autoencoder

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        x = Conv(c.width, dtype=c.dtype, name="input")(x)
        for level, multiplier in enumerate(c.multipliers):
            for block in range(c.blocks):
                x = _block(c, c.width * multiplier, f"down_{level}_{block}")(x)
            if level < len(c.multipliers) - 1:
                x = Resample("down", dtype=c.dtype, name=f"down_{level}_resample")(x)
        return _output(c, 2 * c.latent, _middle(c, x))


class Decoder(nn.Module):
    """float[B, h, w, Z] -> float[B, H, W, C]. Levels count from the latent up."""

    config: Autoencoder

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        x = _middle(c, Conv(c.width * c.multipliers[-1], dtype=c.dtype, name="input")(x))
        for level, multiplier in enumerate(reversed(c.multipliers)):
            for block in range(c.blocks + 1):
                x = _block(c, c.width * multiplier, f"up_{level}_{block}")(x)
            if level < len(c.multipliers) - 1:
                x = Resample("up", dtype=c.dtype, name=f"up_{level}_resample")(x)
        return _output(c, c.channels, x)


def _block(c: Autoencoder, features: int, name: str) -> ResidualBlock:
    return ResidualBlock(features, groups=c.groups, epsilon=c.epsilon, dtype=c.dtype, name=name)


def _middle(c: Autoencoder, x: jax.Array) -> jax.Array:
    x = _block(c, x.shape[-1], "middle_0")(x)
    x = SpatialAttention(c.groups, c.epsilon, dtype=c.dtype, name="middle_attention")(x)
    return _block(c, x.shape[-1], "middle_1")(x)


def _output(c: Autoencoder, features: int, x: jax.Array) -> jax.Array:
    x = jax.nn.silu(group_norm(c.groups, epsilon=c.epsilon, dtype=c.dtype, name="norm")(x))
    return Conv(features, axes=("embed", None), dtype=c.dtype, name="output")(x)


def _sampled(mean: jax.Array, log_variance: jax.Array, key: jax.Array) -> jax.Array:
    return mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
