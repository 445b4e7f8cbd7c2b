"""CLIP in the layout of OpenAI's release, which open_clip kept: vision transformers and residual towers.

A public state dict also holds the buffers `num_batches_tracked` of its batch norms and, in OpenAI's own
files, three integers: `input_resolution`, `context_length` and `vocab_size`.
"""

from mmjax.interop.names import At, conv, split, under

LAYER = {
    "self_norm": "ln_1",
    "self_attention/query": split("attn.in_proj", 0, 3, leaf="_"),
    "self_attention/key": split("attn.in_proj", 1, 3, leaf="_"),
    "self_attention/value": split("attn.in_proj", 2, 3, leaf="_"),
    "self_attention/output": "attn.out_proj",
    "mlp_norm": "ln_2",
    "mlp/up": "mlp.c_fc",
    "mlp/down": "mlp.c_proj",
}
_TEXT = {
    "text/tokens": "token_embedding",
    "text/positions/table": "positional_embedding",
    **under("text/stack/layers", LAYER, "transformer.resblocks.{}."),
    "text/norm": "ln_final",
    "text_projection/kernel": "text_projection",
    "logit_scale": "logit_scale",
}
VISION_TOWER = {
    "class_token": At("class_embedding", shape=(-1,)),
    "positions/table": "positional_embedding",
    "patch_embed/projection": conv("conv1"),
    "pre_norm": "ln_pre",
    **under("stack/layers", LAYER, "transformer.resblocks.{}."),
    "norm": "ln_post",
}
CLIP = {**_TEXT, **under("vision", VISION_TOWER, "visual."), "vision_projection/kernel": "visual.proj"}


def _convolution(name: str, first: int = 0) -> At:
    return At(name, axes=(2, 3, 1, 0), first=first)


def _bottleneck(first: int = 0) -> dict:
    inner = {f"conv{i}": _convolution(f"conv{i}", first) for i in (1, 2, 3)}
    norms = {f"norm{i}": At(f"bn{i}", first=first) for i in (1, 2, 3)}
    return {
        **inner,
        **norms,
        "shortcut": _convolution("downsample.0"),
        "shortcut_norm": "downsample.1",
    }


def _stage(number: int) -> dict:
    theirs = f"layer{number}"
    return {
        **under("first", _bottleneck(), f"{theirs}.0."),
        **under("layers", _bottleneck(first=1), f"{theirs}.{{}}."),
    }


_RESNET = {
    **{f"stem_conv{i}": _convolution(f"conv{i}") for i in (1, 2, 3)},
    **{f"stem_norm{i}": f"bn{i}" for i in (1, 2, 3)},
    **{path: at for i in (1, 2, 3, 4) for path, at in under(f"stage{i}", _stage(i)).items()},
    "pool/positions/table": "attnpool.positional_embedding",
    "pool/attention/query": "attnpool.q_proj",
    "pool/attention/key": "attnpool.k_proj",
    "pool/attention/value": "attnpool.v_proj",
    "pool/attention/output": "attnpool.c_proj",
}
RESNET_CLIP = {**_TEXT, **under("vision", _RESNET, "visual.")}
