"""CLIP (Radford et al. 2021)."""

from mmjax.reproduce.row import Row, within

_CODE = "openai/CLIP:clip/model.py, instantiated"
_PROFILE = "open_clip:docs/model_profile.csv"
_TABLES = "Radford et al. 2021, tables 19 and 20"

# total, visual, text; None where no source states it
_PARAMETERS = {
    "RN50": (102_007_137, 38_316_896, 63_690_240),
    "RN101": (119_688_033, 56_259_936, 63_428_096),
    "RN50x4": (178_300_601, 87_137_080, 91_163_520),
    "RN50x16": (None, None, 123_650_304),
    "RN50x64": (623_258_305, 420_380_352, 202_877_952),
    "ViT-B/32": (151_277_313, 87_849_216, 63_428_096),
    "ViT-B/16": (149_620_737, 86_192_640, 63_428_096),
    "ViT-L/14": (427_616_513, 303_966_208, 123_650_304),
    "ViT-L/14@336": (None, None, 123_650_304),
}
_BUFFERS = {"RN50": 53_248, "RN101": 105_472, "RN50x4": 109_760, "RN50x16": 193_920, "RN50x64": 410_624}

_POOL_CONFLICT = (
    "the profiled code computes the attention pool for every position and then takes one; OpenAI's code, and "
    "ours, asks for that one only (see every-query)"
)
# GFLOPs of a picture and of a caption, two per multiply-add
_GFLOPS = {
    "RN50": (12.22, 5.96),
    "RN101": (19.54, 5.96),
    "RN50x4": (42.56, 9.27),
    "RN50x16": (149.39, 13.30),
    "RN50x64": (529.11, 23.55),
    "ViT-B/32": (8.82, 5.96),
    "ViT-B/16": (35.13, 5.96),
    "ViT-L/14": (162.03, 13.30),
    "ViT-L/14@336": (381.92, 13.30),
}

# embedding, image side, vision depth, width, heads, text depth, width, heads
_SHAPES = {
    "RN50": (1024, 224, (3, 4, 6, 3), 64, 32, 12, 512, 8),
    "RN101": (512, 224, (3, 4, 23, 3), 64, 32, 12, 512, 8),
    "RN50x4": (640, 288, (4, 6, 10, 6), 80, 40, 12, 640, 10),
    "RN50x16": (768, 384, (6, 8, 18, 8), 96, 48, 12, 768, 12),
    "RN50x64": (1024, 448, (3, 15, 36, 10), 128, 64, 12, 1024, 16),
    "ViT-B/32": (512, 224, 12, 768, 12, 12, 512, 8),
    "ViT-B/16": (512, 224, 12, 768, 12, 12, 512, 8),
    "ViT-L/14": (768, 224, 24, 1024, 16, 12, 768, 12),
    "ViT-L/14@336": (768, 336, 24, 1024, 16, 12, 768, 12),
}

_COUNTS = tuple(
    Row(
        id=f"clip/{size}/parameters/{part}",
        what=f"parameters, {part}",
        source=_CODE,
        expected=expected,
        compute="counts.parameters",
        of=("clip", size, None if part == "total" else part),
    )
    for size, values in _PARAMETERS.items()
    for part, expected in zip(("total", "visual", "text"), values, strict=True)
    if expected is not None
)

_STATISTICS = tuple(
    Row(
        id=f"clip/{size}/batch-norm-buffers",
        what="running means and variances",
        source=_CODE,
        expected=expected,
        compute="counts.statistics",
        of=("clip", size),
    )
    for size, expected in _BUFFERS.items()
)

_FLOPS = tuple(
    Row(
        id=f"clip/{size}/flops/{kind}",
        what=f"FLOPs of one {kind}, two per multiply-add",
        source=_PROFILE,
        expected=1e9 * expected,
        tolerance=within(0.02e9),
        compute=f"counts.{kind}_flops",
        of=("clip", size),
        conflict=_POOL_CONFLICT if size.startswith("RN") and kind == "image" else None,
    )
    for size, values in _GFLOPS.items()
    for kind, expected in zip(("image", "text"), values, strict=True)
)

_POOL_FLOPS = tuple(
    Row(
        id=f"clip/{size}/flops/image/every-query",
        what="FLOPs of one image, were the attention pool asked by every position",
        source=_PROFILE,
        expected=1e9 * values[0],
        tolerance=within(0.02e9),
        compute="counts.image_flops_with_every_query",
        of=("clip", size),
    )
    for size, values in _GFLOPS.items()
    if size.startswith("RN")
)

_ARCHITECTURES = tuple(
    Row(
        id=f"clip/{size}/shape",
        what="embedding, image side; depth, width, heads of the vision tower and of the text tower",
        source=_TABLES,
        expected=expected,
        compute="configs.clip_shape",
        of=(size,),
    )
    for size, expected in _SHAPES.items()
)

_OTHER = (
    Row(
        id="clip/text/length",
        what="tokens of a caption",
        source="openai/CLIP:clip/model.py, context_length",
        expected=77,
        compute="configs.field",
        of=("clip", "ViT-B/32", "text.length"),
    ),
    Row(
        id="clip/text/length/paper",
        what="tokens of a caption, as the paper says",
        source="Radford et al. 2021, section 2.4",
        expected=76,
        compute="configs.field",
        of=("clip", "ViT-B/32", "text.length"),
        conflict="the paper says 76, the released code and weights have 77 positions",
    ),
    Row(
        id="clip/text/vocabulary",
        what="entries of the token table",
        source="openai/CLIP:clip/model.py, vocab_size",
        expected=49_408,
        compute="configs.field",
        of=("clip", "ViT-B/32", "text.vocabulary_size"),
    ),
    Row(
        id="clip/text/vocabulary/paper",
        what="entries of the token table, as the paper says",
        source="Radford et al. 2021, section 2.4",
        expected=49_152,
        compute="configs.field",
        of=("clip", "ViT-B/32", "text.vocabulary_size"),
        conflict="the paper counts 49,152 entries, the released table has 49,408",
    ),
    Row(
        id="clip/pixels/mean",
        what="mean of pixels in [0, 1]",
        source="openai/CLIP:clip/clip.py",
        expected=(0.48145466, 0.4578275, 0.40821073),
        compute="configs.field",
        of=("clip", "ViT-B/32", "vision.mean"),
    ),
    Row(
        id="clip/pixels/std",
        what="standard deviation of pixels in [0, 1]",
        source="openai/CLIP:clip/clip.py",
        expected=(0.26862954, 0.26130258, 0.27577711),
        compute="configs.field",
        of=("clip", "ViT-B/32", "vision.std"),
    ),
    Row(
        id="clip/epsilon",
        what="epsilon of the layer norms",
        source="openai/CLIP:clip/model.py (torch default)",
        expected=1e-5,
        compute="configs.field",
        of=("clip", "ViT-B/32", "vision.transformer.epsilon"),
    ),
    Row(
        id="clip/initial/logit-scale",
        what="initial logarithm of the scale, ln(1 / 0.07)",
        source="Radford et al. 2021, section 2.5 and table 18",
        expected=2.659260037,
        tolerance=within(1e-6),
        compute="initial.logit_scale",
        of=("softmax",),
    ),
    Row(
        id="clip/largest-scale",
        what="largest scale of the logits after an update",
        source="Radford et al. 2021, section 2.5",
        expected=100.0,
        tolerance=within(1e-4),
        compute="initial.largest_scale",
    ),
)

ROWS = (*_COUNTS, *_STATISTICS, *_FLOPS, *_POOL_FLOPS, *_ARCHITECTURES, *_OTHER)
