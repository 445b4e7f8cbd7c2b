"""CLIP as OpenAI released it."""

from mmjax.layers.transformer import TransformerConfig
from mmjax.layers.vision import VisionConfig
from mmjax.systems.clip import CLIP, TextConfig


def _openai(*, image_size: int, patch: int, vision: tuple[int, int], text: int, embedding: int) -> CLIP:
    """The vision-transformer models of Radford et al. 2021, tables 19 and 20."""
    shared = dict(epsilon=1e-5, activation="quick_gelu", dtype="bfloat16")
    depth, width = vision
    return CLIP(
        embedding=embedding,
        vision=VisionConfig(
            image_size=image_size,
            patch=patch,
            pre_norm=True,
            patch_bias=False,
            mean=(0.48145466, 0.4578275, 0.40821073),
            std=(0.26862954, 0.26130258, 0.27577711),
            transformer=TransformerConfig(depth=depth, width=width, heads=width // 64, **shared),
        ),
        text=TextConfig(
            vocabulary_size=49408,
            length=77,
            eos_token=49407,
            transformer=TransformerConfig(depth=12, width=text, heads=text // 64, **shared),
        ),
    )


SIZES = {
    "ViT-B/32": _openai(image_size=224, patch=32, vision=(12, 768), text=512, embedding=512),
    "ViT-B/16": _openai(image_size=224, patch=16, vision=(12, 768), text=512, embedding=512),
    "ViT-L/14": _openai(image_size=224, patch=14, vision=(24, 1024), text=768, embedding=768),
    "ViT-L/14@336": _openai(image_size=336, patch=14, vision=(24, 1024), text=768, embedding=768),
}
