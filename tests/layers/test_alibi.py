"""Linear biases of distance, and norms of queries and keys over all heads at once (MPT)."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perturbed import normal, parameters

from mmjax.errors import UserError
from mmjax.layers import masks
from mmjax.layers.attention import Attention, attend, linear_biases
from mmjax.layers.transformer import Block, Inputs, TransformerConfig

CONFIG = TransformerConfig(depth=1, width=18, heads=6, kv_heads=3, mlp_width=24, alibi=True)
AT = np.arange(6)[None]


def test_slopes_are_those_of_the_paper():
    at = np.array([[0, 1, 5]])

    def slopes(heads):
        biases = np.asarray(linear_biases(at, at, heads))
        np.testing.assert_array_equal(biases[0, :, 2, 0], 5 * biases[0, :, 1, 0])
        np.testing.assert_array_equal(biases, biases.swapaxes(2, 3))
        return -biases[0, :, 1, 0]

    geometric = 0.5 ** np.arange(1, 9)
    np.testing.assert_allclose(slopes(8), geometric, rtol=1e-6)
    # Section 3 and the paper's code: of 12 heads 8 are those of 8, and 4 every second one of those of 16.
    np.testing.assert_allclose(slopes(12), [*geometric, *0.5 ** np.arange(0.5, 4.5)], rtol=1e-6)
    np.testing.assert_allclose(slopes(1), [2.0**-8], rtol=1e-6)


def test_a_bias_is_added_to_the_logits_and_to_the_gradients():
    arrays = normal(0, 2, 5, 4, 8), normal(1, 2, 7, 2, 8), normal(2, 2, 7, 2, 8)
    bias, wanted = normal(3, 2, 4, 5, 7), normal(4, 2, 5, 4, 8)
    mask = normal(5, 2, 5, 7) > -0.3
    mask[:, :, 0] = True

    def plain(query, key, value):
        key, value = (jnp.repeat(x, 2, axis=2) for x in (key, value))
        logits = jnp.einsum("BTHK,BSHK->BHTS", query, key) / np.sqrt(8) + bias
        weights = jax.nn.softmax(jnp.where(mask[:, None], logits, -jnp.inf))
        return jnp.einsum("BHTS,BSHK->BTHK", weights, value)

    def read_and_gradients(function):
        def objective(arrays):
            read = function(*arrays)
            return jnp.sum(read * wanted), read

        return jax.jit(jax.grad(objective, has_aux=True))(arrays)

    actual = read_and_gradients(lambda *arrays: attend(*arrays, mask, bias=bias))
    chex.assert_trees_all_close(actual, read_and_gradients(plain), rtol=1e-4, atol=1e-5)


def _run(config, x, **inputs):
    block, inputs = Block(config), Inputs(**inputs)
    params = parameters(block, x, None, inputs)
    return np.asarray(jax.jit(block.apply)({"params": params}, x, None, inputs)[0])


def _segments(real):
    segment = real.astype(np.int32)
    positions = np.maximum(np.cumsum(segment, axis=1) - 1, 0)
    return dict(mask=masks.self_attention_mask(np.ones_like(segment), segment), positions=positions)


def test_padding_on_either_side_or_in_between_changes_nothing():
    """Distances are of positions, not of places in the row."""
    text = normal(0, 4, 18)
    places = np.array([[0, 1, 2, 3], [3, 4, 5, 6], [0, 2, 3, 6]])  # of the text, padding elsewhere
    x, real = 100.0 * normal(1, 3, 7, 18), np.zeros((3, 7), bool)
    for row, at in enumerate(places):
        x[row, at], real[row, at] = text, True
    y = _run(CONFIG, x, **_segments(real))
    read = np.stack([y[row, at] for row, at in enumerate(places)])
    chex.assert_trees_all_close(read[1:], np.stack([read[0]] * 2), rtol=1e-4, atol=1e-5)


def test_only_distances_count_and_they_do():
    x, mask = normal(0, 1, 6, 18), masks.self_attention_mask(*(np.ones((1, 6), np.int32),) * 2)
    near, far, stretched = (_run(CONFIG, x, mask=mask, positions=at) for at in (AT, AT + 100, 2 * AT))
    chex.assert_trees_all_close(near, far, rtol=1e-4, atol=1e-5)
    assert np.abs(near - stretched)[:, 1:].max(-1).min() > 1e-3


@pytest.mark.parametrize("block_start", [[1, 1, 1, 1, 1, 1], [1, 0, 0, 1, 1, 1]])
def test_hidden_tokens_have_no_influence(block_start):
    mask = masks.self_attention_mask(np.array([block_start]), np.array([[1, 1, 1, 1, 2, 2]]))
    inputs, block, x = Inputs(mask=mask, positions=AT), Block(CONFIG), normal(0, 1, 6, 18)
    params = parameters(block, x, None, inputs)
    replaced = np.stack([x] * 7)
    for s in range(6):
        replaced[1 + s, :, s] = 100.0 * normal(1 + s, 18)
    y = np.asarray(
        jax.jit(jax.vmap(lambda x: block.apply({"params": params}, x, None, inputs)[0][0]))(replaced)
    )
    expected = np.asarray(mask[0]).T | np.eye(6, dtype=bool)
    np.testing.assert_array_equal(np.any(y[1:] != y[0], axis=-1), expected)


@pytest.mark.parametrize("kernel", ["splash", "cudnn"])
def test_a_kernel_without_biases_is_refused(kernel):
    with pytest.raises(UserError, match=f"attention = '{kernel}' knows no alibi"):
        TransformerConfig(depth=1, width=8, heads=2, alibi=True, attention=kernel)


def test_biases_without_positions_are_refused():
    with pytest.raises(UserError, match="alibi needs the position of every token"):
        jax.eval_shape(Block(CONFIG).init, jax.random.key(0), normal(0, 1, 6, 18), None, Inputs())
    attention, x = Attention(features=18, heads=6, head_dim=3, alibi=True), normal(0, 1, 6, 18)
    with pytest.raises(UserError, match="alibi needs the position of every token"):
        jax.eval_shape(lambda: attention.init(jax.random.key(0), x, x, positions=AT))


@pytest.mark.parametrize("kind", ["layer_no_bias", "rms"])
def test_a_joint_norm_has_one_mean_for_all_heads(kind):
    attention = Attention(
        features=18, heads=6, kv_heads=3, head_dim=4, qk_norm=kind, qk_norm_joint=True, bias=False
    )
    x = normal(0, 2, 5, 18)
    params = parameters(attention, x)
    chex.assert_shape(params["query_norm"]["scale"], (6, 4))
    key, _ = attention.apply({"params": params}, x, method=Attention.keys_values)
    raw = np.einsum("BTD,DNK->BTNK", x, params["key"]["kernel"])
    flat = raw.reshape(2, 5, 12)
    if kind != "rms":
        flat = flat - flat.mean(-1, keepdims=True)
    flat = flat / np.sqrt(np.square(flat).mean(-1, keepdims=True) + 1e-5)
    expected = flat.reshape(raw.shape) * params["key_norm"]["scale"]
    chex.assert_trees_all_close(key, expected, rtol=1e-4, atol=1e-4)
