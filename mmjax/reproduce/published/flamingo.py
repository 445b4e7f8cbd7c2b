"""Flamingo (Alayrac et al. 2022), OpenFlamingo (Awadalla et al. 2023) and IDEFICS (Laurencon et al. 2023)."""

from mmjax.reproduce.row import Row, within

_TABLE4 = "Alayrac et al. 2022, table 4, in closed form (2 D^2 + 2 * 1536 D + 8 D^2 per block)"
_TABLE5 = "Alayrac et al. 2022, table 5"
_NOT_DERIVABLE = "it does not follow from the shapes of table 4, whose matrices have {}"

# exact from the shapes; as table 5 prints it; unit of the last printed digit
_CROSS_ATTENTION = {
    "3B": (1_157_627_904, 1.2e9, 1e8, None),
    "9B": (1_803_550_720, 1.6e9, 1e8, _NOT_DERIVABLE.format("1.80B, as the paper's own text says (1.8B)")),
    "80B": (8_355_053_568, 10e9, 1e9, _NOT_DERIVABLE.format("8.36B")),
}
_RESAMPLER = 169_967_616

# language model, vision, cross-attention, resampler; total as printed; unit of its last digit
_CELLS = {
    "3B": ((1.4e9, 435e6, 1.2e9, 194e6), 3.2e9, 1e8),
    "9B": ((7.1e9, 435e6, 1.6e9, 194e6), 9.3e9, 1e8),
    "80B": ((70e9, 435e6, 10e9, 194e6), 80e9, 1e9),
}


def _counts(size: str) -> tuple[Row, ...]:
    exact, printed, unit, conflict = _CROSS_ATTENTION[size]
    cross = dict(compute="counts.parameters", of=("flamingo", size, "cross_attention"))
    resampler = dict(compute="counts.parameters", of=("flamingo", size, "resampler"))
    what = "parameters of the gated cross-attention"
    return (
        Row(id=f"flamingo/{size}/cross-attention", what=what, source=_TABLE4, expected=exact, **cross),
        Row(
            id=f"flamingo/{size}/cross-attention/printed",
            what=f"{what}, as printed",
            source=_TABLE5,
            expected=printed,
            tolerance=within(unit / 2),
            conflict=conflict,
            **cross,
        ),
        Row(
            id=f"flamingo/{size}/resampler",
            what="parameters of the resampler",
            source=_TABLE4,
            expected=_RESAMPLER,
            **resampler,
        ),
        Row(
            id=f"flamingo/{size}/resampler/printed",
            what="parameters of the resampler, as printed",
            source=_TABLE5,
            expected=194e6,
            tolerance=within(5e5),
            conflict=_NOT_DERIVABLE.format("170M"),
            **resampler,
        ),
    )


