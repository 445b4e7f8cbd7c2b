"""DiT on the OpenMoji world.

    mmjax train --config dit:openmoji --workdir runs/dit

The world has no classes, so every drawing is one of its own: `model.label` is the number of its record. Where
there are classes, as in folders of them, take these and say how many there are:

    mmjax train --config dit --config.data.source=imagenet:PATH --config.data.facts='("label",)' \
        --config.model.label=label --config.model.denoiser.classes=1000 --workdir runs/dit

Variants:
  tiny      seconds on a laptop; for tests
  openmoji  pixels of 64 x 64 in patches of 4 (default)
"""

from ml_collections import ConfigDict

VARIANTS = {
    "tiny": dict(size=32, depth=1, width=32, patch=8),
    "openmoji": dict(size=64, depth=8, width=256, patch=4),
}
TRAINING = {
    "tiny": dict(steps=20, batch_size=16, ema=0.9, log_every=5),
    "openmoji": dict(steps=8000, batch_size=128, ema=0.999, log_every=20),
}


def get_config(arg: str | None = None) -> ConfigDict:
    variant = arg or "openmoji"
    v, training = ConfigDict(VARIANTS[variant]), TRAINING[variant]
    shape = dict(depth=v.depth, width=v.width, heads=max(v.width // 64, 1), unroll=v.depth)
    return ConfigDict(
        dict(
            system="mmjax.systems.dit.DiT",
            model=dict(
                denoiser=dict(
                    image_size=v.size,
                    patch=v.patch,
                    classes=4096,
                    transformer=dict(shape, epsilon=1e-6),
                ),
                sampler=dict(call="mmjax.diffusion.samplers.DDPM", variance="learned", clip=1.0),
                label="index",
            ),
            data=dict(source="data/openmoji", image_size=v.size, augment=None),
            training=training,
            optimizer=dict(learning_rate=1e-3, warmup=training["steps"] // 20, weight_decay=0.0),
        )
    )
