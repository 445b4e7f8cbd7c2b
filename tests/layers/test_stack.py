"""Blocks, stacks and readers: what is the identity at initialisation, and what a loop may not change."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta
from perturbed import normal, parameters

from mmjax.errors import UserError
from mmjax.language.decoder import Decoder, DecoderConfig
from mmjax.layers import masks
from mmjax.layers.queries import MAPHead, PerceiverResampler, ResamplerConfig, resampler_transformer
from mmjax.layers.transformer import Block, Inputs, Stack, TransformerConfig

SIZES = dict(width=16, heads=2, mlp_width=24)


def initial(module, *args, **kwargs):
    return meta.unbox(jax.jit(lambda: module.init(jax.random.key(0), *args, **kwargs)["params"])())


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(dict(gate="tanh", sublayers=("cross", "mlp")), id="gated cross-attention"),
        pytest.param(
            dict(gate="tanh_vector", sublayers=("cross", "mlp"), context_norm=True), id="vector gates"
        ),
        pytest.param(dict(conditioned=True), id="adaLN-Zero"),
        pytest.param(
            dict(conditioned=True, sublayers=("self", "cross", "mlp")), id="adaLN-Zero with a context"
        ),
        pytest.param(dict(layer_scale=0.0), id="layer scale of zero"),
    ],
)
def test_zero_gates_are_the_identity_to_the_bit(fields):
    stack, x = Stack(TransformerConfig(depth=3, **SIZES, **fields)), normal(0, 2, 5, 16)
    inputs = Inputs(context=normal(1, 2, 4, 12), condition=normal(2, 2, 8))
    run = jax.jit(lambda params: stack.apply({"params": params}, x, inputs)[0])
    np.testing.assert_array_equal(run(initial(stack, x, inputs)), x)
    assert np.all(
        np.abs(run(parameters(stack, x, inputs)) - x).max(axis=-1) > 0
    )  # and gates that are open are not


def test_fresh_cross_attention_leaves_a_decoder_as_it_was_to_the_bit():
    transformer = TransformerConfig(depth=4, **SIZES)
    plain = DecoderConfig(
        vocabulary_size=11, context_length=6, learned_positions=True, transformer=transformer
    )
    crossed = dataclasses.replace(plain, cross_every=2)
    tokens = np.arange(12).reshape(2, 6) % 11
    mask = masks.self_attention_mask(*(np.ones_like(tokens),) * 2)
    inputs = Inputs(mask=mask, context=normal(1, 2, 4, 12), context_mask=np.ones((2, 6, 4), bool))

    def logits(module, tokens, inputs):
        return module.logits(module(module.embed(tokens), inputs)[0])

    params = parameters(Decoder(plain), tokens, inputs, method=logits)
    grouped = initial(Decoder(crossed), tokens, inputs, method=logits)
    layers = jax.tree.map(lambda a: a.reshape(2, 2, *a.shape[1:]), params["stack"])
    grouped = {**params, "groups": {"cross": grouped["groups"]["cross"], "stack": layers}}
    del grouped["stack"]
    expected, actual = (
        jax.jit(lambda p, c=c: Decoder(c).apply({"params": p}, tokens, inputs, method=logits))(p)
        for c, p in ((plain, params), (crossed, grouped))
    )
    np.testing.assert_array_equal(actual, expected)


def test_a_group_of_layers_must_fit_into_the_depth():
    with pytest.raises(UserError, match=r"cross_every = 3 .* depth = 4"):
        DecoderConfig(
            vocabulary_size=11,
            context_length=6,
            transformer=TransformerConfig(depth=4, **SIZES),
            cross_every=3,
            cross_first=2,
        )


def test_a_scanned_stack_is_its_blocks_in_order():
    config = TransformerConfig(depth=3, **SIZES, kv_heads=1, rope_base=1e4)
    x, inputs = normal(0, 2, 5, 16), Inputs(positions=np.tile(np.arange(5), (2, 1)))
    params = parameters(Stack(config), x, inputs)

    @jax.jit
    def one_by_one(params, y):
        for layer in range(3):
            of_layer = jax.tree.map(lambda a: a[layer], params["layers"])  # noqa: B023
            y, _ = Block(config).apply({"params": of_layer}, y, None, inputs)
        return y

    expected = one_by_one(params, x)
    for unroll in (1, 2, 8):
        stack = Stack(dataclasses.replace(config, unroll=unroll))
        chex.assert_trees_all_equal_shapes(params, parameters(stack, x, inputs))  # one checkpoint for all
        y = jax.jit(lambda p, stack=stack: stack.apply({"params": p}, x, inputs)[0])(params)
        chex.assert_trees_all_close(y, expected, rtol=1e-5, atol=1e-5)


def test_a_resampler_reads_every_medium_by_itself():
    transformer = resampler_transformer(depth=2, **SIZES)
    module = PerceiverResampler(ResamplerConfig(queries=3, frames=2, transformer=transformer))
    features = normal(0, 2, 3, 2, 4, 16)
    params = parameters(module, features)
    run = jax.jit(lambda features: module.apply({"params": params}, features))
    y = run(features)
    chex.assert_shape(y, (2, 3, 3, 16))
    other = features.copy()
    other[0, 1] += 1.0
    changed = np.any(np.asarray(run(other) != y), axis=(2, 3))
    np.testing.assert_array_equal(changed, [[False, True, False], [False, False, False]])
    swapped = run(features[:, :, ::-1])  # the frame embedding tells frames apart
    assert np.abs(swapped - y).max() > 1e-3


def test_a_map_head_ignores_what_its_mask_hides():
    module, features = MAPHead(heads=2), normal(0, 2, 5, 16)
    mask = np.array([[True, True, False, True, False], [True] * 5])
    params = parameters(module, features)
    run = jax.jit(lambda features, mask: module.apply({"params": params}, features, mask))
    other = np.where(mask[:, :, None], features, 100.0).astype(np.float32)
    np.testing.assert_array_equal(run(features, mask), run(other, mask))
    kept = np.flatnonzero(mask[0])
    alone = run(np.stack([features[0, kept]]), np.ones((1, len(kept)), bool))
    chex.assert_trees_all_close(run(features, mask)[:1], alone, rtol=1e-5, atol=1e-5)


def test_a_condition_per_token_is_a_condition_per_row_where_they_agree():
    block, x, condition = (
        Block(TransformerConfig(depth=1, conditioned=True, **SIZES)),
        normal(0, 2, 5, 16),
        normal(1, 2, 8),
    )
    params = parameters(block, x, None, Inputs(condition=condition))
    per_row, per_token = (
        jax.jit(lambda c: block.apply({"params": params}, x, None, Inputs(condition=c))[0])(c)
        for c in (condition, np.tile(condition[:, None], (1, 5, 1)))
    )
    chex.assert_trees_all_close(per_token, per_row, rtol=1e-5, atol=1e-5)


def test_bfloat16_computes_in_bfloat16_with_float32_parameters():
    stack, x = Stack(TransformerConfig(depth=2, **SIZES, dtype="bfloat16")), normal(0, 2, 5, 16)
    params = initial(stack, x, Inputs())
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    y, _ = jax.eval_shape(lambda: stack.apply({"params": params}, x.astype(jnp.bfloat16), Inputs()))
    assert y.dtype == jnp.bfloat16
