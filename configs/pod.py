"""Published sizes on TPU pods, to be compiled for one before it is paid for.

    mmjax compile --config pod:clip_l14 --topology v5e:16x16
    mmjax train --config pod:clip_l14 --workdir /mnt/bucket/run --config.data.source=... --distributed

Variants, each for the slice that it is laid out for:
  clip_l14      CLIP ViT-L/14 at 32,768 pairs, v5e:16x16 (default)
  siglip_so400m SigLIP So400m/14 at 32,768 pairs, v5e:16x16
  flamingo_9b   Flamingo-9B's language side on the CLIP ViT-L/14 that OpenFlamingo-9B has, v5p:4x4x4
  dit_xl2       DiT-XL/2 on the latents of 256 px, which the frozen autoencoder makes as it goes, v6e:4x4
  tiny          a CLIP of two layers, v5e:2x2; for tests
  language_7b   a decoder of Llama 2's 7B shape at 8,192 tokens, split along them too, v5e:16x16

What is frozen comes from a checkpoint that `mmjax convert` made, as in
`--config.training.initialize='("autoencoder=CONVERTED",)'`. The classes of dit_xl2 are its records' `label`.

Eight processes on each host prepare its batches: at its bound clip_l14 takes 1,300 pictures a second from
each host of 4 chips, and a process gave 230 of 640x480 where `tools.benchmarks.data_throughput` was measured.

Parameters and optimizer state are float32 and split over chips; products are bfloat16; every stack is
scanned. What attention reads and gives is kept for the backward pass, of flamingo_9b all products, for there
is room; the rest is computed again.
"""

import dataclasses

from ml_collections import ConfigDict

from mmjax.config import replaced
from mmjax.systems import sizes
from mmjax.systems.sizes import openflamingo


def get_config(arg: str | None = None) -> ConfigDict:
    return ConfigDict(VARIANTS[arg or "clip_l14"]())


def _config(
    system,
    *,
    batch_size,
    data,
    mesh,
    ema=0.0,
    learning_rate=1e-3,
    max_replicated=0.02,
    remat="attention",
    **model,
) -> dict:
    model = {f.name: getattr(system, f.name) for f in dataclasses.fields(system)} | model
    return dict(
        system=_dotted(type(system)),
        model={name: replaced(value, remat=remat) for name, value in model.items()},
        data=dict(source="data/pod", processes=8, **data),
        training=dict(steps=100_000, batch_size=batch_size, ema=ema, log_every=50, checkpoint_every=1000),
        optimizer=dict(learning_rate=learning_rate, warmup=2000, weight_decay=0.1),
        sharding=dict(rules="fsdp", max_replicated=max_replicated) | mesh,
    )


def _dotted(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def clip_l14() -> dict:
    system = sizes.load("clip", "ViT-L/14")
    data = dict(image_size=224, text_length=77, vocabulary_size=49408)
    return _config(system, batch_size=32_768, data=data, mesh=dict(data=16, fsdp=16))


def siglip_so400m() -> dict:
    system = sizes.load("siglip", "So400m/14-224")
    data = dict(image_size=224, text_length=16, vocabulary_size=32_000)
    return _config(system, batch_size=32_768, data=data, mesh=dict(data=16, fsdp=16))


def flamingo_9b() -> dict:
    system = dataclasses.replace(
        sizes.load("flamingo", "9B"), vision=openflamingo.VISION, resampler=openflamingo.RESAMPLER
    )
    data = dict(image_size=224, images=5, text_length=256, vocabulary_size=32_000)
    # Split over all three sides of the torus, they would be gathered by all-reduces, at twice the bytes.
    mesh = dict(data=4, fsdp=16)
    return _config(system, batch_size=512, data=data, mesh=mesh, learning_rate=1e-4, remat="dots")


def dit_xl2() -> dict:
    system = dataclasses.replace(sizes.load("dit", "XL/2"), autoencoder=sizes.load("kl_autoencoder", "f8"))
    data = dict(image_size=256, image_resize="center_crop", facts=("label",))
    # Sixteen pictures a chip are little work for each time that 0.7 B parameters are gathered; fewer pieces
    # cost less of it, until reading and writing an optimizer state that is kept whole costs more.
    mesh = dict(data=8, fsdp=2)
    return _config(system, batch_size=256, data=data, mesh=mesh, ema=0.9999, learning_rate=1e-4)


def language_7b() -> dict:
    system = sizes.load("llama", "2-7B")
    decoder = dataclasses.replace(system.decoder, context_length=8192)
    data = dict(images=0, text_length=8192, vocabulary_size=32_000)
    mesh = dict(data=1, fsdp=64, sequence=4, rules="fsdp_sequence")
    return _config(
        system,
        batch_size=128,
        data=data,
        mesh=mesh,
        learning_rate=3e-4,
        decoder=decoder,
    )


def tiny() -> dict:
    system = sizes.load("clip", "ViT-B/32")
    small = dict(depth=2, width=128, heads=2)
    text = replaced(system.text, **small, vocabulary_size=512, length=16)
    vision = replaced(system.vision, **small, image_size=32, patch=8)
    data = dict(image_size=32, text_length=16, vocabulary_size=512)
    mesh = dict(data=1, fsdp=4)
    return _config(system, batch_size=64, data=data, mesh=mesh, embedding=128, text=text, vision=vision)


_ALL = (clip_l14, siglip_so400m, flamingo_9b, dit_xl2, language_7b, tiny)
VARIANTS = {function.__name__: function for function in _ALL}
