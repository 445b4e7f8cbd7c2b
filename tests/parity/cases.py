"""The mmjax side of every recording: a model of the recorded sizes and what to evaluate on it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import name_maps
from flax import linen as nn

from mmjax.interop.tables import clip as clip_names
from mmjax.interop.tables import dit as dit_names
from mmjax.interop.tables import flamingo as flamingo_names
from mmjax.interop.tables import language as language_names
from mmjax.language.decoder import Decoder, DecoderConfig
from mmjax.layers import masks
from mmjax.layers.embeddings import TimeEmbedding
from mmjax.layers.queries import PerceiverResampler, ResamplerConfig, resampler_transformer
from mmjax.layers.transformer import Block, Inputs, TransformerConfig
from mmjax.layers.vision import VisionConfig
from mmjax.objectives.language import cross_entropy
from mmjax.systems.clip import CLIP, TextConfig
from mmjax.systems.flamingo import Flamingo

Outputs = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Attributes:
    module: the model.
    run: given `apply` (the module with parameters) and the recorded inputs, returns the recorded outputs.
    table: see `mmjax.interop.names`.
    depth: blocks in its stack; 1 for a single layer, whose tolerance is stricter.
    """

    module: nn.Module
    run: Callable[[Callable, Mapping[str, Any]], Outputs]
    table: Mapping[str, Any]
    depth: int = 1


def _layer(sizes, table, mask=None, **fields) -> Case:
    """One block on x float[B, T, D]."""
    config = TransformerConfig(depth=1, width=sizes["width"], heads=sizes["heads"], **fields)

    def run(apply, i):
        length = i["x"].shape[1]
        inputs = Inputs(
            mask=None if mask is None else mask(length),
            positions=jnp.broadcast_to(jnp.arange(length), i["x"].shape[:2]),
            condition=i.get("condition"),
        )
        return {"y": apply(i["x"], None, inputs)[0]}

    return Case(module=Block(config), run=run, table=table)


def _causal(length):
    return masks.self_attention_mask(*(jnp.ones((1, length), jnp.int32),) * 2)


def clip_layer(sizes, **options):
    settings = dict(mlp_width=sizes["mlp_width"], activation="quick_gelu")
    return _layer(sizes, clip_names.LAYER, _causal, **settings)


def siglip_layer(sizes, **options):
    return _layer(sizes, clip_names.LAYER, mlp_width=sizes["mlp_width"], epsilon=1e-6)


def bert_layer(sizes, **options):
    settings = dict(mlp_width=sizes["mlp_width"], order="post", activation="gelu", epsilon=1e-3)
    return _layer(sizes, name_maps.BERT_LAYER, **settings)


def chameleon_swin_layer(sizes, **options):
    settings = dict(mlp_width=sizes["mlp_width"], kv_heads=sizes["kv_heads"], qk_norm="layer", order="swin")
    return _layer(sizes, name_maps.CHAMELEON_LAYER, _causal, **LLAMA | settings | dict(epsilon=1e-5))


def dinov2_layer(sizes, **options):
    settings = dict(mlp_width=sizes["mlp_ratio"] * sizes["width"], activation="gelu", epsilon=1e-6)
    return _layer(sizes, name_maps.DINOV2_LAYER, layer_scale=1.0, **settings)


def dit_block(sizes, **options):
    return _layer(sizes, dit_names.DIT_LAYER, conditioned=True, epsilon=1e-6)


def time_embedding(sizes, **options):
    module = TimeEmbedding(sizes["width"], sizes["frequencies"])
    return Case(module=module, run=lambda apply, i: {"y": apply(i["time"])}, table=dit_names.TIME_EMBEDDING)


def contrastive(system: CLIP, table, depth) -> Case:
    """Both unit features and the loss of float pictures and tokens."""

    def run(apply, i):
        image, text = apply(i["image"], i["tokens"])
        batch = {"image": i["image"][:, None], "tokens": i["tokens"]}
        ((_, total, count),) = system.loss(apply.params, batch, None)[0].values()
        return {"image": image, "text": text, "loss": total / count}

    return Case(module=system.module, run=run, table=table, depth=depth)


