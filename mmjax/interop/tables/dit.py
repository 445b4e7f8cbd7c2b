"""DiT, as diffusers lays it out."""

from mmjax.interop.names import conv, projections, under

DIT_LAYER = {
    "modulation": "norm1.linear",
    **projections("self_attention", "attn1", "to_q", "to_k", "to_v", "to_out.0"),
    "mlp/up": "ff.net.0.proj",
    "mlp/down": "ff.net.2",
}
TIME_EMBEDDING = {"hidden": "linear_1", "output": "linear_2"}
_DIT_CONDITION = "transformer_blocks.0.norm1.emb."
DIT = {
    "patch_embed/projection": conv("pos_embed.proj"),
    **under("time_embedding", TIME_EMBEDDING, _DIT_CONDITION + "timestep_embedder."),
    # A class is a one-hot embedding; mmjax's projection of embeddings also has a bias, DiT's table has not.
    "embedding_projection/kernel": _DIT_CONDITION + "class_embedder.embedding_table.weight",
    "embedding_projection/bias": None,
    "null_embedding": None,
    **under("stack/layers", DIT_LAYER, "transformer_blocks.{}."),
    "modulation": "proj_out_1",
    "output": "proj_out_2",
}
