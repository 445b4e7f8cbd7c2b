"""Language models: published sizes, training through the ordinary command, packing, decoding with a cache."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import batch, perturbed
from train_tiny import run

from mmjax.cli.parameters import count
from mmjax.language.decoder import DecoderConfig
from mmjax.layers.rotary import RopeScaling
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems import sizes
from mmjax.systems.language_model import LanguageModel
from mmjax.training import metrics

# What the reference classes of transformers 5.23 have, instantiated from the published hyperparameters.
PUBLISHED = {
    "llama": {
        "1-7B": 6_738_415_616,
        "1-13B": 13_015_864_320,
        "1-33B": 32_528_943_616,
        "1-65B": 65_285_660_672,
        "2-7B": 6_738_415_616,
        "2-13B": 13_015_864_320,
        "2-70B": 68_976_648_192,
        "3-8B": 8_030_261_248,
        "3-70B": 70_553_706_496,
        "3.1-8B": 8_030_261_248,
        "3.1-70B": 70_553_706_496,
        "3.1-405B": 405_853_388_800,
        "3.2-1B": 1_235_814_400,
        "3.2-3B": 3_212_749_824,
    },
    "gpt2": {"small": 124_439_808, "medium": 354_823_168, "large": 774_030_080, "xl": 1_557_611_200},
    "opt": {
        "125M": 125_239_296,
        "350M": 331_196_416,
        "1.3B": 1_315_758_080,
        "2.7B": 2_651_596_800,
        "6.7B": 6_658_473_984,
        "13B": 12_853_473_280,
        "30B": 29_974_540_288,
        "66B": 65_719_701_504,
        "175B": 174_604_468_224,
    },
    "mpt": {"1B": 1_311_311_872, "7B": 6_649_286_656, "30B": 29_957_200_896},  # 1B: MosaicML's own class
    "qwen3": {
        "0.6B": 596_049_920,
        "1.7B": 1_720_574_976,
        "4B": 4_022_468_096,
        "8B": 8_190_735_360,
        "14B": 14_768_307_200,
        "32B": 32_762_123_264,
    },
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_published_sizes_are_exact(family):
    expected = PUBLISHED[family]
    assert {size: count(sizes.load(family, size))["total"] for size in expected} == expected


def test_it_trains_through_the_ordinary_command(tiny_world, tmp_path):
    trained = run("language", tiny_world, tmp_path)
    losses = [line["loss"] for line in metrics.read(tmp_path / "metrics.jsonl")]
    assert len(losses) == 20 and losses[-1] < losses[0] - 0.5
    assert isinstance(trained.system, LanguageModel)


def _system(*, transformer, **fields):
    shape = dict(depth=2, width=32, heads=4)
    return LanguageModel(
        decoder=DecoderConfig(
            vocabulary_size=40,
            context_length=24,
            transformer=TransformerConfig(**shape | transformer),
            **fields,
        )
    )


QUICK = {"xla_backend_optimization_level": 0}  # compiles faster
LLAMA = dict(
    norm="rms",
    gated_mlp=True,
    activation="silu",
    kv_heads=2,
    rope_base=1e4,
    rope_scaling=RopeScaling(factor=8.0, original_length=16),
)
LEARNED = dict(learned_positions=True)
SYSTEMS = {
    "llama": _system(transformer=LLAMA, tied=False),
    "gpt2": _system(transformer={}, **LEARNED),
    "mpt": _system(
        transformer=dict(norm="layer_no_bias", alibi=True, qk_norm="layer_no_bias", qk_norm_joint=True)
    ),
    "opt": _system(
        transformer=dict(activation="relu", order="post"),
        position_offset=2,
        embedding_width=24,
        final_norm=False,
        **LEARNED,
    ),
}


def test_documents_in_one_row_do_not_see_each_other():
    system = SYSTEMS["llama"]
    params, loss = perturbed(system, scale=0.1), jax.jit(system.loss, compiler_options=QUICK)
    apart = batch([[5, 6, 7, 8, 0, 0, 0, 0, 0], [9, 10, 11, 12, 13, 0, 0, 0, 0]])
    packed = {name: array.copy() for name, array in apart.items()}
    for name in ("tokens", "targets", "segment", "positions"):
        packed[name][0, 4:] = apart[name][1, :5]
        packed[name][1] = -1 if name == "targets" else 0
    packed["segment"][0, 4:] = 2
    (_, total, number), (_, expected, expected_number) = (
        loss(params, b, None)[0]["next_token"] for b in (packed, apart)
    )
    assert number == expected_number == 7
    np.testing.assert_allclose(total, expected, rtol=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_decoding_with_a_cache_equals_decoding_without(name):
    system = dataclasses.replace(SYSTEMS[name], eos_token=-1)  # never ends
    params = perturbed(system, scale=0.2)
    left = np.array([[0, 0, 0, 5, 6, 7], [8, 9, 10, 11, 12, 13], [0, 0, 0, 0, 0, 14]])
    right = np.array([np.roll(row, -np.sum(row == 0)) for row in left])
    generate = jax.jit(
        lambda tokens: system.generate(params, tokens, (tokens > 0).astype(int), jax.random.key(0), length=6),
        compiler_options=QUICK,
    )
    cached = generate(left)
    np.testing.assert_array_equal(generate(right), cached)
    whole = np.concatenate([right, np.zeros_like(right)], axis=1)
    for row, length in enumerate((right > 0).sum(1)):
        whole[row, length : length + 6] = cached[row]
    # Token 0 pads, and may be said as well.
    segment = (np.arange(12) < (right > 0).sum(1, keepdims=True) + 6).astype(int)
    logits = jax.jit(system.logits, compiler_options=QUICK)(params, whole, segment)
    for row, length in enumerate((right > 0).sum(1)):
        said = jnp.argmax(logits[row, length - 1 : length + 5], axis=-1)
        np.testing.assert_array_equal(said, cached[row])