def clip(sizes, **options):
    def tower(width):
        return TransformerConfig(
            depth=sizes["depth"],
            width=width,
            heads=sizes["heads"],
            mlp_width=2 * width,
            activation="quick_gelu",
            **options,
        )

    system = CLIP(
        embedding=sizes["embedding"],
        vision=VisionConfig(
            image_size=sizes["size"],
            patch=sizes["patch"],
            pre_norm=True,
            patch_bias=False,
            transformer=tower(sizes["vision"]),
        ),
        text=TextConfig(
            vocabulary_size=sizes["vocabulary"],
            length=sizes["length"],
            eos_token=sizes["vocabulary"] - 1,
            transformer=tower(sizes["width"]),
        ),
    )
    return contrastive(system, clip_names.CLIP, sizes["depth"])


def siglip(sizes, **options):
    def tower(width):
        shape = dict(depth=sizes["depth"], width=width, heads=sizes["heads"], mlp_width=2 * width)
        return TransformerConfig(**shape, epsilon=1e-6, **options)

    system = CLIP(
        objective="sigmoid",
        embedding=sizes["vision"],
        vision_projection=False,
        text_projection_bias=True,
        vision=VisionConfig(
            image_size=sizes["size"],
            patch=sizes["patch"],
            pool="map",
            transformer=tower(sizes["vision"]),
        ),
        text=TextConfig(
            vocabulary_size=sizes["vocabulary"],
            length=sizes["length"],
            causal=False,
            pool="last",
            transformer=tower(sizes["width"]),
        ),
    )
    return contrastive(system, clip_names.SIGLIP, sizes["depth"])


LLAMA = dict(
    norm="rms",
    epsilon=1e-6,
    activation="silu",
    gated_mlp=True,
    attention_bias=False,
    mlp_bias=False,
    rope_base=10000.0,
)


def _decode(module: Decoder, tokens, segment):
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    inputs = Inputs(mask=masks.self_attention_mask(jnp.ones_like(tokens), segment), positions=positions)
    return module.logits(module(module.embed(tokens), inputs)[0])


def language_case(sizes, table, *, context_length=0, transformer, **fields) -> Case:
    module = Decoder(
        DecoderConfig(
            vocabulary_size=sizes["vocabulary"],
            context_length=context_length,
            transformer=TransformerConfig(
                depth=sizes["depth"], width=sizes["width"], heads=sizes["heads"], **transformer
            ),
            **fields,
        )
    )

    def run(apply, i):
        logits = apply(i["tokens"], i["real"].astype(jnp.int32), method=_decode)
        total, count = cross_entropy(logits, i["targets"])
        return {"logits": logits * i["real"][:, :, None], "loss": total / count}

    return Case(module=module, run=run, table=table, depth=sizes["depth"])


def llama(sizes, **options):
    transformer = LLAMA | dict(kv_heads=sizes["kv_heads"], mlp_width=sizes["mlp_width"]) | options
    return language_case(sizes, language_names.LLAMA, tied=False, transformer=transformer)


def qwen3(sizes, **options):
    heads = dict(kv_heads=sizes["kv_heads"], head_dim=sizes["head_dim"], qk_norm="rms")
    transformer = LLAMA | heads | dict(mlp_width=sizes["mlp_width"]) | options
    return language_case(sizes, language_names.QWEN3, transformer=transformer)


def gpt2(sizes, **options):
    length = sizes["length"] + 3
    return language_case(
        sizes, language_names.GPT2, learned_positions=True, context_length=length, transformer=options
    )


def open_flamingo_cross(sizes, **options):
    fields = dict(sublayers=("cross", "mlp"), gate="tanh", attention_bias=False, mlp_bias=False)
    config = TransformerConfig(
        depth=1,
        width=sizes["width"],
        heads=sizes["heads"],
        head_dim=sizes["head_dim"],
        activation="gelu",
        **fields,
    )

    def run(apply, i):
        batch, media, latents, _ = i["media"].shape
        segment = jnp.ones(i["markers"].shape, jnp.int32)
        owner = masks.media_segment(i["markers"], segment, media)
        valid = jnp.ones((batch, media), bool)
        mask = masks.latest_media_mask(masks.media_seen(i["markers"]), segment, valid, owner)
        context = i["media"].reshape(batch, media * latents, -1)
        inputs = Inputs(context=context, context_mask=jnp.repeat(mask, latents, axis=-1))
        return {"y": apply(i["x"], None, inputs)[0]}

    return Case(module=Block(config), run=run, table=flamingo_names.OPEN_FLAMINGO_CROSS)


