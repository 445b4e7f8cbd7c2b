"""Names of reference layers that none of our systems consists of; all others: `mmjax.interop.tables`."""

from mmjax.interop.names import projections
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
DINOV2_LAYER = {
    "self_norm": "norm1",
    **projections("self_attention", "attention"),
    "self_scale": "layer_scale1.lambda1",
    "mlp_norm": "norm2",
    "mlp/up": "mlp.fc1",
    "mlp/down": "mlp.fc2",
    "mlp_scale": "layer_scale2.lambda1",
}
