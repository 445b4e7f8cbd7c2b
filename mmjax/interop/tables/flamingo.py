"""The public Flamingos: IDEFICS as Hugging Face lays it out, and OpenFlamingo as its code names its state."""

from collections.abc import Mapping

from mmjax.interop.names import At, numbered, projections, split, under
from mmjax.interop.tables import openai_clip
from mmjax.interop.tables.clip import VISION_TOWER
from mmjax.interop.tables.language import LLAMA_LAYER

OPEN_FLAMINGO_CROSS = {
    "cross_norm": "attn.norm",
    "cross_attention/query": "attn.to_q",
    "cross_attention/key": split("attn.to_kv", 0, 2),
    "cross_attention/value": split("attn.to_kv", 1, 2),
    "cross_attention/output": "attn.to_out",
    "cross_gate": At("attn_gate", shape=(1,)),
    "mlp_norm": "ff.0",
    "mlp/up": "ff.1",
    "mlp/down": "ff.3",
    "mlp_gate": At("ff_gate", shape=(1,)),
}
OPEN_FLAMINGO_RESAMPLER = {
    "latents": "latents",
    "frame_embedding": "frame_embs",
    **under(
        "stack/layers",
        {
            "context_norm": "0.norm_media",
            "cross_norm": "0.norm_latents",
            "cross_attention/query": "0.to_q",
            "cross_attention/key": split("0.to_kv", 0, 2),
            "cross_attention/value": split("0.to_kv", 1, 2),
            "cross_attention/output": "0.to_out",
            "mlp_norm": "1.0",
            "mlp/up": "1.1",
            "mlp/down": "1.3",
        },
        "layers.{}.",
    ),
    "norm": "norm",
}


def open_flamingo(language: Mapping, layer: Mapping, *, depth: int, every: int) -> dict:
    """OpenFlamingo on a language model of `depth` layers, with cross-attention before the last of every few.

    Its state names each layer and block twice; these are the names that its training code keeps. What that
    code saves is the resampler, the blocks and the token table.

    Args:
      language, layer: the tables of the language model outside its layers, and of one layer.
    """
    blocks = "lang_encoder.transformer.blocks.{}."
    layers = under("", layer, f"{blocks}decoder_layer.")
    cross = under("", OPEN_FLAMINGO_CROSS, f"{blocks}gated_cross_attn_layer.")
    first, last = every - 1, depth // every * every - 1
    return {
        **under("vision", openai_clip.VISION_TOWER, "vision_encoder."),
        **under("resampler", OPEN_FLAMINGO_RESAMPLER, "perceiver."),
        **under("language", language, "lang_encoder."),
        **under("language/lead/layers", layers),
        **under("language/groups/cross", numbered(cross, first, every)),
        **under("language/groups/stack/layers", numbered(layers, first)),
        **under("language/last/cross", numbered(cross, last)),
        **under("language/last/stack/layers", numbered(layers, last)),
    }


IDEFICS_CROSS = {  # with a gate per channel; IDEFICS-9B and -80B have one per sublayer
    "cross_norm": "input_layernorm",
    **projections("cross_attention", "cross_attn"),
    "cross_attention/query_norm": "cross_attn.q_layer_norm",
    "cross_attention/key_norm": "cross_attn.k_layer_norm",
    "cross_gate": At("alpha_cross_attn", shape=(1, 1, -1)),
    "mlp_norm": "post_attention_layernorm",
    "mlp/gate": "mlp.gate_proj",
    "mlp/up": "mlp.up_proj",
    "mlp/down": "mlp.down_proj",
    "mlp_gate": At("alpha_dense", shape=(1, 1, -1)),
}
IDEFICS_RESAMPLER = {
    "latents": "latents",
    **under(
        "stack/layers",
        {
            "context_norm": "0.context_layer_norm",
            "cross_norm": "0.latents_layer_norm",
            **projections("cross_attention", "0", output="output_proj"),
            "cross_attention/query_norm": "0.q_layer_norm",
            "cross_attention/key_norm": "0.k_layer_norm",
            "mlp_norm": "1.ln",
            "mlp/up": "1.fc",
            "mlp/down": "1.c_proj",
        },
        "blocks.{}.",
    ),
    "norm": "layer_norm",
}
_IDEFICS_GATES = {
    "cross_gate": At("alpha_cross_attn", shape=(1,)),
    "mlp_gate": At("alpha_dense", shape=(1,)),
}
IDEFICS = {
    **under("vision", VISION_TOWER, "model.vision_model."),
    "vision/class_token": At("model.vision_model.embeddings.class_embedding", shape=(-1,)),
    "vision/pre_norm": "model.vision_model.pre_layrnorm",
    **under("resampler", IDEFICS_RESAMPLER, "model.perceiver_resampler."),
    "language/tokens": "model.embed_tokens",
    "language/added_tokens": "model.embed_tokens.additional_embedding",
    **under("language/groups/cross", IDEFICS_CROSS | _IDEFICS_GATES, "model.gated_cross_attn_layers.{}."),
    **under("language/groups/stack/layers", LLAMA_LAYER, "model.layers.{}."),
    "language/norm": "model.norm",
    "language/head": "lm_head",
    "language/added_head": "lm_head.additional_fc",
}
