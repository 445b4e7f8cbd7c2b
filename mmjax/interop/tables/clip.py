"""CLIP and SigLIP, as Hugging Face lays them out."""

from mmjax.interop.names import At, conv, projections, split, under

LAYER = {
    "self_norm": "layer_norm1",
    **projections("self_attention", "self_attn", output="out_proj"),
    "mlp_norm": "layer_norm2",
    "mlp/up": "mlp.fc1",
    "mlp/down": "mlp.fc2",
}
_TEXT_TOWER = {
    "tokens": "embeddings.token_embedding",
    "positions": "embeddings.position_embedding",
    **under("stack/layers", LAYER, "encoder.layers.{}."),
    "norm": "final_layer_norm",
}
VISION_TOWER = {
    "patch_embed/projection": conv("embeddings.patch_embedding"),
    "positions": "embeddings.position_embedding",
    **under("stack/layers", LAYER, "encoder.layers.{}."),
    "norm": "post_layernorm",
}
CLIP = {
    **under("text", _TEXT_TOWER, "text_model."),
    **under("vision", VISION_TOWER, "vision_model."),
    "vision/class_token": At("vision_model.embeddings.class_embedding", shape=(-1,)),
    "vision/pre_norm": "vision_model.pre_layrnorm",
    "vision_projection": "visual_projection",
    "text_projection": "text_projection",
    "logit_scale": "logit_scale",
}
_MAP_HEAD = {
    "probe": "probe",
    "attention/query": split("attention.in_proj", 0, 3, leaf="_"),
    "attention/key": split("attention.in_proj", 1, 3, leaf="_"),
    "attention/value": split("attention.in_proj", 2, 3, leaf="_"),
    "attention/output": "attention.out_proj",
    "norm": "layernorm",
    "mlp/up": "mlp.fc1",
    "mlp/down": "mlp.fc2",
}
SIGLIP = {
    **under("text", _TEXT_TOWER, "text_model."),
    **under("vision", VISION_TOWER, "vision_model."),
    **under("vision/head", _MAP_HEAD, "vision_model.head."),
    "text_projection": "text_model.head",
    "logit_scale": At("logit_scale", shape=(1,)),
    "logit_bias": At("logit_bias", shape=(1,)),
}
