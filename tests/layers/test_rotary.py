"""Rotary positions: what they depend on, how frequencies are stretched, and that angles are computed once."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from perturbed import normal, parameters

from mmjax.layers.rotary import RopeScaling, rotate, rotation_at
from mmjax.layers.transformer import Inputs, Stack, TransformerConfig


def test_rope_depends_on_distances_only_and_keeps_lengths():
    query, key = normal(0, 1, 6, 1, 8), normal(1, 1, 6, 1, 8)
    at = np.arange(6)[None]
    rotated = jax.jit(lambda x, at: rotate(x, rotation_at(at, 8, 1e4)))
    near, far = (
        np.einsum("BTNK,BSNK->BTS", rotated(query, at + shift), rotated(key, at + shift))
        for shift in (0, 100)
    )
    chex.assert_trees_all_close(near, far, rtol=1e-4, atol=1e-4)
    assert not np.allclose(near, np.einsum("BTNK,BSNK->BTS", query, key), atol=0.1)
    chex.assert_trees_all_close(
        np.linalg.norm(rotated(query, at), axis=-1), np.linalg.norm(query, axis=-1), rtol=1e-5
    )
    np.testing.assert_array_equal(rotated(query, np.zeros_like(at)), query)


def test_stretched_rotary_frequencies():
    # Two channels turn together. Of 64 radians per 2 pi * 16 tokens, 16 turns: kept. Half a turn: divided.
    # In between, with 2.5 turns half-way from 1 to 4: the mean of both.
    scaling = RopeScaling(factor=8.0, original_length=100)
    turns = np.array([16.0, 0.5, 2.5])
    frequency = turns * 2 * np.pi / 100
    np.testing.assert_allclose(scaling(frequency) / frequency, [1, 1 / 8, (1 + 1 / 8) / 2], rtol=1e-6)
    x, scaling = jnp.ones((1, 1, 1, 2)), RopeScaling(factor=8.0, original_length=3)
    angle = 5 * float(scaling(1.0))  # the first frequency is always 1
    rotated = rotate(x, rotation_at(jnp.array([[5]]), 2, 1e4, scaling))[0, 0, 0]
    expected = [np.cos(angle) - np.sin(angle), np.cos(angle) + np.sin(angle)]
    np.testing.assert_allclose(rotated, expected, rtol=1e-5)


def test_a_stack_computes_its_angles_once():
    config = TransformerConfig(depth=3, width=8, heads=2, rope_base=1e4, unroll=3)
    x, inputs, stack = normal(0, 1, 6, 8), Inputs(positions=np.arange(6)[None]), Stack(config)
    params = parameters(stack, x, inputs)

    def total(params, x):
        return stack.apply({"params": params}, x, inputs)[0].sum()

    program = jax.jit(jax.grad(total)).lower(params, x).compile().as_text()
    assert program.count(" cosine(") == 1
