"""Gated cross-attention and Perceiver resamplers, and whole models: OpenFlamingo and IDEFICS."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer
from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

from tools.golden.isolated import modules
from tools.golden.language import mpt_model
from tools.golden.reference import additive, arrays, integers, reference


def layers():
    """OpenFlamingo's module of layers; importing its package would ask for open_clip and more."""
    package = importlib.util.find_spec("open_flamingo").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("open_flamingo_helpers", Path(package, "src", "helpers.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _markers(seed, batch, length, media):
    """bool[B, L]: every row has `media` markers, at other places; text stands before the first one."""
    random = np.random.default_rng((seed, 4))
    markers = np.zeros((batch, length), bool)
    for row in markers:
        row[1 + random.choice(length - 1, media, replace=False)] = True
    return markers


@reference
def open_flamingo_cross(
    record, seed, batch=2, length=8, width=24, media=2, latents=3, vision=16, heads=2, head_dim=8
):
    """A token sees the latest picture, or none; gates, attention and feed-forward."""
    block = layers().GatedCrossAttentionBlock(dim=width, dim_visual=vision, dim_head=head_dim, heads=heads)
    normal = arrays(seed)
    return record(
        block,
        {
            "x": normal(batch, length, width),
            "media": normal(batch, media, latents, vision),
            "markers": _markers(seed, batch, length, media),
        },
        lambda forward, i: {"y": forward(i["x"], i["media"], media_locations=i["markers"])},
    )


@reference
def open_flamingo_resampler(
    record, seed, batch=2, media=2, frames=2, length=5, width=16, depth=2, heads=2, head_dim=8, queries=3
):
    """With frame embeddings, of which one more is learned than is used."""
    resampler = layers().PerceiverResampler(
        dim=width, depth=depth, dim_head=head_dim, heads=heads, num_latents=queries, max_num_frames=frames + 1
    )
    return record(
        resampler,
        {"features": arrays(seed)(batch, media, frames, length, width)},
        lambda forward, i: {"y": forward(i["features"])},
    )


@reference
def open_flamingo(
    record,
    seed,
    batch=2,
    length=8,
    vocabulary=26,
    width=16,
    depth=4,
    heads=2,
    every=2,
    media=2,
    size=8,
    patch=4,
    vision=12,
    vision_depth=1,
    vision_heads=2,
):
    """A whole OpenFlamingo on MPT: pictures, resampler, gated cross-attention, loss.

    Its vision encoder is open_clip's of 2023, when the models were trained: since 2.24 open_clip normalises
    the patch features unless `final_ln_after_pool`. Its resampler and its blocks have 8 heads of 64 however
    small the model is: they are replaced by smaller ones.
    """
    (tower,) = modules("open_clip.transformer", packages=("open_clip",), hidden=("timm", "transformers"))
    source, language_model, helpers, utils = modules(
        *(f"open_flamingo.src.{name}" for name in ("flamingo", "flamingo_lm", "helpers", "utils")),
        packages=("open_flamingo", "open_flamingo.src"),
    )

    class Vision(tower.VisionTransformer):
        def forward(self, pixels):
            with torch.enable_grad():  # the model switches gradients off
                return super().forward(pixels)

    image = vocabulary - 1
    language = mpt_model(length + 3, vocabulary, width, depth, heads)
    utils.extend_instance(language, language_model.FlamingoLMMixin)
    language.set_decoder_layers_attr_name("transformer.blocks")
    encoder = torch.nn.Module()
    encoder.visual = Vision(
        image_size=size,
        patch_size=patch,
        width=vision,
        layers=vision_depth,
        heads=vision_heads,
        mlp_ratio=2,
        output_dim=4,
        output_tokens=True,
        final_ln_after_pool=True,
    )
    model = source.Flamingo(encoder, language, 0, image, vis_dim=vision, cross_attn_every_n_layers=every)
    model.perceiver = helpers.PerceiverResampler(dim=vision, depth=1, num_latents=3, heads=2, dim_head=6)
    smaller = dict(dim=width, dim_visual=vision, heads=2, dim_head=6)
    language.gated_cross_attn_layers = torch.nn.ModuleList(
        block and helpers.GatedCrossAttentionBlock(**smaller) for block in language.gated_cross_attn_layers
    )
    language.init_flamingo_layers(False)
    tokens = integers(seed, 0, image, batch, length)
    tokens = np.where(_markers(seed, batch, length, media), image, tokens)
    targets = np.roll(tokens, -1, axis=1)
    targets[:, -1] = -1

    def run(forward, i):
        out = forward(
            vision_x=i["image"].permute(0, 1, 4, 2, 3)[:, :, None],
            lang_x=i["tokens"],
            attention_mask=torch.ones_like(i["tokens"]),
        )
        loss = torch.nn.functional.cross_entropy(
            out.logits.flatten(0, 1), i["targets"].flatten(), ignore_index=-1
        )
        return {"logits": out.logits, "loss": loss}

    return record(
        model,
        {"tokens": tokens, "targets": targets, "image": arrays(seed)(batch, media, size, size, 3)},
        run,
        drop=("vision_encoder.ln_post.", "vision_encoder.proj"),  # of the pooled feature
    )


def _idefics(width, heads, mlp_width, vision, **fields):
    config = transformers.IdeficsConfig(
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=mlp_width,
        qk_layer_norms=True,
        dropout=0.0,
        **dict(alpha_type="vector", vision_config=dict(embed_dim=vision)) | fields,
    )
    config._attn_implementation = "eager"
    return config


@reference
def idefics_cross(record, seed, batch=2, length=8, width=32, vision=16, keys=6, heads=4, mlp_width=48):
    """RMSNorm, RMS qk-norm, one gate per channel, SwiGLU; the first tokens see no picture."""
    layer = IdeficsGatedCrossAttentionLayer(_idefics(width, heads, mlp_width, vision))
    normal = arrays(seed)
    mask = np.random.default_rng((seed, 4)).random((batch, length, keys)) < 0.5
    mask[:, :2], mask[:, -1] = False, True
    return record(
        layer,
        {"x": normal(batch, length, width), "context": normal(batch, keys, vision), "mask": mask},
        lambda forward, i: {
            "y": forward(
                i["x"],
                image_hidden_states=i["context"],
                image_attention_mask=additive(i["mask"]),
                cross_attention_gate=i["mask"].any(-1),
            )
        },
    )


@reference
def idefics_resampler(record, seed, batch=3, length=5, width=16, depth=2, heads=2, head_dim=8, queries=3):
    """ReLU, LayerNorm on queries and keys."""
    config = _idefics(32, 4, 48, width, perceiver_config=dict(qk_layer_norms_perceiver=True))
    return record(
        IdeficsPerceiverResampler(config, width, depth, heads, head_dim, queries),
        {"features": arrays(seed)(batch, length, width)},
        lambda forward, i: {"y": forward(i["features"])},
    )


@reference
def idefics(
    record,
    seed,
    batch=2,
    length=8,
    vocabulary=30,
    added=2,
    width=16,
    depth=4,
    heads=2,
    mlp_width=24,
    every=2,
    media=2,
    size=8,
    patch=4,
    vision=12,
    vision_depth=1,
    vision_heads=2,
    resampler_depth=1,
    resampler_heads=2,
    resampler_head_dim=8,
    queries=3,
):
    """A whole Flamingo: pictures, resampler, gated cross-attention, Llama with added tokens, loss.

    The loss is of the logits of all tokens, as in the original training code: the port cuts rows of
    `vocab_size` from logits that have columns for the added tokens too, which fails or misaligns them.
    """
    config = _idefics(
        width,
        heads,
        mlp_width,
        vision,
        alpha_type="float",
        vocab_size=vocabulary,
        additional_vocab_size=added,
        num_hidden_layers=depth,
        cross_layer_interval=every,
        use_resampler=True,
        pad_token_id=None,
        tie_word_embeddings=False,
        vision_config=dict(
            embed_dim=vision,
            image_size=size,
            patch_size=patch,
            num_hidden_layers=vision_depth,
            num_attention_heads=vision_heads,
            intermediate_size=2 * vision,
        ),
        perceiver_config=dict(
            resampler_depth=resampler_depth,
            resampler_n_heads=resampler_heads,
            resampler_head_dim=resampler_head_dim,
            resampler_n_latents=queries,
            qk_layer_norms_perceiver=True,
        ),
    )
    image = vocabulary + added - 1  # the marker is the last of the added tokens
    tokens = integers(seed, 0, image, batch, length)
    tokens[:, -2] = vocabulary
    tokens = np.where(_markers(seed, batch, length, media), image, tokens)
    targets = np.roll(tokens, -1, axis=1)
    targets[:, -1] = -1

    def run(forward, i):
        seen = (i["tokens"] == image).cumsum(1)[:, :, None] == torch.arange(1, media + 1)
        out = forward(
            input_ids=i["tokens"],
            pixel_values=i["image"].permute(0, 1, 4, 2, 3),
            image_attention_mask=seen.long(),
            use_cache=False,
        )
        loss = torch.nn.functional.cross_entropy(
            out.logits.flatten(0, 1), i["targets"].flatten(), ignore_index=-1
        )
        return {"logits": out.logits, "loss": loss}

    return record(
        transformers.IdeficsForVisionText2Text(config),
        {"tokens": tokens, "targets": targets, "image": arrays(seed)(batch, media, size, size, 3)},
        run,
        drop=("model.vision_model.post_layernorm.",),  # of the pooled feature, which nothing reads
    )
