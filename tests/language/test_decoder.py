"""Where cross-attention stands in a decoder, however its layers divide, and tokens beyond the vocabulary."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from mmjax.language.decoder import Decoder, DecoderConfig, empty_memory
from mmjax.layers import masks
from mmjax.layers.transformer import Block, Inputs, TransformerConfig

BATCH, LENGTH, DEPTH = 2, 6, 5
PLAIN = DecoderConfig(
    vocabulary_size=11,
    context_length=LENGTH,
    transformer=TransformerConfig(depth=DEPTH, width=16, heads=2, rope_base=1e4),
)
# (cross_every, cross_first) -> the layers with a block before them. Flamingo-80B has one before every 7th of
# its 80 layers, OpenFlamingo before the last of every k.
PLACES = {(3, 0): [0, 3], (2, 1): [1, 3], (3, 1): [1, 4]}
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, 11, (BATCH, LENGTH))
ONES = np.ones_like(TOKENS)
INPUTS = Inputs(
    mask=masks.self_attention_mask(ONES, ONES),
    positions=np.tile(np.arange(LENGTH), (BATCH, 1)),
    context=RANDOM.normal(size=(BATCH, 4, 12)).astype(np.float32),
    context_mask=RANDOM.random((BATCH, LENGTH, 4)) < 0.5,
)


def forward(module, tokens, inputs, memory=None):
    states, memory = module(module.embed(tokens), inputs, memory)
    return module.logits(states), memory


def run(config):
    return jax.jit(functools.partial(Decoder(config).apply, method=forward))


def parameters(module, *args, seed=0, **kwargs):
    """Noise everywhere, scales around one."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **kwargs)["params"])
    noise = np.random.default_rng(seed)

    def leaf(path, shape):
        return (path[-1].key == "scale") + 0.2 * noise.standard_normal(shape.shape, np.float32)

    return jax.tree_util.tree_map_with_path(leaf, meta.unbox(shapes))


def cut(tree, start, stop):
    return jax.tree.map(lambda a: a[start:stop], tree)


def grouped(config, plain, cross):
    """The parameters of a plain decoder and of a stack of cross-attention blocks, as groups hold them."""
    groups, every, first = config.groups, config.cross_every, config.cross_first
    layers, last = plain["stack"]["layers"], first + groups * every
    inner = jax.tree.map(lambda a: a.reshape(groups, every, *a.shape[1:]), cut(layers, first, last))
    params = {name: value for name, value in plain.items() if name != "stack"}
    params["groups"] = {"cross": cut(cross, 0, groups), "stack": {"layers": inner}}
    if first:
        params["lead"] = {"layers": cut(layers, 0, first)}
    if last < DEPTH:
        of_last = jax.tree.map(lambda a: a[groups], cross)
        params["last"] = {"cross": of_last, "stack": {"layers": cut(layers, last, DEPTH)}}
    return {"params": params}


@pytest.mark.parametrize("place", PLACES)
def test_cross_attention_stands_where_it_should(place):
    config = dataclasses.replace(PLAIN, cross_every=place[0], cross_first=place[1])
    plain = parameters(Decoder(PLAIN), TOKENS, INPUTS, method=forward)
    x = np.zeros((BATCH, LENGTH, 16), np.float32)
    blocks = [
        parameters(Block(config.cross_blocks), x, None, INPUTS, seed=seed)
        for seed in range(len(PLACES[place]))
    ]
    cross = jax.tree.map(lambda *leaves: np.stack(leaves), *blocks)
    decode = run(config)

    def by_hand(decoder, tokens):
        x = decoder.embed(tokens)
        for layer in range(DEPTH):
            if layer in PLACES[place]:
                block = blocks[PLACES[place].index(layer)]
                x, _ = Block(config.cross_blocks).apply({"params": block}, x, None, INPUTS)
            of_layer = jax.tree.map(lambda a: a[layer], plain["stack"]["layers"])  # noqa: B023
            x, _ = Block(PLAIN.transformer).apply({"params": of_layer}, x, None, INPUTS)
        return decoder.logits(decoder.norm(x))

    expected = Decoder(PLAIN).apply({"params": plain}, TOKENS, method=by_hand)
    whole = decode(grouped(config, plain, cross), TOKENS, INPUTS)[0]
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-4)

    # With its gates shut it is the plain decoder, to the bit.
    shut = cross | {name: np.zeros_like(cross[name]) for name in ("cross_gate", "mlp_gate")}
    actual = decode(grouped(config, plain, shut), TOKENS, INPUTS)[0]
    np.testing.assert_array_equal(actual, run(PLAIN)({"params": plain}, TOKENS, INPUTS)[0])

    # And from a cache, three tokens at a time, it says the same.
    memory, half = empty_memory(config, BATCH, LENGTH), LENGTH // 2
    for start in (0, half):
        now = slice(start, start + half)
        inputs = INPUTS._replace(
            mask=INPUTS.mask[:, now],
            positions=INPUTS.positions[:, now],
            context_mask=INPUTS.context_mask[:, now],
            write_at=jnp.int32(start),
        )
        part, memory = decode(grouped(config, plain, cross), TOKENS[:, now], inputs, memory)
        np.testing.assert_allclose(part, whole[:, now], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_added_tokens_are_rows_behind_the_vocabulary(tied):
    joined = dataclasses.replace(PLAIN, tied=tied)
    config = dataclasses.replace(joined, vocabulary_size=8, added_tokens=3)
    params = parameters(Decoder(config), TOKENS, INPUTS, method=forward)
    one = {name: value for name, value in params.items() if not name.startswith("added")}
    tables = (params["tokens"]["table"], params["added_tokens"]["table"])
    one["tokens"] = {"table": np.concatenate(tables)}
    if not tied:
        heads = (params["head"]["kernel"], params["added_head"]["kernel"])
        one["head"] = {"kernel": np.concatenate(heads, axis=1)}
    assert (TOKENS >= 8).any()
    expected = run(joined)({"params": one}, TOKENS, INPUTS)[0]
    np.testing.assert_allclose(run(config)({"params": params}, TOKENS, INPUTS)[0], expected, atol=1e-5)


@pytest.mark.parametrize("stddev", [0.02, 0.3])
def test_a_fresh_token_table_is_as_large_as_its_config_says(stddev):
    config = dataclasses.replace(PLAIN, vocabulary_size=4096, tokens_initial=stddev)
    params = meta.unbox(Decoder(config).init(jax.random.key(0), TOKENS, method="embed")["params"])
    assert np.std(params["tokens"]["table"]) == pytest.approx(stddev, rel=0.02)
