"""OpenCLIP's larger CLIPs (Cherti et al. 2023)."""

from mmjax.reproduce.row import Row, within

_CODE = "open_clip 3.3 model configs, instantiated"

# total, visual; None where no source states it
_PARAMETERS = {
    "ViT-B/16-plus-240": (208_377_345, None),
    "ViT-H/14": (986_109_441, 632_076_800),
    "ViT-g/14": (1_366_678_273, None),
    "ViT-bigG/14": (2_539_567_105, None),
}

_COUNTS = tuple(
    Row(
        id=f"openclip/{size}/parameters/{part}",
        what=f"parameters, {part}",
        source=_CODE,
        expected=expected,
        compute="counts.parameters",
        of=("openclip", size, None if part == "total" else part),
    )
    for size, values in _PARAMETERS.items()
    for part, expected in zip(("total", "visual"), values, strict=True)
    if expected is not None
)

_FLOPS = tuple(
    Row(
        id=f"openclip/ViT-H/14/flops/{kind}",
        what=f"FLOPs of one {kind}, two per multiply-add",
        source="open_clip:docs/model_profile.csv",
        expected=1e9 * expected,
        tolerance=within(0.02e9),
        compute=f"counts.{kind}_flops",
        of=("openclip", "ViT-H/14"),
    )
    for kind, expected in (("image", 334.59), ("text", 47.09))
)

ROWS = (*_COUNTS, *_FLOPS)
