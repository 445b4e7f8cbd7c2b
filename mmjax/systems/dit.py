"""DiT (Peebles & Xie 2023): a diffusion transformer that draws members of a class.

    picture -> [frozen autoencoder] -> latent, noised -> [denoiser] -> noise and its variance
                                                             ^ time + row of the class table

The network is `mmjax.diffusion.denoiser`; of the discrete process it learns the noise and, by the variational
bound, the variance between the two sides of its range. A tenth of the labels is dropped to the table's last
row, the null class of guidance. Pictures are noised as they are where there is no autoencoder, and so are
latents that come ready with the batch.

Public code guides 3 of the 4 latent channels; `guidance=Guidance(channels=3)` reproduces that, the default
guides them all.

Axes: B batch, H/W/C picture or latent.
"""

import dataclasses

import jax
import jax.numpy as jnp

from mmjax.diffusion.denoiser import Denoiser, DenoiserConfig
from mmjax.diffusion.guidance import Guidance
from mmjax.diffusion.process import Corrupted, GaussianDiffusion
from mmjax.diffusion.samplers import DDPM, Sampler
from mmjax.errors import UserError
from mmjax.layers.embeddings import standardize
from mmjax.objectives.diffusion import Gaussian, denoising, variational_bound
from mmjax.systems.autoencoder import Autoencoder
from mmjax.systems.diffusion_decoder import pixels
from mmjax.systems.system import FREEZE, TRAIN, System

PROCESS, SAMPLER, GUIDANCE = GaussianDiffusion(learned_variance=True), DDPM(variance="learned"), Guidance()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiT(System):
    """A class-conditional diffusion transformer.

    Attributes:
      denoiser: `classes` and `channels` are those of the data; `outputs` follows from the process.
      autoencoder: makes latents of pictures and back; frozen. None to denoise what the batch holds.
      label: the key of the batch that holds the classes, int[B].
      drop: share of training rows whose class is dropped.
      bound: weight of the variational bound over all T steps (lambda of Nichol & Dhariwal 2021, section 3.1).
    """

    denoiser: DenoiserConfig
    autoencoder: Autoencoder | None = None
    process: GaussianDiffusion = PROCESS
    sampler: Sampler = SAMPLER
    guidance: Guidance = GUIDANCE
    label: str = "label"
    drop: float = 0.1
    bound: float = 1e-3

    def __post_init__(self):
        if self.denoiser.classes is None:
            raise UserError("model.denoiser.classes is None: give the number of classes.")
        if self.autoencoder is not None and self.autoencoder.latent_shape != self.denoiser.shape:
            raise UserError(
                f"model.denoiser denoises {self.denoiser.shape}, but the latents of model.autoencoder are "
                f"{self.autoencoder.latent_shape}: change image_size or channels of one."
            )

    @property
    def module(self) -> Denoiser:
        """The network, with as many outputs as the process has questions."""
        c = self.denoiser
        return Denoiser(dataclasses.replace(c, outputs=self.process.outputs(c.channels)))

    def init(self, key):
        keys, x = jax.random.split(key), jnp.zeros((1, *self.denoiser.shape))
        network = self.module.init(keys[0], x, jnp.zeros(1), jnp.zeros(1, int), None, jnp.zeros(1, bool))
        params = {"denoiser": network["params"]}
        if self.autoencoder is not None:
            params["autoencoder"] = self.autoencoder.init(keys[1])
        return params

    def treatments(self):
        return ((".*", TRAIN),) if self.autoencoder is None else ((r"autoencoder/.*", FREEZE), (".*", TRAIN))

    def loss(self, params, batch, key):
        """Noise by squared error, its variance by the bound, of the first picture of each row.

        The batch holds the classes and `image` uint8 or float[B, M, H, W, C], or `latent` float[B, H, W, C].
        """
        if self.label not in batch:
            raise UserError(
                f"the batch has no {self.label!r}: name that fact of the records in data.facts, or set "
                f"model.label to one of {sorted(batch)}."
            )
        label = batch[self.label]
        corrupt_key, drop_key, latent_key = jax.random.split(key, 3)
        corrupted = self.process.corrupt(corrupt_key, self._clean(params, batch, latent_key))
        drop = jax.random.bernoulli(drop_key, self.drop, label.shape)
        answer = self.denoise(params, corrupted.x_t, corrupted.time, (label, drop))
        prediction, fraction = self.process.split(answer)
        valid = batch["image_valid"][:, 0] if "image_valid" in batch else None
        simple = denoising(prediction, corrupted.target, weight=corrupted.weight, valid=valid)
        terms = {"denoising": (1.0, *simple)}
        if fraction is not None:
            total, count = self._bound(prediction, fraction, corrupted, valid)
            terms["bound"] = (self.bound, self.process.steps * total, count)
        return terms, {}

    def _clean(self, params, batch, key) -> jax.Array:
        """What is denoised: float[B, H, W, C]."""
        if "latent" in batch:
            return batch["latent"]
        if self.autoencoder is None:
            return standardize(batch["image"][:, 0], (0.5,) * 3, (0.5,) * 3)
        return self.autoencoder.encode(params["autoencoder"], batch["image"], key)

    def _bound(self, prediction, fraction, corrupted: Corrupted, valid):
        """The step's share of the bound, which sees only the variance."""
        process, time, x_t = self.process, corrupted.time, corrupted.x_t
        x0 = process.convert(jax.lax.stop_gradient(prediction), x_t, time)["x0"]
        small, large = (jnp.expand_dims(v, (1, 2, 3)) for v in process.log_variances(time))
        return variational_bound(
            Gaussian(process.posterior(corrupted.x0, x_t, time), small),
            Gaussian(process.posterior(x0, x_t, time), fraction * large + (1 - fraction) * small),
            corrupted.x0,
            first=time < 0.5 / process.steps,
            valid=valid,
        )

    def denoise(self, params, x, time, condition):
        """The network's answer; condition: (class int[B], drop bool[B])."""
        label, drop = condition
        return self.module.apply({"params": params["denoiser"]}, x, time, label, None, drop)

    def sample(self, params, label, key, *, steps, guidance):
        """Classes int[B] -> what the network denoises, float32[B, H, W, C]."""

        def denoise(x, time, condition):
            return self.denoise(params, x, time, condition)

        condition, null = ((label, jnp.full(label.shape, drop)) for drop in (False, True))
        denoise = self.guidance(denoise, condition, null, scale=guidance)
        shape = (len(label), *self.denoiser.shape)
        return self.sampler.sample(denoise, self.process, key, shape, steps)

    def draw_class(self, params, label, key, *, steps, guidance):
        """Classes int[B] -> pictures float32[B, H, W, 3] in [0, 1]; without an autoencoder those are what is
        denoised."""
        x = self.sample(params, label, key, steps=steps, guidance=guidance)
        if self.autoencoder is not None:
            x = self.autoencoder.decode(params["autoencoder"], x)
        return pixels(x)
