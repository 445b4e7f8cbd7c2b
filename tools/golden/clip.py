"""CLIP and SigLIP of transformers: one layer, and the whole model with its loss."""

import torch
import transformers
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

from tools.golden.reference import additive, arrays, first, integers, reference


@reference
def clip_layer(record, seed, batch=2, length=7, width=32, heads=4, mlp_width=64):
    """Pre-norm, quick GELU, under a causal mask."""
    config = transformers.CLIPTextConfig(
        hidden_size=width, num_attention_heads=heads, intermediate_size=mlp_width, attn_implementation="eager"
    )
    mask = torch.ones(batch, length, length, dtype=torch.bool).tril()
    return record(
        CLIPEncoderLayer(config),
        {"x": arrays(seed)(batch, length, width)},
        lambda forward, i: {"y": first(forward(i["x"], additive(mask)))},
    )


@reference
def siglip_layer(record, seed, batch=2, length=7, width=32, heads=4, mlp_width=48):
    """Pre-norm, tanh GELU, no mask."""
    config = transformers.SiglipVisionConfig(
        hidden_size=width, num_attention_heads=heads, intermediate_size=mlp_width, attn_implementation="eager"
    )
    return record(
        SiglipEncoderLayer(config),
        {"x": arrays(seed)(batch, length, width)},
        lambda forward, i: {"y": first(forward(i["x"], None))},
    )


@reference
def clip(
    record,
    seed,
    batch=3,
    size=8,
    patch=4,
    width=12,
    vision=16,
    depth=2,
    heads=2,
    length=6,
    vocabulary=24,
    embedding=8,
):
    """The two towers; rows end with the end-of-text id at different places and are padded with id 1."""
    shared = dict(num_hidden_layers=depth, attn_implementation="eager")
    eos = vocabulary - 1
    text = transformers.CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=heads,
        max_position_embeddings=length,
        eos_token_id=eos,
        bos_token_id=0,
        pad_token_id=1,
        **shared,
    )
    vision = transformers.CLIPVisionConfig(
        image_size=size,
        patch_size=patch,
        hidden_size=vision,
        intermediate_size=2 * vision,
        num_attention_heads=heads,
        **shared,
    )
    config = transformers.CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=embedding
    )
    config._attn_implementation = "eager"
    tokens = integers(seed, 2, eos, batch, length)
    for row, end in enumerate(integers(seed + 1, 1, length, batch)):
        tokens[row, end], tokens[row, end + 1 :] = eos, 1
    return record(
        transformers.CLIPModel(config),
        {"image": arrays(seed)(batch, size, size, 3), "tokens": tokens},
        _contrastive,
    )


@reference
def siglip(
    record,
    seed,
    batch=3,
    size=9,
    patch=4,
    width=12,
    vision=16,
    depth=2,
    heads=2,
    length=6,
    vocabulary=24,
):
    """Both towers, the attention-pooling head and the sigmoid loss; the text tower sees its padding.

    The text tower is narrower than the space, as SigLIP 2's g-opt has it, and the picture holds pixels that
    fill no patch, as at SigLIP's So400m/14 of 384 pixels.
    """

    def shared(width):
        shape = dict(hidden_size=width, intermediate_size=2 * width)
        return shape | dict(num_hidden_layers=depth, num_attention_heads=heads, attn_implementation="eager")

    text = transformers.SiglipTextConfig(
        vocab_size=vocabulary, max_position_embeddings=length, projection_size=vision, **shared(width)
    )
    vision = transformers.SiglipVisionConfig(image_size=size, patch_size=patch, **shared(vision))
    config = transformers.SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
    config._attn_implementation = "eager"
    return record(
        transformers.SiglipModel(config),
        {"image": arrays(seed)(batch, size, size, 3), "tokens": integers(seed, 0, vocabulary, batch, length)},
        _contrastive,
    )


def _contrastive(forward, inputs):
    pixels = inputs["image"].permute(0, 3, 1, 2)
    out = forward(input_ids=inputs["tokens"], pixel_values=pixels, return_loss=True)
    return {"image": out.image_embeds, "text": out.text_embeds, "loss": out.loss}
