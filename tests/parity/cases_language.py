"""The mmjax side of the recordings of decoder language models that `cases` does not have."""

import name_maps
from cases import LLAMA, language_case

from mmjax.interop.tables import language as names
from mmjax.layers.attention import RopeScaling


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


CASES = {f.__name__: f for f in (llama_stretched, gpt_neox, opt, opt_post)}
OTHER_SIZES = {
    "llama_stretched": dict(
        batch=3, length=20, width=48, depth=2, heads=3, kv_heads=3, factor=32.0, original_length=128
    ),
    "gpt_neox": dict(batch=3, length=12, width=36, depth=3, heads=3),
    "opt": dict(batch=3, length=12, width=36, depth=3, heads=6),
    "opt_post": dict(batch=3, length=12, width=36, depth=3, heads=6, embedding_width=20),
}
