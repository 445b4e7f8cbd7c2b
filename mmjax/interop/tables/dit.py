"""DiT, as diffusers lays it out."""

from mmjax.interop.names import At, conv, projections, under

DIT_LAYER = {
    "modulation": "norm1.linear",
    **projections("self_attention", "attn1", "to_q", "to_k", "to_v", "to_out.0"),
    "mlp/up": "ff.net.0.proj",
    "mlp/down": "ff.net.2",
}
TIME_EMBEDDING = {"hidden": "linear_1", "output": "linear_2"}


def dit(depth: int, channels: int = 4) -> dict[str, str | At]:
    """The table of a `Denoiser` of classes; diffusers repeats the embeddings of time and class in each of its
    `depth` blocks. channels: of the latents."""
    condition = "transformer_blocks.{}.norm1.emb."
    time = condition + "timestep_embedder."
    return {
        "patch_embed/projection": conv("pos_embed.proj", channels),
        **{f"time_embedding/{ours}": At(time + name, copies=depth) for ours, name in TIME_EMBEDDING.items()},
        "class_table": At(condition + "class_embedder.embedding_table.weight", copies=depth),
        **under("stack/layers", DIT_LAYER, "transformer_blocks.{}."),
        "modulation": "proj_out_1",
        "output": "proj_out_2",
    }
