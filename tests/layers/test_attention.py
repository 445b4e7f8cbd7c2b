"""Attention itself, and that what a mask hides has no influence at all."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perturbed import integers, normal, parameters

from mmjax.layers import masks
from mmjax.layers.attention import Attention, attend
from mmjax.layers.transformer import Block, Inputs, TransformerConfig

GROUPED = TransformerConfig(
    depth=1,
    width=16,
    heads=4,
    kv_heads=2,
    mlp_width=24,
    norm="rms",
    gated_mlp=True,
    qk_norm="rms",
    rope_base=1e4,
)
CROSS = TransformerConfig(depth=1, width=16, heads=2, mlp_width=24, sublayers=("cross", "mlp"), gate="tanh")


def test_attend_is_softmax_of_scaled_products_per_group():
    query, key, value = normal(0, 2, 5, 4, 8), normal(1, 2, 7, 2, 8), normal(2, 2, 7, 2, 8)
    mask = normal(3, 2, 5, 7) > -0.3
    mask[:, :, 0] = True
    expected = np.zeros((2, 5, 4, 8))
    for batch, at, head in np.ndindex(2, 5, 4):
        visible = np.flatnonzero(mask[batch, at])
        keys = np.asarray(key[batch, visible, head // 2], np.float64)
        weights = np.exp(keys @ np.asarray(query[batch, at, head], np.float64) / np.sqrt(8))
        expected[batch, at, head] = weights / weights.sum() @ np.asarray(value[batch, visible, head // 2])
    chex.assert_trees_all_close(
        attend(query, key, value, mask), expected.astype(np.float32), rtol=1e-5, atol=1e-6
    )


def test_no_mask_means_everything_is_visible():
    query, key, value = normal(0, 1, 3, 2, 4), normal(1, 1, 5, 2, 4), normal(2, 1, 5, 2, 4)
    everything = np.ones((1, 3, 5), bool)
    chex.assert_trees_all_close(attend(query, key, value), attend(query, key, value, everything), rtol=1e-6)


def test_softmax_is_in_float32_when_the_inputs_are_not():
    # Two keys of nearly equal merit under logits near 100, where bfloat16 resolves steps of 0.5 only.
    query = jnp.full((1, 1, 1, 4), 10.0, jnp.bfloat16)
    key = jnp.array([[[[5.0, 5.0, 5.0, 5.0]], [[5.0, 5.0, 5.0, 4.96875]]]], jnp.bfloat16)
    value = jnp.array([[[[1.0] * 4], [[0.0] * 4]]], jnp.bfloat16)
    read = attend(query, key, value)
    assert read.dtype == jnp.bfloat16
    expected = jax.nn.sigmoid(10 * (5 - 4.96875) / 2)
    chex.assert_trees_all_close(read[0, 0, 0, 0].astype(jnp.float32), expected, rtol=4e-3)


def test_rows_that_see_nothing_are_exactly_zero_with_finite_gradients():
    query, key, value = normal(0, 1, 3, 2, 4), normal(1, 1, 5, 2, 4), normal(2, 1, 5, 2, 4)
    mask = np.ones((1, 3, 5), bool)
    mask[:, 1] = False

    def objective(query, key, value):
        read = attend(query, key, value, mask)
        return jnp.sum(jnp.square(read - 1.0)), read

    gradients, read = jax.jit(jax.grad(objective, argnums=(0, 1, 2), has_aux=True))(query, key, value)
    np.testing.assert_array_equal(read[:, 1], 0.0)
    assert np.all(np.abs(read[:, 0]) > 0)
    chex.assert_tree_all_finite(gradients)
    np.testing.assert_array_equal(gradients[0][:, 1], 0.0)
    hidden = jax.jit(jax.grad(lambda v: objective(query, key, v)[1][:, 1].sum()))(value)
    np.testing.assert_array_equal(hidden, 0.0)


def test_an_entirely_masked_block_has_finite_gradients():
    x, block = normal(0, 2, 4, 16), Block(GROUPED)
    inputs = Inputs(mask=np.zeros((2, 4, 4), bool), positions=np.zeros((2, 4), np.int32))
    params = parameters(block, x, None, inputs)

    def total(params, x):
        return block.apply({"params": params}, x, None, inputs)[0].sum()

    chex.assert_tree_all_finite(jax.jit(jax.grad(total, argnums=(0, 1)))(params, x))


@pytest.mark.parametrize("order", ["pre", "post", "swin"])
@pytest.mark.parametrize(
    ("block_start", "segment"),
    [
        pytest.param([1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], id="causal"),
        pytest.param([1, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1], id="prefix"),
        pytest.param([1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 2, 2], id="image, packed"),
        pytest.param([1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0], id="padded on both sides"),
    ],
)
def test_hidden_tokens_have_no_influence(order, block_start, segment):
    """Replaces one token after the other; exactly the rows that may see it change."""
    config = TransformerConfig(**{**vars(GROUPED), "order": order})
    block, x = Block(config), normal(0, 1, 6, 16)
    mask = masks.self_attention_mask(integers(block_start), integers(segment))
    inputs = Inputs(mask=mask, positions=np.arange(6)[None])
    params = parameters(block, x, None, inputs)
    replaced = np.stack([x] * 7)
    for s in range(6):
        replaced[1 + s, :, s] = 100.0 * normal(1 + s, 16)
    y = jax.jit(jax.vmap(lambda x: block.apply({"params": params}, x, None, inputs)[0][0]))(replaced)
    y = np.asarray(y)
    changed = np.any(y[1:] != y[0], axis=-1)  # [replaced token, row]
    expected = np.asarray(mask[0]).T | np.eye(6, dtype=bool)  # a token always carries itself along
    np.testing.assert_array_equal(changed, expected)


def test_hidden_media_have_no_influence():
    """Text before the first picture, padding, missing media and earlier pictures, through a gated block."""
    queries = 3
    marker = np.array([[0, 1, 0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 1, 0, 0, 0]], bool)
    segment = integers([1, 1, 1, 1, 1, 1, 0, 1], [1, 1, 1, 2, 2, 2, 3, 3])
    valid = np.array([[True, True, True], [True, False, False]])
    seen = masks.latest_media_mask(
        masks.media_seen(marker), segment, valid, masks.media_segment(marker, segment, 3)
    )
    x, media = normal(0, 2, 8, 16), normal(1, 2, 3, queries, 12)
    block = Block(CROSS)

    def run(params, media):
        context = media.reshape(2, 3 * queries, 12)
        inputs = Inputs(context=context, context_mask=jnp.repeat(seen, queries, axis=-1))
        return block.apply({"params": params}, x, None, inputs)[0]

    params = parameters(block, x, None, Inputs(context=np.zeros((2, 3 * queries, 12))))
    replaced = np.stack([media] * 4)
    for m in range(3):
        replaced[1 + m, :, m] = 100.0 * normal(2 + m, 2, queries, 12)
    y = jax.jit(jax.vmap(run, (None, 0)))(params, replaced)
    y = np.asarray(y)
    changed = np.any(y[1:] != y[0], axis=-1)  # [replaced medium, row, token]
    np.testing.assert_array_equal(changed.transpose(1, 2, 0), np.asarray(seen))


def test_a_token_that_sees_no_media_passes_the_cross_attention_untouched():
    attention, x = Attention(features=16, heads=2, head_dim=8, bias=False), normal(0, 1, 4, 16)
    context = normal(1, 1, 6, 12)
    params = parameters(attention, x, context)
    mask = np.ones((1, 4, 6), bool)
    mask[:, :2] = False
    y, _ = jax.jit(attention.apply)({"params": params}, x, context, mask=mask)
    np.testing.assert_array_equal(y[:, :2], 0.0)
    assert np.all(np.any(np.asarray(y[:, 2:]) != 0, axis=-1))
