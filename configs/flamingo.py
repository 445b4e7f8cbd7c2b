"""Flamingo on the OpenMoji world: captions from pictures, on a CLIP encoder that stays frozen.

    mmjax train --config flamingo:openmoji --workdir runs/flamingo \
        --config.training.initialize="('vision=runs/clip:vision',)"

The language model starts from nothing here, so it is trained with the gated layers (`stage="language"`);
with a pretrained one use `stage="published"`, which freezes it as the paper does.

On the scenes world it answers questions; the encoder starts from nothing too and everything is trained:

    mmjax data build scenes --task questions --turns 6 --objects 17 --tinted 0 --count 20000 \
        --output data/scenes
    mmjax train --config flamingo:scenes --workdir runs/scenes
    mmjax evaluate --checkpoint runs/scenes

Variants:
  tiny, quickstart, openmoji: on the CLIP of the same variant; openmoji trains the longest (default).
  scenes: six questions and answers about each picture. A patch is as large as one of the nine places, and the
    language model reads all of them: a resampler that starts from nothing pools them first, and then takes
    far longer to tell places apart. Small batches make many updates. From nothing, words and places must be
    told apart before anything can be asked of them: tokens and positions start large, near tokens are
    favoured, and the learning rate is moderate. Held out, it answers 0.99 (text alone 0.27), relation, which
    is learned last and all at once, 1.00 (0.51); in another run 0.96 and 0.89. With tokens of 0.02, smaller
    positions, no such bias and 4e-3, position stayed at 0.40; with two layers and 6,000 updates one run of
    two ended before relations were learned.
"""

from ml_collections import ConfigDict

from mmjax.config import load

VARIANTS = {
    "tiny": dict(depth=2, width=32, queries=4, cross_every=2),
    "quickstart": dict(depth=2, width=192, queries=8, cross_every=1),
}
VARIANTS["openmoji"] = VARIANTS["quickstart"]
VARIANTS["scenes"] = dict(
    depth=3, width=96, queries=None, cross_every=1, head=32, patch=21,
    alibi=True, tokens_initial=0.3, positions_initial=1.0,
)  # fmt: skip
TRAINING = {
    "tiny": dict(steps=20, batch_size=16, log_every=5),
    "quickstart": dict(steps=460, batch_size=64, log_every=20),
    "openmoji": dict(steps=1200, batch_size=64, log_every=20),
    "scenes": dict(steps=8000, batch_size=16, log_every=25),
}
CAPTIONING = (
    dict(text_length=20, template="<bos><image>{caption}<eos>"),
    "language",
    ("vision=runs/clip:vision",),
    dict(captions=dict(call="mmjax.evaluation.captions.Captions")),
)
LEARNING_RATE = {"scenes": 2.5e-3}
TASKS = {
    "scenes": (
        # The space makes an answer the same token as its word in a question, and a single one.
        dict(
            source="data/scenes",
            text_length=64,
            vocabulary_size=512,
            chat=dict(assistant=dict(lead=" ")),
        ),
        "all",
        (),
        dict(answers=dict(call="mmjax.evaluation.answers.Answers", limit=500)),
    ),
}


def get_config(arg: str | None = None) -> ConfigDict:
    variant = arg or "openmoji"
    v, clip, training = ConfigDict(VARIANTS[variant]), load(f"clip:{variant}"), TRAINING[variant]
    data, stage, start, evaluators = TASKS.get(variant, CAPTIONING)
    data = dict(clip.data.to_dict(), augment=None) | data
    encoder = clip.model.vision.to_dict()
    encoder |= {name: v[name] for name in ("patch", "positions_initial") if name in v}
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
                resampler=v.queries and dict(queries=v.queries, transformer=resampler),
                language=dict(
                    vocabulary_size=data["vocabulary_size"],
                    context_length=max(32, data["text_length"]),
                    transformer=dict(shape(v.depth, v.width), rope_base=10000.0, alibi=v.get("alibi", False)),
                    cross_every=v.cross_every,
                    tokens_initial=v.get("tokens_initial", 0.02),
                    gate_initial=1.0,
                ),
                stage=stage,
            ),
            data=data,
            training=dict(training, initialize=start),
            optimizer=dict(
                method="muon",
                learning_rate=LEARNING_RATE.get(variant, 2e-3),
                warmup=training["steps"] // 20,
                weight_decay=0.1,
            ),
            evaluators=evaluators,
        )
    )
