"""CLIP on the OpenMoji world.

    mmjax data build openmoji --output data/openmoji
    mmjax train --config clip:openmoji --workdir runs/clip

Variants:
  tiny        seconds on a laptop; for tests
  quickstart  the recipe of `mmjax quickstart`: about four minutes on two cores
  openmoji    the longer recipe (default)
"""

from ml_collections import ConfigDict

VARIANTS = {
    "tiny": dict(depth=2, width=32, heads=2, batch=16, steps=20, size=32, patch=8),
    "quickstart": dict(depth=4, width=128, heads=4, batch=128, steps=500, size=64, patch=8),
    "openmoji": dict(depth=6, width=256, heads=8, batch=256, steps=6000, size=64, patch=8),
}


def get_config(arg: str | None = None) -> ConfigDict:
    v = ConfigDict(VARIANTS[arg or "openmoji"])
    transformer = dict(depth=v.depth, width=v.width, heads=v.heads, norm="rms", attention_bias=False)
    return ConfigDict(
        dict(
            system="mmjax.systems.clip.CLIP",
            model=dict(
                embedding=v.width,
                vision=dict(image_size=v.size, patch=v.patch, pool="mean", transformer=transformer),
                text=dict(vocabulary_size=4096, length=24, transformer=transformer),
            ),
            data=dict(
                source="data/openmoji",
                image_size=v.size,
                text_length=24,
                template="<bos>{caption}<eos>",
                vocabulary_size=4096,
            ),
            training=dict(steps=v.steps, batch_size=v.batch, log_every=min(20, v.steps // 4)),
            optimizer=dict(learning_rate=1e-3, warmup=v.steps // 20, weight_decay=0.1),
            evaluators=dict(),
        )
    )
