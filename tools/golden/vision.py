"""Blocks of vision models: the layer scale of DINOv2, and the diffusion transformer of diffusers."""

import diffusers
import transformers
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import nn
from transformers.models.dinov2.modeling_dinov2 import Dinov2Layer

from tools.golden.reference import arrays, first, integers, reference


@reference
def dinov2_layer(record, seed, batch=2, length=7, width=32, heads=4, mlp_ratio=2):
    """Pre-norm with a learned scale per channel on each branch."""
    config = transformers.Dinov2Config(
        hidden_size=width, num_attention_heads=heads, mlp_ratio=mlp_ratio, attn_implementation="eager"
    )
    return record(
        Dinov2Layer(config),
        {"x": arrays(seed)(batch, length, width)},
        lambda forward, i: {"y": first(forward(i["x"]))},
    )


class _Condition(nn.Module):
    """Stands in for the timestep and label embedding of a block, and passes the condition through."""

    def forward(self, condition, labels=None, hidden_dtype=None):
        return condition


@reference
def dit_block(record, seed, batch=2, length=6, width=24, heads=3):
    """adaLN-Zero; diffusers has epsilon 1e-6 in its first norm, here also in its second, as DiT itself."""
    block = BasicTransformerBlock(
        width,
        heads,
        width // heads,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1,
        attention_bias=True,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
    )
    block.norm1.emb = _Condition()
    normal = arrays(seed)
    return record(
        block,
        {"x": normal(batch, length, width), "condition": normal(batch, width)},
        lambda forward, i: {"y": forward(i["x"], timestep=i["condition"])},
    )


@reference
def time_embedding(record, seed, batch=4, width=24, frequencies=32):
    """Cosines first, and DiT's frequencies: the last is not quite 1 / 10000 (diffusers' default shift is)."""
    features = Timesteps(frequencies, flip_sin_to_cos=True, downscale_freq_shift=0)
    times = integers(seed, 0, 1000, batch).astype("float32") / 1000
    return record(
        TimestepEmbedding(frequencies, width),
        {"time": times},
        lambda forward, i: {"y": forward(features(1000 * i["time"]))},
    )


@reference
def dit(record, seed, batch=2, size=8, patch=2, channels=4, width=12, depth=2, heads=2, classes=5):
    """The whole transformer: patches, fixed sine-cosine positions, time and class, blocks, output layer.

    It answers with twice the channels, for noise and variance. Where diffusers' port differs from DiT's own
    code the latter is followed: the time and class embedding is shared by all blocks, its frequencies are not
    shifted, and all norms have epsilon 1e-6. One row has the null class.
    """
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=width // heads,
        in_channels=channels,
        out_channels=2 * channels,
        num_layers=depth,
        sample_size=size,
        patch_size=patch,
        num_embeds_ada_norm=classes,
        norm_eps=1e-6,
    )
    for block in model.transformer_blocks:
        block.norm1.emb.time_proj = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)
    shared, *copies = (f"transformer_blocks.{block}.norm1.emb." for block in range(depth))

    def tie(weights):
        embedding = {name.removeprefix(shared): w for name, w in weights.items() if name.startswith(shared)}
        blocks = range(1, depth)
        return weights | {
            f"transformer_blocks.{b}.norm1.emb.{n}": w for b in blocks for n, w in embedding.items()
        }

    label = integers(seed, 0, classes, batch)
    label[-1] = classes
    return record(
        model,
        {
            "image": arrays(seed)(batch, size, size, channels),
            "time": integers(seed, 0, 1000, batch).astype("float32") / 1000,
            "label": label,
        },
        lambda forward, i: {
            "y": forward(
                i["image"].permute(0, 3, 1, 2), timestep=1000 * i["time"], class_labels=i["label"]
            ).sample.permute(0, 2, 3, 1)
        },
        drop=tuple(copies),
        tie=tie,
    )
