"""CLIP on the OpenMoji world, or on the scenes world.

    mmjax data build openmoji --output data/openmoji
    mmjax train --config clip:openmoji --workdir runs/clip

    mmjax data build scenes --task captions --output data/scene-captions
    mmjax train --config clip:scenes --workdir runs/clip-scenes

Variants:
  tiny        seconds on a laptop; for tests
  quickstart  the recipe of `mmjax quickstart`: two to four minutes on two cores
  openmoji    the same model, trained until it is good: about twenty minutes (default). Most captions that a
              picture could be mistaken for share its family, so that batches of 128 hold few of them: 1,200
              steps reach recall at 1 of 0.80, 500 steps of 512 pictures, at twice the cost, 0.88.
  scenes      smaller patches, longer captions: pictures of several objects
"""

from ml_collections import ConfigDict

VARIANTS = {
    "tiny": dict(vision=32, depth=1, text=32, text_depth=1, size=32, patch=8, vocabulary=2048),
    "quickstart": dict(vision=192, depth=4, text=128, text_depth=2, size=64, patch=16, vocabulary=2048),
}
VARIANTS["openmoji"] = VARIANTS["quickstart"]
VARIANTS["scenes"] = dict(
    vision=96, depth=3, text=96, text_depth=2, size=64, patch=8, vocabulary=2048, head=32
)
DATA = {
    "scenes": dict(source="data/scene-captions", text_length=48, augment=None),  # places are part of the text
}
TRAINING = {
    "tiny": dict(steps=20, batch_size=16, log_every=5),
    "quickstart": dict(steps=240, batch_size=128, log_every=20),
    "openmoji": dict(steps=500, batch_size=512, log_every=20),
    "scenes": dict(steps=1200, batch_size=128, log_every=20),
}
LEARNING_RATE = {"openmoji": 3e-3}  # of the larger batch


def get_config(arg: str | None = None) -> ConfigDict:
    variant = arg or "openmoji"
    v, training = ConfigDict(VARIANTS[variant]), TRAINING[variant]
    data = dict(source="data/openmoji", text_length=18) | DATA.get(variant, {})

    def transformer(depth, width):
        # For two cores: unrolled, since a scan costs a third of a step of such shallow stacks, and with an
        # activation that needs no exponential, which saves another fifth.
        shape = dict(depth=depth, width=width, heads=max(width // v.get("head", 64), 1), unroll=depth)
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
                    vocabulary_size=v.vocabulary,
                    length=data["text_length"],
                    transformer=transformer(v.text_depth, v.text),
                ),
            ),
            data=dict(
                data,
                image_size=v.size,
                template="<bos>{caption}<eos>",
                vocabulary_size=v.vocabulary,
            ),
            training=training,
            optimizer=dict(
                method="muon",
                learning_rate=LEARNING_RATE.get(variant, 2e-3),
                warmup=training["steps"] // 20,
                weight_decay=0.1,
            ),
            evaluators=dict(retrieval=dict(call="mmjax.evaluation.retrieval.Retrieval")),
        )
    )
