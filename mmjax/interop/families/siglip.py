"""SigLIP, and SigLIP 2 of fixed resolution, as transformers lays them out (`SiglipModel`)."""

from typing import Any

from mmjax.data.images import ImageSpec
from mmjax.interop.families.clip import fields, transformer
from mmjax.interop.family import Config, Family
from mmjax.interop.pixels import Pixels
from mmjax.interop.tables.clip import SIGLIP as TABLE
from mmjax.layers.vision import VisionConfig
from mmjax.systems.clip import CLIP, TextConfig

TOWER = dict(
    num_hidden_layers=12,
    hidden_size=768,
    num_attention_heads=12,
    intermediate_size=3072,
    hidden_act="gelu_pytorch_tanh",
    layer_norm_eps=1e-6,
)
TEXT = TOWER | dict(vocab_size=32000, max_position_embeddings=64)
VISION = TOWER | dict(image_size=224, patch_size=16, vision_use_head=True)


def _read(config: Config, pixels: Pixels | None) -> CLIP:
    text, vision = TEXT | config.get("text_config", {}), VISION | config.get("vision_config", {})
    pixels = pixels or Pixels(spec=ImageSpec())
    if not vision["vision_use_head"]:
        raise ValueError("vision_use_head is false: it has no pooled feature to compare with a text")
    return CLIP(
        objective="sigmoid",
        embedding=text.get("projection_size") or text["hidden_size"],
        vision_projection=False,
        text_projection_bias=True,
        vision=VisionConfig(
            image_size=vision["image_size"],
            patch=vision["patch_size"],
            pool="map",
            mean=pixels.mean,
            std=pixels.std,
            transformer=transformer(vision),
        ),
        text=TextConfig(
            vocabulary_size=text["vocab_size"],
            length=text["max_position_embeddings"],
            causal=False,
            pool="last",
            transformer=transformer(text),
        ),
    )


def _write(system: CLIP) -> dict[str, Any]:
    vision, text = system.vision, system.text
    return {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "text_config": {
            "model_type": "siglip_text_model",
            **fields(text.transformer),
            "vocab_size": text.vocabulary_size,
            "max_position_embeddings": text.length,
            "projection_size": system.embedding,
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            **fields(vision.transformer),
            "image_size": vision.image_size,
            "patch_size": vision.patch,
        },
    }


def _pixels(system: CLIP) -> Pixels:
    spec = ImageSpec(size=system.vision.image_size, resize="stretch", draft=False)
    return Pixels(spec=spec, mean=system.vision.mean, std=system.vision.std)


FAMILIES = (
    Family(
        name="siglip",
        kind=CLIP,
        read=_read,
        write=_write,
        tables=lambda system: (TABLE,),
        pixels=_pixels,
        data=lambda system: dict(text_length=system.text.length, template="{caption}<eos>"),
        evaluators={"retrieval": {"call": "mmjax.evaluation.retrieval.Retrieval"}},
        buffers=(r".*\.position_ids",),
        cleaning="lower_case",  # SigLIP 2, whose releases name Gemma's tokenizer; SigLIP's name their own
    ),
)