_FLAMINGO = (
    *(row for size in _CROSS_ATTENTION for row in _counts(size)),
    *(
        Row(
            id=f"flamingo/{size}/total/printed",
            what="parameters in all: the sum of the printed parts",
            source=_TABLE5,
            expected=total,
            tolerance=within(unit / 2),
            compute="arithmetic.total",
            of=cells,
            conflict="the printed parts add up to 80.6B" if size == "80B" else None,
        )
        for size, (cells, total, unit) in _CELLS.items()
    ),
    Row(
        id="flamingo/9B/added/text",
        what="parameters added to the language model of 9B, as the text says",
        source="Alayrac et al. 2022, appendix B.1.1",
        expected=1.8e9,
        tolerance=within(5e7),
        compute="counts.parameters",
        of=("flamingo", "9B", "cross_attention"),
    ),
    *(
        Row(
            id=f"flamingo/{size}/language/printed",
            what="parameters of the frozen language model, as printed",
            source=_TABLE5,
            expected=printed,
            tolerance=within(unit / 2),
            compute="counts.parameters",
            of=("flamingo", size, "language"),
            conflict="Chinchilla's relative positions and vocabulary are not released: rotary positions and "
            "32,000 tokens stand for them here",
        )
        for size, printed, unit in (("3B", 1.4e9, 1e8), ("9B", 7.1e9, 1e8), ("80B", 70e9, 1e9))
    ),
    *(
        Row(
            id=f"flamingo/{size}/shape/{part}",
            what=f"width, depth, MLP width and heads of the {part}",
            source="Alayrac et al. 2022, table 4",
            expected=expected,
            compute="configs.tower_shape",
            of=("flamingo", size, path),
        )
        for size, language, cross in (
            ("3B", (2048, 24, 8192, 16), (2048, 24, 8192, 16)),
            ("9B", (4096, 40, 16384, 32), (4096, 10, 16384, 32)),
            ("80B", (8192, 80, 32768, 64), (8192, 12, 32768, 64)),
        )
        for part, path, expected in (
            ("language-model", "language.transformer", language),
            ("cross-attention", "language.cross_blocks", cross),
            ("resampler", "resampler.transformer", (1536, 6, 6144, 16)),
        )
    ),
    Row(
        id="flamingo/queries",
        what="latents of the resampler",
        source="Alayrac et al. 2022, section 3.1.1",
        expected=64,
        compute="configs.field",
        of=("flamingo", "3B", "resampler.queries"),
    ),
    Row(
        id="flamingo/frames",
        what="frames that have an embedding",
        source="Alayrac et al. 2022, appendix A.1.1",
        expected=8,
        compute="configs.field",
        of=("flamingo", "3B", "resampler.frames"),
    ),
    Row(
        id="flamingo/initial/difference",
        what="difference of a fresh Flamingo's logits from those of its language model",
        source="Alayrac et al. 2022, section 3.1.2 (gates start at zero)",
        expected=0.0,
        compute="initial.flamingo_difference",
    ),
)

# size, blocks, parameters per block
_OPEN = (
    ("3B", 24, 36_708_354),
    ("4B", 16, 56_109_058),
    ("9B", 8, 139_476_994),
)
_OPEN_CODE = "open_flamingo:src/helpers.py, instantiated"
_OPEN_FLAMINGO = (
    *(
        Row(
            id=f"flamingo/open-{size}/resampler",
            what="parameters of the resampler",
            source=_OPEN_CODE,
            expected=63_019_008,
            compute="counts.parameters",
            of=("openflamingo", size, "resampler"),
        )
        for size, _, _ in _OPEN
    ),
    *(
        Row(
            id=f"flamingo/open-{size}/block",
            what="parameters of one gated cross-attention block",
            source=_OPEN_CODE,
            expected=each,
            compute="counts.parameters_each",
            of=("openflamingo", size, "cross_attention", blocks),
        )
        for size, blocks, each in _OPEN
    ),
    *(
        Row(
            id=f"flamingo/open-{size}/cross-attention",
            what="parameters of all gated cross-attention blocks",
            source=_OPEN_CODE,
            expected=expected,
            compute="counts.parameters",
            of=("openflamingo", size, "cross_attention"),
        )
        for size, expected in (("3B", 881_000_496), ("4B", 897_744_928), ("9B", 1_115_815_952))
    ),
    *(
        Row(
            id=f"flamingo/open-{size}/trained",
            what="parameters that are trained: resampler, blocks and the tokens' table",
            source="open_flamingo:src/factory.py, what it prints",
            expected=expected,
            compute="counts.trained",
            of=("openflamingo", size),
        )
        for size, expected in (("3B", 1_046_992_944), ("9B", 1_384_781_840))
    ),
    Row(
        id="flamingo/open-9B/language",
        what="parameters of the language model, its table cut to 50,280 tokens",
        source="open_flamingo:src/factory.py on MPT-7B of transformers 5.23, instantiated",
        expected=6_648_664_064,
        compute="counts.parameters",
        of=("openflamingo", "9B", "language"),
    ),
)

_IDEFICS = tuple(
    Row(
        id=f"flamingo/idefics-9B/{part or 'total'}",
        what=f"parameters, {part or 'total'}",
        source="transformers 5.23 IdeficsForVisionText2Text with the released config, instantiated",
        expected=expected,
        compute="counts.parameters",
        of=("idefics", "9B", part),
    )
    for part, expected in (
        (None, 8_929_679_632),
        ("vision", 630_766_080),
        ("resampler", 125_961_984),
        ("cross_attention", 1_434_519_568),
    )
)

ROWS = (*_FLAMINGO, *_OPEN_FLAMINGO, *_IDEFICS)
