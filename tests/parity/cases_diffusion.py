"""The mmjax side of the recordings of diffusion: the transformer and the autoencoder of the latents."""

import jax.numpy as jnp
from cases import Case

from mmjax.diffusion.denoiser import Denoiser, DenoiserConfig
from mmjax.interop.tables import autoencoder as autoencoder_names
from mmjax.interop.tables import dit as dit_names
from mmjax.layers.transformer import TransformerConfig
from mmjax.objectives.reconstruction import absolute_error, divergence_from_normal
from mmjax.systems.autoencoder import Autoencoder, Networks


def dit(sizes, **options):
    transformer = TransformerConfig(
        depth=sizes["depth"], width=sizes["width"], heads=sizes["heads"], epsilon=1e-6, **options
    )
    module = Denoiser(
        DenoiserConfig(
            image_size=sizes["size"],
            patch=sizes["patch"],
            channels=sizes["channels"],
            outputs=2 * sizes["channels"],
            classes=sizes["classes"],
            transformer=transformer,
        )
    )

    def run(apply, i):
        # The row that the reference gives the null class is dropped here, whatever its class.
        drop = i["label"] == sizes["classes"]
        return {"y": apply(i["image"], i["time"], jnp.where(drop, 0, i["label"]), None, drop)}

    # One copy of the embeddings: the recording shares them among the blocks, as DiT does.
    return Case(module=module, run=run, table=dit_names.dit(1, sizes["channels"]), depth=sizes["depth"])


def autoencoder(sizes, **options):
    widths = sizes["widths"]
    config = Autoencoder(
        image_size=sizes["size"],
        channels=sizes["channels"],
        latent=sizes["latent"],
        width=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        blocks=sizes["blocks"],
        groups=sizes["groups"],
    )

    def measure(networks, image):
        mean, log_variance = networks.encode(image)
        return mean, log_variance, networks.decode(mean)

    def run(apply, i):
        mean, log_variance, back = apply(i["image"], method=measure)
        valid = jnp.ones(len(mean), bool)
        error, count = absolute_error(back, i["image"], valid=valid)
        divergence, _ = divergence_from_normal(mean, log_variance, valid=valid)
        loss = (error + 0.1 * divergence) / count
        return {"mean": mean, "log_variance": log_variance, "image": back, "loss": loss}

    table = autoencoder_names.autoencoder(len(widths), sizes["blocks"])
    return Case(module=Networks(config), run=run, table=table, depth=len(widths))


CASES = {f.__name__: f for f in (dit, autoencoder)}
OTHER_SIZES = {
    "dit": dict(batch=3, size=12, patch=4, width=24, depth=3, heads=3, classes=7),
    "autoencoder": dict(batch=1, size=16, latent=4, widths=(6, 12, 12), blocks=2, groups=3),
}
