"""Decoder language models: GPT-2, OPT, Llama, Qwen3 and MPT."""

from mmjax.reproduce.row import Row, within

_CODE = "transformers 5.23 with the released config.json, instantiated"
_LLAMA1, _LLAMA2 = "Touvron et al. 2023a, table 2", "Touvron et al. 2023b, table 1"
_GPT2_CONFLICT = "openai/gpt-2:README.md says that the paper's counts are wrong due to an error"
_CUT = "cut off where it should be rounded: {} billion"
_OPT_CONFLICT = (
    "the released 350M has a token table of width 512; at the width of its layers it would have 356M"
)

_EXACT = {
    "gpt2": {
        "small": 124_439_808,
        "medium": 354_823_168,
        "large": 774_030_080,
        "xl": 1_557_611_200,
    },
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
    "llama": {
        "1-7B": 6_738_415_616,
        "1-13B": 13_015_864_320,
        "1-33B": 32_528_943_616,
        "1-65B": 65_285_660_672,
        "2-70B": 68_976_648_192,
        "3-8B": 8_030_261_248,
        "3-70B": 70_553_706_496,
        "3.1-405B": 405_853_388_800,
        "3.2-1B": 1_235_814_400,
        "3.2-3B": 3_212_749_824,
    },
    "mpt": {"7B": 6_649_286_656, "30B": 29_957_200_896},
}

# family, size, billions as printed, in a unit of, source, conflict
_ROUNDED = (
    ("gpt2", "small", 0.117, 0.001, "Radford et al. 2019, table 2", _GPT2_CONFLICT),
    ("gpt2", "medium", 0.345, 0.001, "Radford et al. 2019, table 2", _GPT2_CONFLICT),
    ("gpt2", "large", 0.762, 0.001, "Radford et al. 2019, table 2", _GPT2_CONFLICT),
    ("gpt2", "xl", 1.542, 0.001, "Radford et al. 2019, table 2", _GPT2_CONFLICT),
    ("opt", "125M", 0.125, 0.001, "Zhang et al. 2022, table 1", None),
    ("opt", "350M", 0.350, 0.001, "Zhang et al. 2022, table 1", _OPT_CONFLICT),
    ("opt", "1.3B", 1.3, 0.1, "Zhang et al. 2022, table 1", None),
    ("opt", "2.7B", 2.7, 0.1, "Zhang et al. 2022, table 1", None),
    ("opt", "6.7B", 6.7, 0.1, "Zhang et al. 2022, table 1", None),
    ("opt", "13B", 13, 1, "Zhang et al. 2022, table 1", None),
    ("opt", "30B", 30, 1, "Zhang et al. 2022, table 1", None),
    ("opt", "66B", 66, 1, "Zhang et al. 2022, table 1", None),
    ("opt", "175B", 175, 1, "Zhang et al. 2022, table 1", None),
    ("llama", "1-7B", 6.7, 0.1, _LLAMA1, None),
    ("llama", "1-13B", 13.0, 0.1, _LLAMA1, None),
    ("llama", "1-33B", 32.5, 0.1, _LLAMA1, None),
    ("llama", "1-65B", 65.2, 0.1, _LLAMA1, _CUT.format("65.29")),
    ("llama", "2-7B", 7, 1, _LLAMA2, None),
    ("llama", "2-13B", 13, 1, _LLAMA2, None),
    ("llama", "3-8B", 8, 1, "Llama Team 2024, table 3", None),
    (
        "llama",
        "3.1-405B",
        405,
        1,
        "Llama Team 2024, table 3",
        _CUT.format("405.85"),
    ),
    ("llama", "3.2-1B", 1.23, 0.01, "model card of Llama-3.2-1B", _CUT.format("1.236")),
    ("llama", "3.2-3B", 3.21, 0.01, "model card of Llama-3.2-3B", None),
    ("qwen3", "0.6B", 0.6, 0.1, "model card of Qwen3-0.6B", None),
    ("qwen3", "1.7B", 1.7, 0.1, "model card of Qwen3-1.7B", None),
    ("qwen3", "4B", 4.0, 0.1, "model card of Qwen3-4B", None),
    ("qwen3", "8B", 8.2, 0.1, "model card of Qwen3-8B", None),
    ("qwen3", "14B", 14.8, 0.1, "model card of Qwen3-14B", None),
    ("qwen3", "32B", 32.8, 0.1, "model card of Qwen3-32B", None),
    ("mpt", "1B", 1.3, 0.1, "model card of mpt-1b-redpajama-200b", None),
    ("mpt", "7B", 6.7, 0.1, "model card of mpt-7b", "6.649 billion, which rounds to 6.6"),
)

_COUNTS = tuple(
    Row(
        id=f"language/{family}/{size}/parameters",
        what="parameters",
        source=_CODE,
        expected=expected,
        compute="counts.parameters",
        of=(family, size),
    )
    for family, table in _EXACT.items()
    for size, expected in table.items()
)

_PRINTED = tuple(
    Row(
        id=f"language/{family}/{size}/parameters/printed",
        what=f"parameters, as printed in units of {unit} billion",
        source=source,
        expected=round(billions * 10**9),
        tolerance=within(unit * 10**9 / 2),
        compute="counts.parameters",
        of=(family, size),
        conflict=conflict,
    )
    for family, size, billions, unit, source, conflict in _ROUNDED
)

_MPT = (
    Row(
        id="language/mpt/1B/parameters",
        what="parameters, norms of queries and keys included",
        source="mosaicml/examples v0.0.4: MosaicGPT with the released config.json, instantiated",
        expected=1_311_311_872,
        compute="counts.parameters",
        of=("mpt", "1B"),
    ),
    *(
        Row(
            id=f"language/mpt/{size}/shape",
            what="width, depth, MLP width and heads",
            source=f"model card of {card}; the MLP is four times as wide",
            expected=expected,
            compute="configs.tower_shape",
            of=("mpt", size, "decoder.transformer"),
        )
        for size, card, expected in (
            ("1B", "mpt-1b-redpajama-200b", (2048, 24, 8192, 16)),
            ("7B", "mpt-7b", (4096, 32, 16384, 32)),
        )
    ),
    Row(
        id="language/alibi/slopes",
        what="slopes of the linear biases of 8 heads",
        source="Press et al. 2022, section 3",
        expected=tuple(0.5**i for i in range(1, 9)),
        compute="layers.alibi_slopes",
        of=(8,),
    ),
)

ROWS = (*_COUNTS, *_PRINTED, *_MPT)
