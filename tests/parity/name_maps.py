"""Names of reference layers that none of our systems consists of; all others: `mmjax.interop.tables`."""

from mmjax.interop.names import projections, under
from mmjax.interop.tables.language import QWEN3_LAYER

CHAMELEON_LAYER = QWEN3_LAYER
BERT_LAYER = {
    **projections("self_attention", "attention.self", "query", "key", "value"),
    "self_attention/output": "attention.output.dense",
    "self_norm": "attention.output.LayerNorm",
    "mlp/up": "intermediate.dense",
    "mlp/down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
_GPT_NEOX_LAYER = {
    "self_norm": "input_layernorm",
    **projections("self_attention", "attention", "query", "key", "value", "dense"),
    "mlp_norm": "post_attention_layernorm",
    "mlp/up": "mlp.dense_h_to_4h",
    "mlp/down": "mlp.dense_4h_to_h",
}
GPT_NEOX = {  # as `tools.golden.language` separates its queries, keys and values
    "tokens": "gpt_neox.embed_in",
    **under("stack/layers", _GPT_NEOX_LAYER, "gpt_neox.layers.{}."),
    "norm": "gpt_neox.final_layer_norm",
    "head": "lm_head",
}
DINOV2_LAYER = {
    "self_norm": "norm1",
    **projections("self_attention", "attention"),
    "self_scale": "layer_scale1.lambda1",
    "mlp_norm": "norm2",
    "mlp/up": "mlp.fc1",
    "mlp/down": "mlp.fc2",
    "mlp_scale": "layer_scale2.lambda1",
}
