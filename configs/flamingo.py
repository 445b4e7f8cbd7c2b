"""Flamingo on the OpenMoji world: captions from pictures, on a CLIP encoder that stays frozen.

    mmjax train --config flamingo:openmoji --workdir runs/flamingo \
        --config.training.initialize="('vision=runs/clip:vision',)"

The language model starts from nothing here, so it is trained with the gated layers (`stage="language"`);
with a pretrained one use `stage="published"`, which freezes it as the paper does.

Variants:
  tiny, quickstart, openmoji: on the CLIP of the same variant.
"""

from ml_collections import ConfigDict

from mmjax.config import load

VARIANTS = {
    "tiny": dict(depth=2, width=32, queries=4, batch=16, steps=20),
    "quickstart": dict(depth=4, width=128, queries=8, batch=128, steps=500),
    "openmoji": dict(depth=6, width=256, queries=32, batch=256, steps=2500),
}


def get_config(arg: str | None = None) -> ConfigDict:
    variant = arg or "openmoji"
    v, clip = ConfigDict(VARIANTS[variant]), load(f"clip:{variant}")
    encoder = clip.model.vision.to_dict()
    shared = dict(norm="rms", attention_bias=False, mlp_bias=False)

    def heads(width):
        return max(width // 64, 1)

    resampler = dict(
        **shared,
        depth=1,
        width=encoder["transformer"]["width"],
        heads=heads(encoder["transformer"]["width"]),
        sublayers=("cross", "mlp"),
        context_norm=True,
        context_with_queries=True,
    )
    language = dict(**shared, depth=v.depth, width=v.width, heads=heads(v.width), rope_base=10000.0)
    return ConfigDict(
        dict(
            system="mmjax.systems.flamingo.Flamingo",
            model=dict(
                vision=encoder,
                resampler=dict(queries=v.queries, transformer=resampler),
                language=dict(
                    vocabulary_size=clip.model.text.vocabulary_size,
                    context_length=32,
                    transformer=dict(language, unroll=v.depth),
                    cross_every=2,
                ),
                stage="language",
            ),
            data=dict(clip.data.to_dict(), text_length=20, template="<bos><image>{caption}<eos>"),
            training=dict(
                steps=v.steps,
                batch_size=v.batch,
                log_every=min(20, v.steps // 4),
                initialize=("vision=runs/clip:vision",),
            ),
            optimizer=dict(learning_rate=1e-3, warmup=v.steps // 20, weight_decay=0.1),
            evaluators=dict(captions=dict(call="mmjax.evaluation.captions.Captions")),
        )
    )
