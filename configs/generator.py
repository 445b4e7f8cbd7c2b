"""The composed generator on the OpenMoji world: a decoder draws what CLIP and the language model say.

    mmjax train --config generator:openmoji --workdir runs/generator \
        --config.training.initialize="('decoder/clip=runs/clip', 'flamingo=runs/flamingo')"

Variants:
  tiny, quickstart, openmoji: on the CLIP and the Flamingo of the same variant.
"""

from ml_collections import ConfigDict

from mmjax.config import load

VARIANTS = {
    "tiny": dict(depth=1, width=32, size=32, patch=8),
    "quickstart": dict(depth=4, width=128, size=32, patch=4),
    "openmoji": dict(depth=6, width=192, size=32, patch=4),
}
TRAINING = {
    "tiny": dict(steps=20, batch_size=16, ema=0.9, log_every=5),
    "quickstart": dict(steps=180, batch_size=64, ema=0.99, log_every=20),
    "openmoji": dict(steps=4000, batch_size=64, ema=0.999, log_every=20),
}


def get_config(arg: str | None = None) -> ConfigDict:
    variant = arg or "openmoji"
    v, training = ConfigDict(VARIANTS[variant]), TRAINING[variant]
    clip, flamingo = load(f"clip:{variant}"), load(f"flamingo:{variant}")
    shape = dict(depth=v.depth, width=v.width, heads=max(v.width // 64, 1), unroll=v.depth)
    denoiser = dict(
        image_size=v.size,
        patch=v.patch,
        context=v.width,
        transformer=dict(shape, epsilon=1e-6, activation="relu_squared"),
    )
    template = "<bos>{caption}<eos>" + "".join(f"<image_query_{i}>" for i in range(8))
    return ConfigDict(
        dict(
            system="mmjax.systems.generator.Generator",
            model=dict(
                flamingo=flamingo.model.to_dict(),
                decoder=dict(
                    clip=clip.model.to_dict(),
                    denoiser=denoiser,
                    # Straight paths, and a network that answers with the clean picture: its errors are errors
                    # of pixels, and few steps are enough to draw.
                    # Mostly high noise: less noise a patch can see through by itself, and what the picture
                    # shows is decided before that.
                    process=dict(
                        call="mmjax.diffusion.process.FlowMatching",
                        prediction="x0",
                        time_sampler=dict(call="mmjax.diffusion.process.LogitNormalTime", mean=1.5),
                    ),
                    sampler=dict(call="mmjax.diffusion.samplers.Euler", clip=1.0),
                ),
            ),
            data=dict(
                clip.data.to_dict(),
                text_length=26,
                template=template,
                # The decoder should draw upright, centred pictures; it sees them as they are.
                augment=None,
            ),
            training=dict(training, initialize=("decoder/clip=runs/clip", "flamingo=runs/flamingo")),
            optimizer=dict(
                method="muon", learning_rate=4e-3, warmup=training["steps"] // 20, weight_decay=0.01
            ),
            evaluators=dict(
                generation=dict(call="mmjax.evaluation.generation.Generation", steps=12, guidance=2.0),
            ),
        )
    )
