"""IDEFICS, the open Flamingo, as transformers lays it out (`IdeficsForVisionText2Text`)."""

from typing import Any

from mmjax.data.images import ImageSpec
from mmjax.interop.families import clip, llama
from mmjax.interop.family import ACTIVATIONS, Config, Family
from mmjax.interop.names import under
from mmjax.interop.pixels import Pixels
from mmjax.interop.tables.flamingo import IDEFICS, IDEFICS_CROSS
from mmjax.language.decoder import DecoderConfig
from mmjax.layers.queries import ResamplerConfig, resampler_transformer
from mmjax.layers.transformer import TransformerConfig
from mmjax.layers.vision import VisionConfig
from mmjax.systems.flamingo import Flamingo

DEFAULTS = llama.DEFAULTS | dict(
    vocab_size=32000,
    additional_vocab_size=0,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    cross_layer_interval=1,
    alpha_type="float",
    qk_layer_norms=False,
    use_resampler=False,
    pad_token_id=0,
)
VISION = dict(
    embed_dim=768,
    image_size=224,
    intermediate_size=5120,
    patch_size=14,
    num_hidden_layers=32,
    num_attention_heads=16,
    hidden_act="gelu",
    layer_norm_eps=1e-5,
)
PERCEIVER = dict(
    resampler_n_latents=64,
    resampler_depth=6,
    resampler_n_heads=16,
    resampler_head_dim=96,
    qk_layer_norms_perceiver=False,
)
GATES = {"float": "tanh", "vector": "tanh_vector"}  # alpha_type -> ours
_VECTOR_GATES = {f"{name}_gate": IDEFICS_CROSS[f"{name}_gate"] for name in ("cross", "mlp")}
_VECTOR_TABLE = IDEFICS | under("language/groups/cross", _VECTOR_GATES, "model.gated_cross_attn_layers.{}.")


def _read(config: Config, pixels: Pixels | None) -> Flamingo:
    c = DEFAULTS | config
    vision, perceiver = VISION | c.get("vision_config", {}), PERCEIVER | c.get("perceiver_config", {})
    if not c["use_resampler"]:
        raise ValueError("use_resampler is false")
    if c["num_hidden_layers"] % c["cross_layer_interval"]:
        raise ValueError("cross_layer_interval does not divide num_hidden_layers")
    pixels = pixels or Pixels(spec=ImageSpec(), mean=clip.MEAN, std=clip.STD)
    activation = ACTIVATIONS[c["hidden_act"]]
    blocks: dict[str, Any] = dict(
        width=c["hidden_size"],
        heads=c["num_attention_heads"],
        mlp_width=c["intermediate_size"],
        norm="rms",
        epsilon=c["rms_norm_eps"],
        activation=activation,
        gated_mlp=True,
        attention_bias=False,
        mlp_bias=False,
    )
    depth, every = c["num_hidden_layers"], c["cross_layer_interval"]
    qk_norm = "rms" if c["qk_layer_norms"] else None
    return Flamingo(
        vision=VisionConfig(
            image_size=vision["image_size"],
            patch=vision["patch_size"],
            pre_norm=True,
            patch_bias=False,
            features="states",
            mean=pixels.mean,
            std=pixels.std,
            transformer=clip.transformer(vision | {"hidden_size": vision["embed_dim"]}),
        ),
        resampler=ResamplerConfig(
            queries=perceiver["resampler_n_latents"],
            transformer=resampler_transformer(
                depth=perceiver["resampler_depth"],
                width=vision["embed_dim"],
                heads=perceiver["resampler_n_heads"],
                head_dim=perceiver["resampler_head_dim"],
                activation="relu",
                qk_norm="layer" if perceiver["qk_layer_norms_perceiver"] else None,
            ),
        ),
        language=DecoderConfig(
            vocabulary_size=c["vocab_size"],
            added_tokens=c["additional_vocab_size"],
            context_length=c["max_position_embeddings"],
            tied=c["tie_word_embeddings"],
            transformer=TransformerConfig(depth=depth, rope_base=c["rope_theta"], **blocks),
            cross_every=every,
            cross=TransformerConfig(depth=depth, qk_norm=qk_norm, gate=GATES[c["alpha_type"]], **blocks),
        ),
        image_token=c["vocab_size"] + 1,  # <fake_token_around_image> comes before <image>
        eos_token=c["eos_token_id"],
        pad_token=c["pad_token_id"],
        trained_rows=None,
    )


def _write(system: Flamingo) -> dict[str, Any]:
    language, t = system.language, system.language.transformer
    resampler, vision = system.resampler, clip.fields(system.vision.transformer)
    vision["embed_dim"] = vision.pop("hidden_size")
    gate = next(name for name, ours in GATES.items() if ours == language.cross.gate)
    return {
        "architectures": ["IdeficsForVisionText2Text"],
        "model_type": "idefics",
        "vocab_size": language.vocabulary_size,
        "additional_vocab_size": language.added_tokens,
        "hidden_size": t.width,
        "intermediate_size": t.mlp_width or 4 * t.width,
        "num_hidden_layers": t.depth,
        "num_attention_heads": t.heads,
        "hidden_act": next(name for name, ours in ACTIVATIONS.items() if ours == t.activation),
        "rms_norm_eps": t.epsilon,
        "max_position_embeddings": language.context_length,
        "tie_word_embeddings": language.tied,
        "cross_layer_interval": language.cross_every,
        "qk_layer_norms": language.cross.qk_norm is not None,
        "alpha_type": gate,
        "use_resampler": True,
        "eos_token_id": system.eos_token,
        "pad_token_id": system.pad_token,
        "vision_config": {
            "model_type": "idefics_vision",
            **vision,
            "image_size": system.vision.image_size,
            "patch_size": system.vision.patch,
        },
        "perceiver_config": {
            "use_resampler": True,
            "resampler_n_latents": resampler.queries,
            "resampler_depth": resampler.transformer.depth,
            "resampler_n_heads": resampler.transformer.heads,
            "resampler_head_dim": resampler.transformer.head_dim,
            "qk_layer_norms_perceiver": resampler.transformer.qk_norm is not None,
        },
    }


def _pixels(system: Flamingo) -> Pixels:
    spec = ImageSpec(size=system.vision.image_size, resize="stretch", draft=False)
    return Pixels(spec=spec, mean=system.vision.mean, std=system.vision.std)


def _data(system: Flamingo) -> dict[str, Any]:
    return dict(text_length=system.language.context_length, template="<bos><image>{caption}<eos>")


FAMILIES = (
    Family(
        name="idefics",
        kind=Flamingo,
        read=_read,
        write=_write,
        tables=lambda system: (_VECTOR_TABLE if system.language.cross.gate == "tanh_vector" else IDEFICS,),
        pixels=_pixels,
        data=_data,
        evaluators={"captions": {"call": "mmjax.evaluation.captions.Captions"}},
        buffers=(r".*\.position_ids", r".*\.rotary_emb\.inv_freq"),
    ),
)
