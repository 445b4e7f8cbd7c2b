"""CLIP as transformers lays it out: OpenAI's vision transformers and OpenCLIP's (`CLIPModel`)."""

from typing import Any

from mmjax.data.images import ImageSpec
from mmjax.interop.family import ACTIVATIONS, Config, Family
from mmjax.interop.pixels import Pixels
from mmjax.interop.tables.clip import CLIP as TABLE
from mmjax.layers.transformer import TransformerConfig
from mmjax.layers.vision import VisionConfig
from mmjax.systems.clip import CLIP, TextConfig

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# What transformers takes a field for that a config.json leaves out.
TOWER = dict(num_hidden_layers=12, hidden_act="quick_gelu", layer_norm_eps=1e-5)
TEXT = TOWER | dict(
    hidden_size=512,
    intermediate_size=2048,
    num_attention_heads=8,
    vocab_size=49408,
    max_position_embeddings=77,
    eos_token_id=49407,
)
VISION = TOWER | dict(
    hidden_size=768, intermediate_size=3072, num_attention_heads=12, image_size=224, patch_size=32
)
# The eos_token_id of configs made before transformers knew the real one; it then looks for the largest id.
_UNKNOWN_EOS = 2


def transformer(fields: Config, **settings: Any) -> TransformerConfig:
    """The blocks of a tower."""
    return TransformerConfig(
        depth=fields["num_hidden_layers"],
        width=fields["hidden_size"],
        heads=fields["num_attention_heads"],
        mlp_width=fields["intermediate_size"],
        activation=ACTIVATIONS[fields["hidden_act"]],
        epsilon=fields["layer_norm_eps"],
        **settings,
    )


def fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `transformer`."""
    activation = next(name for name, ours in ACTIVATIONS.items() if ours == config.activation)
    return dict(
        num_hidden_layers=config.depth,
        hidden_size=config.width,
        num_attention_heads=config.heads,
        intermediate_size=config.mlp_width or 4 * config.width,
        hidden_act=activation,
        layer_norm_eps=config.epsilon,
    )


def _read(config: Config, pixels: Pixels | None) -> CLIP:
    text, vision = TEXT | config.get("text_config", {}), VISION | config.get("vision_config", {})
    pixels = pixels or Pixels(spec=ImageSpec(), mean=MEAN, std=STD)
    eos = text["eos_token_id"]
    return CLIP(
        embedding=config.get("projection_dim", 512),
        vision=VisionConfig(
            image_size=vision["image_size"],
            patch=vision["patch_size"],
            pre_norm=True,
            patch_bias=False,
            mean=pixels.mean,
            std=pixels.std,
            transformer=transformer(vision),
        ),
        text=TextConfig(
            vocabulary_size=text["vocab_size"],
            length=text["max_position_embeddings"],
            eos_token=text["vocab_size"] - 1 if eos == _UNKNOWN_EOS else eos,
            transformer=transformer(text),
        ),
    )


def _write(system: CLIP) -> dict[str, Any]:
    vision, text = system.vision, system.text
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": system.embedding,
        "text_config": {
            "model_type": "clip_text_model",
            **fields(text.transformer),
            "vocab_size": text.vocabulary_size,
            "max_position_embeddings": text.length,
            "bos_token_id": text.eos_token - 1,
            "eos_token_id": text.eos_token,
            "pad_token_id": text.eos_token,
            "projection_dim": system.embedding,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            **fields(vision.transformer),
            "image_size": vision.image_size,
            "patch_size": vision.patch,
            "projection_dim": system.embedding,
        },
    }


def _pixels(system: CLIP) -> Pixels:
    spec = ImageSpec(size=system.vision.image_size, resize="center_crop", draft=False)
    return Pixels(spec=spec, mean=system.vision.mean, std=system.vision.std)


FAMILIES = (
    Family(
        name="clip",
        kind=CLIP,
        read=_read,
        write=_write,
        tables=lambda system: (TABLE,),
        pixels=_pixels,
        data=lambda system: dict(text_length=system.text.length, template="<bos>{caption}<eos>"),
        evaluators={"retrieval": {"call": "mmjax.evaluation.retrieval.Retrieval"}},
        buffers=(r".*\.position_ids",),
    ),
)
