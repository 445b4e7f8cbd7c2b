"""The autoencoder of latent diffusion on the OpenMoji world; without its perceptual and adversarial terms.

    mmjax train --config autoencoder:openmoji --workdir runs/autoencoder

Variants:
  tiny      seconds on a laptop; for tests
  openmoji  64-pixel pictures to latents of 16 x 16 x 4 (default)
"""

from ml_collections import ConfigDict

VARIANTS = {
    "tiny": dict(size=32, width=8, multipliers=(1, 2), blocks=1, groups=4),
    "openmoji": dict(size=64, width=32, multipliers=(1, 2, 4), blocks=2, groups=8),
}
TRAINING = {
    "tiny": dict(steps=20, batch_size=16, log_every=5),
    "openmoji": dict(steps=4000, batch_size=64, ema=0.999, log_every=20),
}


def get_config(arg: str | None = None) -> ConfigDict:
    variant = arg or "openmoji"
    model, training = dict(VARIANTS[variant]), TRAINING[variant]
    size = model.pop("size")
    return ConfigDict(
        dict(
            system="mmjax.systems.autoencoder.Autoencoder",
            model=dict(image_size=size, **model),
            data=dict(source="data/openmoji", image_size=size, augment=None),
            training=training,
            optimizer=dict(learning_rate=1e-3, warmup=training["steps"] // 20, weight_decay=0.0),
        )
    )
