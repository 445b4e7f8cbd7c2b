"""Decoding with a static cache computes what one pass over the whole text computes."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perturbed import normal, parameters

from mmjax.language.decoder import Decoder, DecoderConfig, empty_memory
from mmjax.layers import masks
from mmjax.layers.transformer import Inputs, TransformerConfig

PROMPT, NEW, MEDIA, QUERIES = 5, 3, 2, 2
LENGTHS = np.array([5, 3, 2])  # of the prompts; the rest of each row is padding, on the right
IMAGE = 3

LLAMA = TransformerConfig(
    depth=2,
    width=16,
    heads=4,
    kv_heads=2,
    mlp_width=24,
    norm="rms",
    gated_mlp=True,
    qk_norm="rms",
    rope_base=1e4,
)
MPT = TransformerConfig(
    depth=3,
    width=18,
    heads=6,
    kv_heads=3,
    mlp_width=24,
    norm="layer_no_bias",
    qk_norm="layer_no_bias",
    qk_norm_joint=True,
    alibi=True,
)
GPT2 = TransformerConfig(depth=2, width=16, heads=2, mlp_width=24)
CONFIGS = {
    "grouped heads and RoPE": DecoderConfig(
        vocabulary_size=11, context_length=8, tied=False, transformer=LLAMA
    ),
    "learned positions": DecoderConfig(
        vocabulary_size=11, context_length=8, learned_positions=True, transformer=GPT2
    ),
    "gated cross-attention": DecoderConfig(
        vocabulary_size=11, context_length=8, transformer=dataclasses.replace(LLAMA, depth=4), cross_every=2
    ),
    "ALiBi, the last of two layers cross": DecoderConfig(
        vocabulary_size=11, context_length=8, transformer=MPT, cross_every=2, cross_first=1
    ),
}


def step(module, tokens, inputs, memory=None):
    states, memory = module(module.embed(tokens), inputs, memory)
    return module.logits(states), memory


def media_inputs(tokens, real, media):
    """Context and its mask by the latest-picture rule, for decoders that read any."""
    marker, segment = tokens == IMAGE, real.astype(np.int32)
    owner = masks.media_segment(marker, segment, MEDIA)
    valid = np.ones((len(tokens), MEDIA), bool)
    seen = masks.latest_media_mask(masks.media_seen(marker), segment, valid, owner)
    return media.reshape(len(tokens), MEDIA * QUERIES, -1), jnp.repeat(seen, QUERIES, axis=-1)


@pytest.mark.parametrize("name", CONFIGS)
def test_cached_decoding_of_right_padded_prompts(name):
    config = CONFIGS[name]
    module, capacity, batch = Decoder(config), PROMPT + NEW, len(LENGTHS)
    whole = 4 + np.random.default_rng(0).integers(0, 7, (batch, capacity))
    whole[:, 1] = whole[0, 3] = IMAGE
    media = normal(1, batch, MEDIA, QUERIES, 12)

    # Without a cache: prompt and continuation side by side, one pass.
    real = np.arange(capacity) < LENGTHS[:, None] + NEW
    ones = np.ones_like(whole)
    context, context_mask = media_inputs(whole, real, media)
    inputs = Inputs(
        mask=masks.self_attention_mask(ones, real.astype(np.int32)),
        positions=np.tile(np.arange(capacity), (batch, 1)),
        context=context,
        context_mask=context_mask,
    )
    params = parameters(module, whole, inputs, method=step)
    run = functools.partial(jax.jit(lambda p, *args: module.apply({"params": p}, *args, method=step)), params)
    expected, _ = run(whole, inputs)

    # With one: padded prompts first, then one token at a time behind the padding.
    filled = np.zeros((batch, capacity), np.int32)
    filled[:, :PROMPT] = np.arange(PROMPT) < LENGTHS[:, None]
    tokens = np.where(filled[:, :PROMPT] > 0, whole[:, :PROMPT], 0)
    order = np.tile(np.arange(capacity), (batch, 1))
    _, prompt_mask = media_inputs(tokens, filled[:, :PROMPT], media)
    prefill = Inputs(
        mask=masks.attention_mask(order[:, :PROMPT], filled[:, :PROMPT], order, filled),
        positions=np.tile(np.arange(PROMPT), (batch, 1)),
        context=context,
        context_mask=prompt_mask,
        write_at=np.int32(0),
        key_positions=order,
    )
    placed = order.copy()
    logits, memory = run(tokens, prefill, empty_memory(config, batch, capacity))
    rows = np.arange(batch)
    for row, length in enumerate(LENGTHS):
        chex.assert_trees_all_close(logits[row, :length], expected[row, :length], rtol=1e-4, atol=1e-4)

    latest = np.asarray(prompt_mask)[rows, LENGTHS - 1][:, None]
    for new in range(NEW):
        slot, position = PROMPT + new, LENGTHS + new
        filled[:, slot], placed[:, slot] = 1, position
        inputs = Inputs(
            mask=masks.attention_mask(order[:, slot : slot + 1], np.ones((batch, 1), int), order, filled),
            positions=position[:, None],
            context_mask=latest,
            write_at=np.int32(slot),
            key_positions=placed,
        )
        logits, memory = run(whole[rows, position][:, None], inputs, memory)
        chex.assert_trees_all_close(logits[:, 0], expected[rows, position], rtol=1e-4, atol=1e-4)


def test_an_empty_cache_has_room_for_key_value_heads_only():
    memory = empty_memory(CONFIGS["grouped heads and RoPE"], 3, 8)
    chex.assert_shape(memory.self_attention, (2, 3, 2, 8, 4))
    _, layers = empty_memory(CONFIGS["gated cross-attention"], 3, 8)["groups"]
    chex.assert_shape(layers.self_attention, (2, 2, 3, 2, 8, 4))
