"""CLIP as OpenAI released it (Radford et al. 2021, tables 19 and 20)."""

from mmjax.layers.resnet import ResNetConfig
from mmjax.layers.transformer import TransformerConfig
from mmjax.layers.vision import VisionConfig
from mmjax.systems.clip import CLIP, TextConfig

_PIXELS = dict(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))


def clip(
    *,
    embedding: int,
    vision: VisionConfig | ResNetConfig,
    text: tuple[int, int] = (12, 512),
    activation: str = "quick_gelu",
) -> CLIP:
    """A size from its vision tower and the (depth, width) of its text tower."""
    return CLIP(
        embedding=embedding,
        vision=vision,
        vision_projection=isinstance(vision, VisionConfig),  # a residual tower ends in its own
        text=TextConfig(
            vocabulary_size=49408,
            length=77,
            eos_token=49407,
            transformer=_transformer(*text, activation=activation),
        ),
    )


def vit(
    image_size: int,
    patch: int,
    depth: int,
    width: int,
    *,
    heads: int | None = None,
    mlp_width: int | None = None,
    activation: str = "quick_gelu",
) -> VisionConfig:
    """A vision transformer of CLIP; heads are 64 wide unless their number is given."""
    shape = dict(heads=heads, mlp_width=mlp_width, activation=activation)
    transformer = _transformer(depth, width, **shape)
    return VisionConfig(
        image_size=image_size,
        patch=patch,
        pre_norm=True,
        patch_bias=False,
        transformer=transformer,
        **_PIXELS,
    )


def _transformer(depth: int, width: int, *, heads: int | None = None, **fields) -> TransformerConfig:
    heads = heads or width // 64
    return TransformerConfig(depth=depth, width=width, heads=heads, epsilon=1e-5, dtype="bfloat16", **fields)


def _resnet(image_size: int, depths: tuple[int, ...], width: int, embedding: int, text: int) -> CLIP:
    shape = dict(image_size=image_size, depths=depths, width=width, embedding=embedding)
    tower = ResNetConfig(**shape, dtype="bfloat16", **_PIXELS)
    return clip(embedding=embedding, vision=tower, text=(12, text))


_L336 = clip(embedding=768, vision=vit(336, 14, 24, 1024), text=(12, 768))
SIZES = {
    "RN50": _resnet(224, (3, 4, 6, 3), 64, 1024, 512),
    "RN101": _resnet(224, (3, 4, 23, 3), 64, 512, 512),
    "RN50x4": _resnet(288, (4, 6, 10, 6), 80, 640, 640),
    "RN50x16": _resnet(384, (6, 8, 18, 8), 96, 768, 768),
    "RN50x64": _resnet(448, (3, 15, 36, 10), 128, 1024, 1024),
    "ViT-B/32": clip(embedding=512, vision=vit(224, 32, 12, 768)),
    "ViT-B/16": clip(embedding=512, vision=vit(224, 16, 12, 768)),
    "ViT-L/14": clip(embedding=768, vision=vit(224, 14, 24, 1024), text=(12, 768)),
    "ViT-L/14@336px": _L336,
    "ViT-L/14@336": _L336,
}
