"""The kernels are `attend`: what they read and every gradient, for each mask they can express."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perturbed import integers, normal

from mmjax.errors import UserError
from mmjax.layers import fused_attention, short_attention
from mmjax.layers.attention import attend
from mmjax.layers.masks import SelfMask, self_attention_mask
from mmjax.layers.transformer import TransformerConfig

LENGTH = 150  # not a multiple of the kernel's 128
HEADS, KV_HEADS, HEAD_DIM = 2, 1, 16
SEGMENT = np.repeat([[1, 2, 0], [1, 1, 1]], [60, 60, 30], axis=1).astype(np.int32)
IMAGE = np.ones((2, LENGTH), np.int32)
IMAGE[:, 100:140] = 0  # an image that sees itself, across the border of two tiles
MASKS = {
    "bidirectional": None,
    "causal": SelfMask(order="causal"),
    "causal, packed": SelfMask(order="causal", segment=SEGMENT),
    "blocks": SelfMask(block_start=IMAGE, segment=SEGMENT),
}


def read_and_gradients(attention, mask, heads=(HEADS, KV_HEADS), head_dim=HEAD_DIM):
    shapes = ((heads[0], 0), (heads[1], 1), (heads[1], 2))
    inputs = tuple(normal(seed, 2, LENGTH, heads, head_dim) for heads, seed in shapes)

    def objective(arrays, mask):
        read = attention(*arrays, mask)
        return jnp.sum(read * normal(3, *read.shape)), read

    return jax.jit(jax.grad(objective, has_aux=True))(inputs, mask)


@pytest.mark.parametrize("name", ["bidirectional", "causal, packed", "blocks"])
def test_the_tpu_kernel_for_long_sequences_is_attend(name):
    expected = read_and_gradients(attend, MASKS[name])
    actual = read_and_gradients(functools.partial(fused_attention.on_tpu, "splash"), MASKS[name])
    chex.assert_trees_all_close(actual, expected, rtol=2e-5, atol=2e-5)
    if MASKS[name] is not None and MASKS[name].segment is not None:
        np.testing.assert_array_equal(actual[1][0, 120:], 0.0)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize(
    "heads, head_dim", [(4, 64), (3, 64), (2, 128), (16, 72)], ids=lambda number: str(number)
)
def test_the_tpu_kernel_for_short_sequences_is_attend(name, heads, head_dim):
    """Two heads in a tile; a tile half empty; a head a tile; heads across tiles."""

    def read(attention):
        return read_and_gradients(attention, MASKS[name], (heads, heads), head_dim)

    expected, actual = read(attend), read(functools.partial(fused_attention.on_tpu, "short"))
    chex.assert_trees_all_close(actual, expected, rtol=2e-5, atol=2e-5)
    if MASKS[name] is not None and MASKS[name].segment is not None:
        np.testing.assert_array_equal(actual[1][0, 120:], 0.0)


@pytest.mark.parametrize("queries, keys", [(8, 40), (40, 8)])
def test_a_context_of_another_length_is_read_whole(queries, keys):
    query, key, value = (normal(seed, 4, n, 2, 64) for seed, n in enumerate((queries, keys, keys)))
    actual = fused_attention.on_tpu("short", query, key, value, None)
    np.testing.assert_allclose(actual, attend(query, key, value), rtol=2e-5, atol=2e-5)


def test_programs_of_short_sequences_take_several_rows_and_stay_within_the_chip():
    def shape(batch, length, heads, head_dim):
        x = jnp.zeros((batch, length, heads, head_dim), jnp.bfloat16)
        return short_attention.shape_of(x, x), short_attention.fits(x, x)

    pictures, fit = shape(64, 196, 12, 64)
    assert (pictures.block, pictures.rows, fit) == (128, 1, True)
    captions, fit = shape(64, 64, 12, 64)
    assert (captions.block, captions.rows, fit) == (128, 4, True)
    odd, fit = shape(6, 16, 16, 72)
    assert (odd.block, odd.rows, fit) == (1152, 2, True)
    assert not shape(8, 1024, 12, 64)[1]
    grouped = jnp.zeros((1, 8, 2, 64)), jnp.zeros((1, 8, 1, 64))
    assert not short_attention.fits(*grouped)


@pytest.mark.parametrize("name", ["bidirectional", "causal", "blocks"])
def test_what_cudnn_is_asked_is_attend(name):
    def asked(*arguments):
        return fused_attention.cudnn(*arguments, implementation="xla")

    expected = read_and_gradients(attend, MASKS[name])
    chex.assert_trees_all_close(read_and_gradients(asked, MASKS[name]), expected, rtol=2e-5, atol=2e-5)


def test_the_choice_follows_the_config_then_the_platform():
    long, grouped = jnp.zeros((1, 2048, 2, 8), jnp.bfloat16), jnp.zeros((1, 256, 1, 8))
    query, mask = jnp.zeros((1, 256, 2, 8)), SelfMask(order="causal")
    choose, written_out = fused_attention.choose, np.ones((1, 256, 256), bool)
    assert choose(None, long, long, mask) == "xla"  # on CPU
    assert choose("short", query, grouped, mask) == "xla"
    for wanted in ("splash", "short"):
        assert choose(wanted, query, query, mask) == wanted
        assert choose(wanted, query, query, written_out) == "xla"
        assert choose(wanted, query[:, :1], query, None) == "xla"
    for kind, of_long, of_query in (("tpu", "splash", "short"), ("gpu", "cudnn", "xla")):
        device = jax.sharding.AbstractDevice(device_kind="any", num_cores=1, platform=kind)
        mesh = jax.sharding.AbstractMesh((1,), ("data",), abstract_device=device)
        with jax.sharding.use_abstract_mesh(mesh):
            assert choose(None, long, long, mask) == of_long
            assert choose(None, query, query, mask) == of_query  # float32 has no kernel on GPU
            assert choose(None, query, grouped, mask) == "xla"
            assert choose(None, query, query, written_out) == "xla"
            assert choose("xla", long, long, mask) == "xla"


def test_an_unknown_kernel_is_refused():
    with pytest.raises(UserError, match="unknown attention 'flash': set it to None or one of xla, splash"):
        TransformerConfig(depth=1, width=8, heads=1, attention="flash")


def test_reach_is_the_last_token_of_ones_block():
    starts = integers([1, 1, 0, 0, 1], [1, 0, 1, 1, 1])
    np.testing.assert_array_equal(SelfMask(block_start=starts).reach(5), [[0, 3, 3, 3, 4], [1, 1, 2, 3, 4]])
    np.testing.assert_array_equal(SelfMask(order="causal").reach(3), [[0, 1, 2]])
    segment = integers([1, 1, 1, 2, 0], [1, 1, 1, 1, 1])
    dense = SelfMask(block_start=starts, segment=segment).dense(5)
    np.testing.assert_array_equal(dense, self_attention_mask(starts, segment))
