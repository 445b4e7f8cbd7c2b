"""CLIP on the OpenMoji world.

    mmjax data build openmoji --output data/openmoji
    mmjax train --config clip:openmoji --workdir runs/clip

Variants:
  tiny        seconds on a laptop; for tests
  quickstart  the recipe of `mmjax quickstart`: two to three minutes on two cores
  openmoji    the same model, trained until it is good: about ten minutes (default)
"""

from ml_collections import ConfigDict

VARIANTS = {
    "tiny": dict(vision=32, depth=1, text=32, text_depth=1, size=32, patch=8, vocabulary=2048),
    "quickstart": dict(vision=192, depth=4, text=128, text_depth=2, size=64, patch=16, vocabulary=2048),
}
VARIANTS["openmoji"] = VARIANTS["quickstart"]
TRAINING = {
    "tiny": dict(steps=20, batch_size=16, log_every=5),
    "quickstart": dict(steps=300, batch_size=128, log_every=20),
    "openmoji": dict(steps=1200, batch_size=128, log_every=20),
}


def get_config(arg: str | None = None) -> ConfigDict:
    variant = arg or "openmoji"
    v, training = ConfigDict(VARIANTS[variant]), TRAINING[variant]

    def transformer(depth, width):
        # For two cores: unrolled, since a scan costs a third of a step of such shallow stacks, and with an
        # activation that needs no exponential, which saves another fifth.
        shape = dict(depth=depth, width=width, heads=max(width // 64, 1), unroll=depth)
        return dict(**shape, norm="rms", activation="relu_squared", attention_bias=False, mlp_bias=False)

    return ConfigDict(
        dict(
            system="mmjax.systems.clip.CLIP",
            model=dict(
                embedding=v.text,
                vision=dict(
                    image_size=v.size, patch=v.patch, pool="mean", transformer=transformer(v.depth, v.vision)
                ),
                text=dict(
                    vocabulary_size=v.vocabulary, length=18, transformer=transformer(v.text_depth, v.text)
                ),
            ),
            data=dict(
                source="data/openmoji",
                image_size=v.size,
                text_length=18,
                template="<bos>{caption}<eos>",
                vocabulary_size=v.vocabulary,
            ),
            training=training,
            optimizer=dict(
                method="muon", learning_rate=2e-3, warmup=training["steps"] // 20, weight_decay=0.1
            ),
            evaluators=dict(retrieval=dict(call="mmjax.evaluation.retrieval.Retrieval")),
        )
    )
