"""DiT (Peebles & Xie 2023)."""

from mmjax.reproduce.row import Row, within

_CODE = "facebookresearch/DiT:models.py, instantiated"
_TABLE = "Peebles & Xie 2023, table 4"

# trainable, with the fixed table of positions, millions in the paper, "Gflops" (multiply-adds) in the paper
_SIZES = {
    "S/8": (33_142_016, 33_148_160, 33, 0.36),
    "S/4": (32_920_448, 32_945_024, 33, 1.41),
    "S/2": (32_865_056, 32_963_360, 33, 6.06),
    "B/8": (None, None, 131, 1.42),
    "B/4": (130_426_496, 130_475_648, 130, 5.56),
    "B/2": (130_315_808, 130_512_416, 130, 23.01),
    "L/8": (458_578_432, 458_594_816, 459, 5.01),
    "L/4": (None, None, 458, 19.70),
    "L/2": (457_840_672, 458_102_816, 458, 80.71),
    "XL/8": (675_664_640, 675_683_072, 676, 7.39),
    "XL/4": (675_000_704, 675_074_432, 675, 29.05),
    "XL/2": (674_834_720, 675_129_632, 675, 118.64),
    "XL/2-512": (674_834_720, 676_014_368, 675, 524.60),
}

_COUNTS = tuple(
    Row(
        id=f"dit/{size}/parameters",
        what="trainable parameters",
        source=_CODE,
        expected=values[0],
        compute="counts.parameters",
        of=("dit", size),
    )
    for size, values in _SIZES.items()
    if values[0] is not None
)

_WITH_POSITIONS = tuple(
    Row(
        id=f"dit/{size}/parameters/with-positions",
        what="parameters, the fixed table of positions counted as the official code registers it",
        source=_CODE,
        expected=values[1],
        compute="counts.with_positions",
        of=("dit", size),
    )
    for size, values in _SIZES.items()
    if values[1] is not None
)

_MILLIONS = tuple(
    Row(
        id=f"dit/{size}/parameters/paper",
        what="parameters in whole millions",
        source=_TABLE,
        expected=values[2] * 10**6,
        tolerance=within(5e5),
        compute="counts.parameters",
        of=("dit", size),
    )
    for size, values in _SIZES.items()
)

_MULTIPLY_ADDS = tuple(
    Row(
        id=f"dit/{size}/multiply-adds",
        what="multiply-adds of one forward pass (the paper's 'Gflops')",
        source=_TABLE,
        expected=1e9 * values[3],
        tolerance=within(0.1e9 if size == "XL/2-512" else 0.02e9),
        compute="counts.denoiser_multiply_adds",
        of=("dit", size),
    )
    for size, values in _SIZES.items()
)

# width, depth, width of the MLP, heads
_SHAPES = {
    "S/2": (384, 12, 1536, 6),
    "B/2": (768, 12, 3072, 12),
    "L/2": (1024, 24, 4096, 16),
    "XL/2": (1152, 28, 4608, 16),
}
_ARCHITECTURES = tuple(
    Row(
        id=f"dit/{size}/shape",
        what="width, depth, MLP width and heads",
        source="Peebles & Xie 2023, table 1",
        expected=expected,
        compute="configs.tower_shape",
        of=("dit", size, "denoiser.transformer"),
    )
    for size, expected in _SHAPES.items()
)

_README = tuple(
    Row(
        id=f"dit/{size}/multiply-adds/readme",
        what="multiply-adds of one forward pass, rounded (the README's 'Gflops')",
        source="facebookresearch/DiT:README.md",
        expected=1e9 * expected,
        tolerance=within(0.5e9),
        compute="counts.denoiser_multiply_adds",
        of=("dit", size),
    )
    for size, expected in (("XL/2", 119), ("XL/2-512", 525))
)

_OTHER = (
    Row(
        id="dit/initial/output",
        what="largest output of a fresh network",
        source="Peebles & Xie 2023, section 3.2 (adaLN-Zero)",
        expected=0.0,
        compute="initial.dit_largest_output",
    ),
    Row(
        id="dit/initial/loss",
        what="squared error of a fresh network, the mean of the noise squared",
        source="Peebles & Xie 2023, section 3.2; identity",
        expected=1.0,
        tolerance=within(0.014),  # five standard errors
        compute="initial.dit_denoising_loss",
    ),
    Row(
        id="dit/drop",
        what="share of labels dropped in training",
        source="facebookresearch/DiT:models.py, class_dropout_prob",
        expected=0.1,
        compute="configs.field",
        of=("dit", "XL/2", "drop"),
    ),
    Row(
        id="dit/label-table",
        what="shape of the label table",
        source="facebookresearch/DiT:models.py, LabelEmbedder",
        expected=(1001, 1152),
        compute="counts.shape",
        of=("dit", "XL/2", "denoiser/class_table"),
    ),
    Row(
        id="dit/positions/row-norm",
        what="squared norm of each row of the 16 x 16 table of positions, width 1152",
        source=f"{_CODE} (get_2d_sincos_pos_embed)",
        expected=576.0,
        tolerance=within(1e-3),
        compute="layers.position_row_norm",
        of=(16, 1152),
    ),
    Row(
        id="dit/positions/sum",
        what="sum of the 16 x 16 table of positions, width 1152",
        source=f"{_CODE} (get_2d_sincos_pos_embed)",
        expected=134_598.948,
        tolerance=within(0.01),
        compute="layers.position_sum",
        of=(16, 1152),
    ),
    *(
        Row(
            id=f"dit/time-features/{name}",
            what=f"{name} of 500, an entry of the time features of step 500",
            source=f"{_CODE} (timestep_embedding)",
            expected=expected,
            tolerance=within(1e-6),
            compute="layers.time_feature",
            of=(500, place),
        )
        for name, place, expected in (("cos", 0, -0.8838493), ("sin", 128, -0.4677718))
    ),
)

ROWS = (*_COUNTS, *_WITH_POSITIONS, *_MILLIONS, *_MULTIPLY_ADDS, *_README, *_ARCHITECTURES, *_OTHER)
