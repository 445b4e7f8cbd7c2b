"""SigLIP (Zhai et al. 2023) and SigLIP 2 (Tschannen et al. 2025)."""

from mmjax.reproduce.row import Row, relative, within

_CODE = "open_clip 3.3 model configs, instantiated (both scalars counted)"
_VARIANTS = "big_vision:models/vit.py, decode_variant"

_B = {"B/16-224": 92_884_224, "B/16-256": 92_930_304, "B/16-384": 93_176_064, "B/16-512": 93_520_128}

# total, visual; None where no source states it
_SIGLIP = {
    "B/16-224": (203_155_970, _B["B/16-224"]),
    "B/16-256": (203_202_050, _B["B/16-256"]),
    "B/16-384": (203_447_810, _B["B/16-384"]),
    "B/16-512": (203_791_874, _B["B/16-512"]),
    "L/16-256": (652_150_786, 315_956_224),
    "So400m/14-224": (None, 427_680_704),
    "So400m/14-384": (877_960_498, 428_225_600),
    "B/16-256-i18n": (370_626_050, 92_930_304),
    "So400m/16-256-i18n": (1_127_430_706, 427_888_064),
}
_SIGLIP2 = {
    "B/32-256": (376_856_066, 94_552_320),
    "B/16-224": (375_187_970, _B["B/16-224"]),
    "B/16-256": (375_234_050, _B["B/16-256"]),
    "B/16-384": (375_479_810, _B["B/16-384"]),
    "B/16-512": (375_823_874, _B["B/16-512"]),
    "L/16-256": (881_526_786, 315_956_224),
    "L/16-384": (881_854_466, None),
    "L/16-512": (882_313_218, 316_742_656),
    "So400m/14-224": (1_135_463_602, 427_680_704),
    "So400m/14-384": (1_136_008_498, 428_225_600),
    "So400m/16-256": (1_135_670_962, 427_888_064),
    "So400m/16-384": (1_136_039_602, 428_256_704),
    "So400m/16-512": (None, 428_772_800),
    "g-opt/16-256": (1_871_393_906, 1_163_168_256),
    "g-opt/16-384": (1_871_885_426, 1_163_659_776),
}

_COUNTS = tuple(
    Row(
        id=f"{family}/{size}/parameters/{part}",
        what=f"parameters, {part}",
        source=_CODE,
        expected=expected,
        compute="counts.parameters",
        of=(family, size, None if part == "total" else part),
    )
    for family, table in (("siglip", _SIGLIP), ("siglip2", _SIGLIP2))
    for size, values in table.items()
    for part, expected in zip(("total", "visual"), values, strict=True)
    if expected is not None
)

# width, depth, width of the MLP, heads
_SHAPES = {
    "B/16-224": (768, 12, 3072, 12),
    "L/16-256": (1024, 24, 4096, 16),
    "So400m/14-384": (1152, 27, 4304, 16),
}
_ARCHITECTURES = tuple(
    Row(
        id=f"siglip/{size}/shape",
        what="width, depth, MLP width and heads of the vision tower",
        source=_VARIANTS,
        expected=expected,
        compute="configs.tower_shape",
        of=("siglip", size),
    )
    for size, expected in _SHAPES.items()
)

_OTHER = (
    Row(
        id="siglip2/g-opt/16-256/shape",
        what="width, depth, MLP width and heads of the vision tower",
        source=_VARIANTS,
        expected=(1536, 40, 6144, 16),
        compute="configs.tower_shape",
        of=("siglip2", "g-opt/16-256"),
    ),
    Row(
        id="siglip/text/length",
        what="tokens of a caption",
        source="big_vision:configs/proj/image_text/siglip_lit_coco.py",
        expected=64,
        compute="configs.field",
        of=("siglip", "B/16-256", "text.length"),
    ),
    Row(
        id="siglip/text/vocabulary",
        what="entries of the token table",
        source="Zhai et al. 2023, section 4 (32k SentencePiece)",
        expected=32_000,
        compute="configs.field",
        of=("siglip", "B/16-256", "text.vocabulary_size"),
    ),
    Row(
        id="siglip2/text/vocabulary",
        what="entries of the token table",
        source="Tschannen et al. 2025, section 2 (Gemma's tokenizer)",
        expected=256_000,
        compute="configs.field",
        of=("siglip2", "B/16-256", "text.vocabulary_size"),
    ),
    Row(
        id="siglip/epsilon",
        what="epsilon of the layer norms",
        source="big_vision:models/vit.py (flax default)",
        expected=1e-6,
        compute="configs.field",
        of=("siglip", "B/16-256", "vision.transformer.epsilon"),
    ),
    Row(
        id="siglip/initial/logit-scale",
        what="initial logarithm of the scale, ln 10",
        source="Zhai et al. 2023, algorithm 1 and section 3.2",
        expected=2.302585093,
        tolerance=within(1e-6),
        compute="initial.logit_scale",
        of=("sigmoid",),
    ),
    Row(
        id="siglip/initial/bias",
        what="initial bias of the logits",
        source="Zhai et al. 2023, section 3.2",
        expected=-10.0,
        tolerance=within(1e-6),
        compute="initial.logit_bias",
    ),
)

_LOSSES = tuple(
    Row(
        id=f"siglip/loss/orthogonal/{pairs}",
        what=f"loss of {pairs} pictures orthogonal to all captions, scale 10, bias -10, in {precision}",
        source="Zhai et al. 2023, algorithm 1, in closed form",
        expected=expected,
        tolerance=relative(tolerance),
        compute="losses.siglip_orthogonal",
        of=(pairs, 10.0, -10.0, precision),
    )
    for pairs, expected, precision, tolerance in (
        (2, 10.0000908, "float64", 1e-8),
        (512, 10.0232442, "float64", 1e-8),
        (16_384, 10.7438156, "float32", 1e-6),
        (32_768, 11.4876311, "float32", 1e-6),
    )
)

ROWS = (*_COUNTS, *_ARCHITECTURES, *_OTHER, *_LOSSES)
