"""The kernels are `attend`: what they read and every gradient, for each mask they can express."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perturbed import integers, normal

from mmjax.layers import fused_attention
from mmjax.layers.attention import attend
from mmjax.layers.masks import SelfMask, self_attention_mask

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


def inputs():
    shapes = ((HEADS, 0), (KV_HEADS, 1), (KV_HEADS, 2))
    return tuple(normal(seed, 2, LENGTH, heads, HEAD_DIM) for heads, seed in shapes)


def read_and_gradients(attention, mask):
    def objective(arrays, mask):
        read = attention(*arrays, mask)
        return jnp.sum(read * normal(3, *read.shape)), read

    return jax.jit(jax.grad(objective, has_aux=True))(inputs(), mask)


@pytest.mark.parametrize("name", ["bidirectional", "causal, packed", "blocks"])
def test_the_tpu_kernel_is_attend(name):
    expected = read_and_gradients(attend, MASKS[name])
    actual = read_and_gradients(fused_attention.splash, MASKS[name])
    chex.assert_trees_all_close(actual, expected, rtol=2e-5, atol=2e-5)
    if MASKS[name] is not None and MASKS[name].segment is not None:
        np.testing.assert_array_equal(actual[1][0, 120:], 0.0)


@pytest.mark.parametrize("name", ["bidirectional", "causal", "blocks"])
def test_what_cudnn_is_asked_is_attend(name):
    def asked(*arguments):
        return fused_attention.cudnn(*arguments, implementation="xla")

    expected = read_and_gradients(attend, MASKS[name])
    chex.assert_trees_all_close(read_and_gradients(asked, MASKS[name]), expected, rtol=2e-5, atol=2e-5)


def test_the_choice_follows_the_config_then_the_platform():
    query, long = jnp.zeros((1, 256, 2, 8)), jnp.zeros((1, 2048, 2, 8), jnp.bfloat16)
    mask = SelfMask(order="causal")
    assert fused_attention.choose(None, long, mask) == "xla"  # on CPU
    assert fused_attention.choose("splash", query, mask) == "splash"
    assert fused_attention.choose("splash", query, np.ones((1, 256, 256), bool)) == "xla"
    assert fused_attention.choose("splash", query[:, :1], None) == "xla"
    for kind, chosen in (("tpu", "splash"), ("gpu", "cudnn")):
        device = jax.sharding.AbstractDevice(device_kind="any", num_cores=1, platform=kind)
        mesh = jax.sharding.AbstractMesh((1,), ("data",), abstract_device=device)
        with jax.sharding.use_abstract_mesh(mesh):
            assert fused_attention.choose(None, long, mask) == chosen
            assert fused_attention.choose(None, query, mask) == "xla"
            assert fused_attention.choose("xla", long, mask) == "xla"


def test_reach_is_the_last_token_of_ones_block():
    starts = integers([1, 1, 0, 0, 1], [1, 0, 1, 1, 1])
    np.testing.assert_array_equal(SelfMask(block_start=starts).reach(5), [[0, 3, 3, 3, 4], [1, 1, 2, 3, 4]])
    np.testing.assert_array_equal(SelfMask(order="causal").reach(3), [[0, 1, 2]])
    segment = integers([1, 1, 1, 2, 0], [1, 1, 1, 1, 1])
    dense = SelfMask(block_start=starts, segment=segment).dense(5)
    np.testing.assert_array_equal(dense, self_attention_mask(starts, segment))
