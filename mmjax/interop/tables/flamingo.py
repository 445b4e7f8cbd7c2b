"""The public Flamingos: IDEFICS as Hugging Face lays it out, and the parts of OpenFlamingo."""

from mmjax.interop.names import At, projections, split, under
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