def _idefics_cross(sizes, depth=1, **options):
    return TransformerConfig(
        depth=depth,
        width=sizes["width"],
        heads=sizes["heads"],
        mlp_width=sizes["mlp_width"],
        **LLAMA
        | dict(rope_base=None, sublayers=("cross", "mlp"), qk_norm="rms", gate="tanh_vector")
        | options,
    )


def idefics_cross(sizes, **options):
    def run(apply, i):
        return {"y": apply(i["x"], None, Inputs(context=i["context"], context_mask=i["mask"]))[0]}

    return Case(module=Block(_idefics_cross(sizes)), run=run, table=flamingo_names.IDEFICS_CROSS)


def open_flamingo_resampler(sizes, **options):
    transformer = resampler_transformer(
        depth=sizes["depth"],
        width=sizes["width"],
        heads=sizes["heads"],
        head_dim=sizes["head_dim"],
        activation="gelu",
        **options,
    )
    module = PerceiverResampler(
        ResamplerConfig(queries=sizes["queries"], frames=sizes["frames"] + 1, transformer=transformer)
    )
    table = flamingo_names.OPEN_FLAMINGO_RESAMPLER
    return Case(
        module=module, run=lambda apply, i: {"y": apply(i["features"])}, table=table, depth=sizes["depth"]
    )


def _idefics_resampler(queries, **fields):
    transformer = resampler_transformer(activation="relu", qk_norm="layer", **fields)
    return ResamplerConfig(queries=queries, transformer=transformer)


def idefics_resampler(sizes, **options):
    fields = {name: sizes[name] for name in ("queries", "depth", "width", "heads", "head_dim")}
    return Case(
        module=PerceiverResampler(_idefics_resampler(**fields, **options)),
        run=lambda apply, i: {"y": apply(i["features"][:, None, None])[:, 0]},
        table=flamingo_names.IDEFICS_RESAMPLER,
        depth=sizes["depth"],
    )


def idefics(sizes, **options):
    system = Flamingo(
        vision=VisionConfig(
            image_size=sizes["size"],
            patch=sizes["patch"],
            pre_norm=True,
            patch_bias=False,
            features="states",
            transformer=TransformerConfig(
                depth=sizes["vision_depth"],
                width=sizes["vision"],
                heads=sizes["vision_heads"],
                mlp_width=2 * sizes["vision"],
                activation="gelu",
                **options,
            ),
        ),
        resampler=_idefics_resampler(
            sizes["queries"],
            depth=sizes["resampler_depth"],
            width=sizes["vision"],
            heads=sizes["resampler_heads"],
            head_dim=sizes["resampler_head_dim"],
            **options,
        ),
        language=DecoderConfig(
            vocabulary_size=sizes["vocabulary"],
            added_tokens=sizes["added"],
            context_length=sizes["length"],
            tied=False,
            transformer=TransformerConfig(
                depth=sizes["depth"],
                width=sizes["width"],
                heads=sizes["heads"],
                mlp_width=sizes["mlp_width"],
                **LLAMA | options,
            ),
            cross_every=sizes["every"],
            cross=_idefics_cross(sizes, gate="tanh"),
        ),
        image_token=sizes["vocabulary"] + sizes["added"] - 1,
    )

    return flamingo_case(system, flamingo_names.IDEFICS | {"vision/norm": None})


def flamingo_case(system: Flamingo, table) -> Case:
    """Logits and loss of interleaved texts without padding."""

    def run(apply, i):
        tokens = i["tokens"]
        ones, positions = jnp.ones_like(tokens), jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        valid = jnp.ones(i["image"].shape[:2], bool)
        logits = apply(tokens, positions, ones, ones, i["image"], valid)
        total, count = cross_entropy(logits, i["targets"])
        return {"logits": logits, "loss": total / count}

    return Case(module=system.module, run=run, table=table, depth=system.language.transformer.depth)


CASES = {
    f.__name__: f
    for f in (
        clip_layer,
        clip,
        siglip_layer,
        siglip,
        llama,
        qwen3,
        gpt2,
        bert_layer,
        chameleon_swin_layer,
        open_flamingo_cross,
        open_flamingo_resampler,
        idefics_cross,
        idefics_resampler,
        idefics,
        dinov2_layer,
        dit_block,
        time_embedding,
    )
}
