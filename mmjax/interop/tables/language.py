"""Decoder language models, as Hugging Face lays them out."""

from mmjax.interop.names import projections, under, untransposed

LLAMA_LAYER = {
    "self_norm": "input_layernorm",
    **projections("self_attention", "self_attn"),
    "mlp_norm": "post_attention_layernorm",
    "mlp/gate": "mlp.gate_proj",
    "mlp/up": "mlp.up_proj",
    "mlp/down": "mlp.down_proj",
}
QK_NORM = {
    "self_attention/query_norm": "self_attn.q_norm",
    "self_attention/key_norm": "self_attn.k_norm",
}
QWEN3_LAYER = LLAMA_LAYER | QK_NORM
GPT2_LAYER = {
    "self_norm": "ln_1",
    "self_attention/query": untransposed("attn.c_attn", part=0, parts=3, along=-1),
    "self_attention/key": untransposed("attn.c_attn", part=1, parts=3, along=-1),
    "self_attention/value": untransposed("attn.c_attn", part=2, parts=3, along=-1),
    "self_attention/output": untransposed("attn.c_proj"),
    "mlp_norm": "ln_2",
    "mlp/up": untransposed("mlp.c_fc"),
    "mlp/down": untransposed("mlp.c_proj"),
}
QWEN3 = {
    "tokens": "model.embed_tokens",
    **under("stack/layers", QWEN3_LAYER, "model.layers.{}."),
    "norm": "model.norm",
}
LLAMA = QWEN3 | under("stack/layers", LLAMA_LAYER, "model.layers.{}.") | {"head": "lm_head"}
GPT2 = {
    "tokens": "transformer.wte",
    "positions": "transformer.wpe",
    **under("stack/layers", GPT2_LAYER, "transformer.h.{}."),
    "norm": "transformer.ln_f",
}
_OPT_LAYER = {
    "self_norm": "self_attn_layer_norm",
    **projections("self_attention", "self_attn", output="out_proj"),
    "mlp_norm": "final_layer_norm",
    "mlp/up": "fc1",
    "mlp/down": "fc2",
}
OPT = {  # the projections are there in OPT-350M only, the last norm in all others
    "tokens": "model.decoder.embed_tokens",
    "project_in": "model.decoder.project_in",
    "project_out": "model.decoder.project_out",
    "positions": "model.decoder.embed_positions",
    **under("stack/layers", _OPT_LAYER, "model.decoder.layers.{}."),
    "norm": "model.decoder.final_layer_norm",
}
