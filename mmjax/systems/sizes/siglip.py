"""SigLIP (Zhai et al. 2023) in the sizes that Google released.

Widths are those of big_vision's `decode_variant`; the text tower has the shape of the vision tower. Every
GELU is the tanh approximation, as in big_vision and on Hugging Face; open_clip's configs of these sizes (not
of SigLIP 2) leave the text tower at the exact GELU. The multilingual So400m has no text projection there.
"""

from mmjax.layers.transformer import TransformerConfig
from mmjax.layers.vision import VisionConfig
from mmjax.systems.clip import CLIP, TextConfig

VARIANTS = {  # width, depth, width of the MLP, heads
    "B": (768, 12, 3072, 12),
    "L": (1024, 24, 4096, 16),
    "So400m": (1152, 27, 4304, 16),
    "g-opt": (1536, 40, 6144, 16),
}


def siglip(
    variant: str,
    patch: int,
    image_size: int,
    *,
    vocabulary_size: int = 32000,
    length: int = 64,
    text: str | None = None,
    text_projection: bool = True,
) -> CLIP:
    """Two towers of one variant, or a text tower of another."""
    vision, language = _transformer(variant), _transformer(text or variant)
    return CLIP(
        objective="sigmoid",
        embedding=vision.width,
        vision_projection=False,
        text_projection=text_projection,
        text_projection_bias=True,
        vision=VisionConfig(image_size=image_size, patch=patch, pool="map", transformer=vision),
        text=TextConfig(
            vocabulary_size=vocabulary_size, length=length, causal=False, pool="last", transformer=language
        ),
    )


def _transformer(variant: str) -> TransformerConfig:
    width, depth, mlp_width, heads = VARIANTS[variant]
    shape = dict(width=width, depth=depth, mlp_width=mlp_width, heads=heads)
    return TransformerConfig(**shape, epsilon=1e-6, activation="gelu_tanh", dtype="bfloat16")


_MULTILINGUAL = dict(vocabulary_size=250_000)
SIZES = {
    "B/16-224": siglip("B", 16, 224),
    "B/16-256": siglip("B", 16, 256),
    "B/16-384": siglip("B", 16, 384),
    "B/16-512": siglip("B", 16, 512),
    "L/16-256": siglip("L", 16, 256),
    "L/16-384": siglip("L", 16, 384),
    "So400m/14-224": siglip("So400m", 14, 224, length=16),
    "So400m/14-384": siglip("So400m", 14, 384),
    "B/16-256-i18n": siglip("B", 16, 256, **_MULTILINGUAL),
    "So400m/16-256-i18n": siglip("So400m", 16, 256, **_MULTILINGUAL, text_projection=False),
}
