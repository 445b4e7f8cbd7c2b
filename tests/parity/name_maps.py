"""Parameter names of the references, beside ours: one table per model.

A table maps a module of ours ('stack/layers/mlp/up') or a single parameter ('logit_scale') to the
reference's name for it, in which {} counts layers: those are stacked along our leading axes. In a module,
`kernel` is the transposed `weight`, `scale` and `table` are the `weight`, `bias` is the `bias`; heads split
and merge by reshaping to our shape. `At` says what differs from that.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

LEAVES = {"kernel": "weight", "scale": "weight", "table": "weight", "bias": "bias"}


@dataclasses.dataclass(frozen=True)
class At:
    """Where a parameter is, when the name alone does not say it.

    Attributes:
      axes: order of the reference's axes that gives ours; None for the usual transposition of a kernel.
      part, parts: the reference joins `parts` parameters along its axis `along`; this is number `part`.
      leaf: how the reference's leaf name is joined to the module's.
    """

    name: str
    axes: tuple[int, ...] | None = None
    part: int = 0
    parts: int = 1
    along: int = 0
    leaf: str = "."


def conv(name: str) -> At:
    """A convolution whose kernel is a linear map of patches, flattened as (row, column, channel)."""
    return At(name, axes=(2, 3, 1, 0))


def untransposed(name: str, **fields) -> At:
    return At(name, axes=(0, 1), **fields)


def split(name: str, part: int, parts: int, **fields) -> At:
    return At(name, part=part, parts=parts, **fields)


@dataclasses.dataclass(frozen=True)
class _Link:
    """One of our parameters: path and shape, and the reference parameters behind it."""

    path: tuple[str, ...]
    shape: tuple[int, ...]
    at: At
    name: str  # with {} where there are layers
    axes: tuple[int, ...] | None

    def view(self, value: np.ndarray) -> np.ndarray:
        """The part of a reference array that is this parameter, its axes in our order."""
        if self.at.parts > 1:
            value = np.split(value, self.at.parts, self.at.along)[self.at.part]
        return value.transpose(self.axes) if self.axes else value

    def names(self, reference: Mapping) -> list[str]:
        if "{}" not in self.name:
            return [self.name]
        count = sum(self.name.format(i) in reference for i in range(1000))
        return [self.name.format(i) for i in range(count)]


def _links(ours: Mapping, table: Mapping[str, str | At | None]) -> Iterator[_Link]:
    for path, leaf in flatten_dict(ours).items():
        whole, module = "/".join(path), "/".join(path[:-1])
        found = table.get(whole, table.get(module, ""))
        if found == "":
            raise KeyError(f"the name table has no entry for {whole}")
        if found is None:  # has no counterpart: stays zero
            continue
        at = found if isinstance(found, At) else At(found)
        is_kernel = whole not in table and path[-1] == "kernel"
        axes = (at.axes or (1, 0)) if is_kernel else None
        name = at.name if whole in table else at.name + at.leaf + LEAVES[path[-1]]
        yield _Link(path, tuple(leaf.shape), at, name, at.axes if whole in table else axes)


def to_ours(reference: Mapping[str, np.ndarray], ours: Mapping, table: Mapping) -> dict:
    """Reference parameters (or their gradients) -> our tree. `ours` gives the shapes."""
    tree = {path: np.zeros(leaf.shape, np.float32) for path, leaf in flatten_dict(ours).items()}
    for link in _links(ours, table):
        layers = [link.view(reference[name]) for name in link.names(reference)]
        tree[link.path] = np.stack(layers).reshape(link.shape)
    return unflatten_dict(tree)


def to_reference(ours: Mapping, reference: Mapping[str, np.ndarray], table: Mapping) -> dict[str, np.ndarray]:
    """Our tree -> the reference's parameters. `reference` gives names and shapes.

    A name without a counterpart of ours comes back as NaN, so that comparing finds it.
    """
    result = {name: np.full(value.shape, np.nan, np.float32) for name, value in reference.items()}
    flat = flatten_dict(ours)
    for link in _links(ours, table):
        names = link.names(reference)
        for name, value in zip(names, np.asarray(flat[link.path]).reshape(len(names), -1), strict=True):
            target = link.view(result[name])
            target[...] = value.reshape(target.shape)
    return result


def under(prefix: str, table: Mapping, theirs: str = "") -> dict:
    """`table` below `prefix` of ours and below the module `theirs` of the reference."""
    moved = {}
    for path, at in table.items():
        if isinstance(at, At):
            at = dataclasses.replace(at, name=theirs + at.name)
        elif at is not None:
            at = theirs + at
        moved[f"{prefix}/{path}" if prefix else path] = at
    return moved


# Layers ------------------------------------------------------------


def projections(
    ours: str, theirs: str, query="q_proj", key="k_proj", value="v_proj", output="o_proj"
) -> dict:
    names = dict(query=query, key=key, value=value, output=output)
    return {f"{ours}/{mine}": f"{theirs}.{name}" for mine, name in names.items()}


CLIP_LAYER = {
    "self_norm": "layer_norm1",
    **projections("self_attention", "self_attn", output="out_proj"),
    "mlp_norm": "layer_norm2",
    "mlp/up": "mlp.fc1",
    "mlp/down": "mlp.fc2",
}
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
QWEN3_LAYER = CHAMELEON_LAYER = LLAMA_LAYER | QK_NORM
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
DIT_LAYER = {
    "modulation": "norm1.linear",
    **projections("self_attention", "attn1", "to_q", "to_k", "to_v", "to_out.0"),
    "mlp/up": "ff.net.0.proj",
    "mlp/down": "ff.net.2",
}
OPEN_FLAMINGO_CROSS = {
    "cross_norm": "attn.norm",
    "cross_attention/query": "attn.to_q",
    "cross_attention/key": split("attn.to_kv", 0, 2),
    "cross_attention/value": split("attn.to_kv", 1, 2),
    "cross_attention/output": "attn.to_out",
    "cross_gate": "attn_gate",
    "mlp_norm": "ff.0",
    "mlp/up": "ff.1",
    "mlp/down": "ff.3",
    "mlp_gate": "ff_gate",
}
IDEFICS_CROSS = {
    "cross_norm": "input_layernorm",
    **projections("cross_attention", "cross_attn"),
    "cross_attention/query_norm": "cross_attn.q_layer_norm",
    "cross_attention/key_norm": "cross_attn.k_layer_norm",
    "cross_gate": "alpha_cross_attn",
    "mlp_norm": "post_attention_layernorm",
    "mlp/gate": "mlp.gate_proj",
    "mlp/up": "mlp.up_proj",
    "mlp/down": "mlp.down_proj",
    "mlp_gate": "alpha_dense",
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

# Models ------------------------------------------------------------

_TEXT_TOWER = {
    "tokens": "embeddings.token_embedding",
    "positions": "embeddings.position_embedding",
    **under("stack/layers", CLIP_LAYER, "encoder.layers.{}."),
    "norm": "final_layer_norm",
}
_VISION_TOWER = {
    "patch_embed/projection": conv("embeddings.patch_embedding"),
    "positions": "embeddings.position_embedding",
    **under("stack/layers", CLIP_LAYER, "encoder.layers.{}."),
    "norm": "post_layernorm",
}
CLIP = {
    **under("text", _TEXT_TOWER, "text_model."),
    **under("vision", _VISION_TOWER, "vision_model."),
    "vision/class_token": "vision_model.embeddings.class_embedding",
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
    **under("vision", _VISION_TOWER, "vision_model."),
    **under("vision/head", _MAP_HEAD, "vision_model.head."),
    "text_projection": "text_model.head",
    "logit_scale": "logit_scale",
    "logit_bias": "logit_bias",
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
IDEFICS = {
    **under("resampler", IDEFICS_RESAMPLER, "model.perceiver_resampler."),
    "language/tokens": "model.embed_tokens",
    **under("language/groups/cross", IDEFICS_CROSS, "model.gated_cross_attn_layers.{}."),
    **under("language/groups/stack/layers", LLAMA_LAYER, "model.layers.{}."),
    "language/norm": "model.norm",
    "language/head": "lm_head",
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
