"""Flamingo on the OpenMoji world: captions from pictures, on a CLIP encoder that stays frozen.

    mmjax train --config flamingo:openmoji --workdir runs/flamingo \
        --config.training.initialize="('vision=runs/clip:vision',)"

The language model starts from nothing here, so it is trained with the gated layers (`stage="language"`);
with a pretrained one use `stage="published"`, which freezes it as the paper does.

On the scenes world it answers questions; the encoder starts from nothing too and everything is trained:

    mmjax data build scenes --task questions --turns 6 --objects 34 --tinted 0.2 --count 40000 \
        --output data/scenes
    mmjax train --config flamingo:scenes --workdir runs/scenes
    mmjax evaluate --checkpoint runs/scenes

Variants:
  tiny, quickstart, openmoji: on the CLIP of the same variant; openmoji trains the longest (default).
  scenes: six questions and answers about each picture.
"""

from ml_collections import ConfigDict

from mmjax.config import load

VARIANTS = {
    "tiny": dict(depth=2, width=32, queries=4, cross_every=2),
    "quickstart": dict(depth=2, width=192, queries=8, cross_every=1),
}
VARIANTS["openmoji"] = VARIANTS["quickstart"]
VARIANTS["scenes"] = dict(depth=2, width=96, queries=16, cross_every=1, head=32)
TRAINING = {
    "tiny": dict(steps=20, batch_size=16, log_every=5),
    "quickstart": dict(steps=440, batch_size=64, log_every=20),
    "openmoji": dict(steps=1200, batch_size=64, log_every=20),
    "scenes": dict(steps=2500, batch_size=32, log_every=25),
}
CAPTIONING = (
    dict(text_length=20, template="<bos><image>{caption}<eos>"),
    "language",
    ("vision=runs/clip:vision",),
    dict(captions=dict(call="mmjax.evaluation.captions.Captions")),
)
TASKS = {
    "scenes": (
        dict(source="data/scenes", text_length=64),
        "all",
        (),
        dict(answers=dict(call="mmjax.evaluation.answers.Answers", limit=500)),
    ),
}


def get_config(arg: str | None = None) -> ConfigDict:
    variant = arg or "openmoji"
    v, clip, training = ConfigDict(VARIANTS[variant]), load(f"clip:{variant}"), TRAINING[variant]
    data, stage, start, evaluators = TASKS.get(variant, CAPTIONING)
    encoder = clip.model.vision.to_dict()
    shared = dict(norm="rms", activation="relu_squared", attention_bias=False, mlp_bias=False)

    def shape(depth, width):
        return dict(
            depth=depth, width=width, heads=max(width // v.get("head", 64), 1), unroll=depth, **shared
        )

    resampler = dict(
        **shape(1, encoder["transformer"]["width"]),
        sublayers=("cross", "mlp"),
        context_norm=True,
        context_with_queries=True,
    )
    return ConfigDict(
        dict(
            system="mmjax.systems.flamingo.Flamingo",
            model=dict(
                vision=encoder,
                resampler=dict(queries=v.queries, transformer=resampler),
                language=dict(
                    vocabulary_size=clip.model.text.vocabulary_size,
                    context_length=max(32, data["text_length"]),
                    transformer=dict(shape(v.depth, v.width), rope_base=10000.0),
                    cross_every=v.cross_every,
                    gate_initial=1.0,
                ),
                stage=stage,
            ),
            data=dict(clip.data.to_dict(), augment=None) | data,
            training=dict(training, initialize=start),
            optimizer=dict(
                method="muon", learning_rate=2e-3, warmup=training["steps"] // 20, weight_decay=0.1
            ),
            evaluators=evaluators,
        )
    )
