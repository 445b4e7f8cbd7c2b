"""The mmjax side of the recordings of language models, also with pictures, that `cases` does not have."""

import name_maps
from cases import LLAMA, flamingo_case, language_case

from mmjax.interop.tables import language as names
from mmjax.interop.tables.flamingo import open_flamingo as open_flamingo_names
from mmjax.language.decoder import DecoderConfig
from mmjax.layers.queries import ResamplerConfig, resampler_transformer
from mmjax.layers.rotary import RopeScaling
from mmjax.layers.transformer import TransformerConfig
from mmjax.layers.vision import VisionConfig
from mmjax.systems.flamingo import Flamingo


def llama_stretched(sizes, **options):
    scaling = RopeScaling(factor=sizes["factor"], original_length=sizes["original_length"])
    heads = dict(kv_heads=sizes["kv_heads"], mlp_width=sizes["mlp_width"])
    return language_case(sizes, names.QWEN3, transformer=LLAMA | heads | dict(rope_scaling=scaling))


def gpt_neox(sizes, **options):
    transformer = dict(mlp_width=2 * sizes["width"], activation="gelu", rope_base=10000.0)
    return language_case(sizes, name_maps.GPT_NEOX, tied=False, transformer=transformer)


def _opt(sizes, order="pre", **fields):
    transformer = dict(mlp_width=2 * sizes["width"], activation="relu", order=order)
    positions = dict(learned_positions=True, position_offset=2, context_length=sizes["length"] + 1)
    return language_case(sizes, names.OPT, transformer=transformer, **positions, **fields)


def opt(sizes, **options):
    return _opt(sizes)


def opt_post(sizes, **options):
    return _opt(sizes, order="post", embedding_width=sizes["embedding_width"], final_norm=False)


MPT = dict(norm="layer_no_bias", activation="gelu", attention_bias=False, mlp_bias=False, alibi=True)


def mpt(sizes, **options):
    return language_case(sizes, names.MPT, transformer=MPT)


def mosaic_gpt(sizes, **options):
    transformer = MPT | dict(qk_norm="layer_no_bias", qk_norm_joint=True)
    return language_case(sizes, names.MOSAIC_GPT, transformer=transformer)


def open_flamingo(sizes, **options):
    depth, every, heads = sizes["depth"], sizes["every"], dict(heads=2, head_dim=6)
    shape = dict(depth=depth, width=sizes["width"])
    resampler = resampler_transformer(depth=1, width=sizes["vision"], activation="gelu", **heads)
    system = Flamingo(
        vision=VisionConfig(
            image_size=sizes["size"],
            patch=sizes["patch"],
            pre_norm=True,
            patch_bias=False,
            features="patches",
            transformer=TransformerConfig(
                depth=sizes["vision_depth"],
                width=sizes["vision"],
                heads=sizes["vision_heads"],
                mlp_width=2 * sizes["vision"],
                activation="gelu",
            ),
        ),
        resampler=ResamplerConfig(queries=3, transformer=resampler),
        language=DecoderConfig(
            vocabulary_size=sizes["vocabulary"],
            context_length=sizes["length"],
            transformer=TransformerConfig(heads=sizes["heads"], **shape, **MPT),
            cross_every=every,
            cross_first=every - 1,
            cross=TransformerConfig(
                activation="gelu", attention_bias=False, mlp_bias=False, **shape, **heads
            ),
        ),
        image_token=sizes["vocabulary"] - 1,
    )
    outside = {name: at for name, at in names.MPT.items() if not name.startswith("stack")}
    table = open_flamingo_names(outside, names.MPT_LAYER, depth=depth, every=every)
    return flamingo_case(system, table | {"vision/norm": None})


CASES = {f.__name__: f for f in (llama_stretched, gpt_neox, opt, opt_post, mpt, mosaic_gpt, open_flamingo)}
OTHER_SIZES = {
    "llama_stretched": dict(
        batch=3, length=20, width=48, depth=2, heads=3, kv_heads=3, factor=32.0, original_length=128
    ),
    "gpt_neox": dict(batch=3, length=12, width=36, depth=3, heads=3),
    "opt": dict(batch=3, length=12, width=36, depth=3, heads=6),
    "mpt": dict(batch=3, length=12, width=36, depth=3, heads=6),
    "mosaic_gpt": dict(batch=3, length=12, width=36, depth=3, heads=3),
    "open_flamingo": dict(batch=1, length=13, width=24, depth=2, heads=3, every=1, media=3),
    "opt_post": dict(batch=3, length=12, width=36, depth=3, heads=6, embedding_width=20),
}
