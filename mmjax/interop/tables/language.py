"""Decoder language models, as Hugging Face lays them out."""

from mmjax.interop.names import At, projections, split, under, untransposed

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
_MPT_ATTENTION = {
    "self_attention/query": split("attn.Wqkv", 0, 3),
    "self_attention/key": split("attn.Wqkv", 1, 3),
    "self_attention/value": split("attn.Wqkv", 2, 3),
    "self_attention/output": "attn.out_proj",
}
MPT_LAYER = _MPT_ATTENTION | {
    "self_norm": "norm_1",
    "mlp_norm": "norm_2",
    "mlp/up": "ffn.up_proj",
    "mlp/down": "ffn.down_proj",
}
MOSAIC_GPT_LAYER = _MPT_ATTENTION | {
    "self_norm": "ln_1",
    "self_attention/query_norm": At("attn.q_ln", shape=(-1,)),
    "self_attention/key_norm": At("attn.k_ln", shape=(-1,)),
    "mlp_norm": "ln_2",
    "mlp/up": "mlp.mlp_up",
    "mlp/down": "mlp.mlp_down",
}
MPT = {
    "tokens": "transformer.wte",
    **under("stack/layers", MPT_LAYER, "transformer.blocks.{}."),
    "norm": "transformer.norm_f",
}
MOSAIC_GPT = {  # MPT-1B, by the code it was released with
    "tokens": "transformer.wte",
    **under("stack/layers", MOSAIC_GPT_LAYER, "transformer.blocks.{}."),
    "norm": "transformer.ln_f",
}
