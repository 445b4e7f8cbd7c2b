"""CLIP on the OpenMoji world.

    mmjax data build openmoji --output data/openmoji
    mmjax train --config clip:openmoji --workdir runs/clip

Variants:
  tiny        seconds on a laptop; for tests
  quickstart  the recipe of `mmjax quickstart`: about five minutes on two cores
  openmoji    the longer recipe (default)
"""

from ml_collections import ConfigDict

VARIANTS = {
    "tiny": dict(depth=1, vision=32, text=32, size=32, patch=8, batch=16, steps=20),
    "quickstart": dict(depth=4, vision=192, text=128, size=64, patch=16, batch=128, steps=600),
    "openmoji": dict(depth=6, vision=256, text=256, size=64, patch=8, batch=256, steps=4000),
}


def get_config(arg: str | None = None) -> ConfigDict:
    v = ConfigDict(VARIANTS[arg or "openmoji"])

    def transformer(width):
        # Unrolled: on CPU a scan costs a third of the step, and these stacks are shallow.
        shape = dict(depth=v.depth, width=width, heads=max(width // 64, 1), unroll=v.depth)
        return dict(**shape, norm="rms", attention_bias=False, mlp_bias=False)

    return ConfigDict(
        dict(
            system="mmjax.systems.clip.CLIP",
            model=dict(
                embedding=v.text,
                vision=dict(image_size=v.size, patch=v.patch, pool="mean", transformer=transformer(v.vision)),
                text=dict(vocabulary_size=4096, length=18, transformer=transformer(v.text)),
            ),
            data=dict(
                source="data/openmoji",
                image_size=v.size,
                text_length=18,
                template="<bos>{caption}<eos>",
                vocabulary_size=4096,
            ),
            training=dict(steps=v.steps, batch_size=v.batch, log_every=min(20, v.steps // 4)),
            optimizer=dict(learning_rate=1e-3, warmup=v.steps // 20, weight_decay=0.1),
            evaluators=dict(retrieval=dict(call="mmjax.evaluation.retrieval.Retrieval")),
        )
    )
