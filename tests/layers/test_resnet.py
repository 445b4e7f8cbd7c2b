"""CLIP's residual tower: both modes of its batch norms, fresh blocks, shapes. Parity: tests/parity."""

import chex
import jax
import numpy as np
import pytest
from flax.core import meta
from perturbed import normal, parameters

from mmjax.layers.resnet import TRACKED, AttentionPool, BatchNorm, Bottleneck, ResNet, ResNetConfig

X = 2 + 3 * normal(1, 4, 3, 5, 2)


@pytest.fixture(scope="module")
def norm():
    params = parameters(BatchNorm(), X)
    return BatchNorm(), params | {"var": np.abs(params["var"]) + 0.5}


def affine(params, x):
    return x * params["scale"] + params["bias"]


def test_usually_the_running_moments_normalise_and_get_no_gradient(norm):
    module, params = norm
    expected = affine(params, (X - params["mean"]) / np.sqrt(params["var"] + 1e-5))
    np.testing.assert_allclose(module.apply({"params": params}, X), expected, atol=1e-5)
    gradient = jax.grad(lambda p: (module.apply({"params": p}, X) ** 2).sum())(params)
    assert np.all(gradient["mean"] == 0) and np.all(gradient["var"] == 0) and np.any(gradient["scale"] != 0)


def test_asked_for_the_moments_of_the_batch_it_normalises_with_them(norm):
    module, params = norm
    y, shown = module.apply({"params": params}, X, mutable=[TRACKED])
    expected = affine(params, (X - X.mean((0, 1, 2))) / np.sqrt(X.var((0, 1, 2)) + 1e-5))
    np.testing.assert_allclose(y, expected, atol=1e-5)
    unbiased = {"mean": X.mean((0, 1, 2)), "var": X.var((0, 1, 2), ddof=1)}
    chex.assert_trees_all_close(shown[TRACKED], unbiased, rtol=1e-5)


def test_gradients_flow_through_the_moments_of_the_batch(norm):
    # A shift or a growth of the whole batch is normalised away, so it cannot change anything.
    module, params = norm
    weights = normal(2, *X.shape)

    def value(x):
        return (weights * module.apply({"params": params}, x, mutable=[TRACKED])[0]).sum()

    gradient = jax.grad(value)(X)
    np.testing.assert_allclose(gradient.sum((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose((gradient * X).sum((0, 1, 2)), 0, atol=1e-3)


def test_a_fresh_block_is_its_shortcut():
    x = normal(0, 2, 4, 4, 8)
    block = Bottleneck(width=2)
    params = meta.unbox(block.init(jax.random.key(0), x)["params"])
    np.testing.assert_allclose(block.apply({"params": params}, x)[0], np.maximum(x, 0))


def test_attention_pool_of_equal_positions_is_its_value_projected():
    grid = np.broadcast_to(normal(0, 1, 1, 8), (2, 4, 8))
    pool = AttentionPool(features=3, head_dim=4)
    params = parameters(pool, grid)
    params["positions"]["table"][:] = params["positions"]["table"][0]
    x = grid[:, 0] + params["positions"]["table"][0]
    maps = params["attention"]
    value = np.einsum("BC,CHK->BHK", x, maps["value"]["kernel"]) + maps["value"]["bias"]
    expected = np.einsum("BHK,HKE->BE", value, maps["output"]["kernel"]) + maps["output"]["bias"]
    np.testing.assert_allclose(pool.apply({"params": params}, grid), expected, atol=1e-5)


def test_shapes_of_features_and_parameters():
    config = ResNetConfig(image_size=96, depths=(1, 2, 3, 1), width=4, embedding=10)
    image = np.zeros((2, 96, 96, 3), np.uint8)
    features, pooled = jax.eval_shape(lambda: ResNet(config).init_with_output(jax.random.key(0), image)[0])
    chex.assert_shape([features, pooled], [(2, 9, 128), (2, 10)])
    params = meta.unbox(jax.eval_shape(lambda: ResNet(config).init(jax.random.key(0), image)["params"]))
    chex.assert_shape(params["pool"]["positions"]["table"], (10, 128))
    chex.assert_shape(params["pool"]["attention"]["query"]["kernel"], (128, 2, 64))
    chex.assert_shape(params["stage3"]["layers"]["conv2"]["kernel"], (2, 3, 3, 16, 16))


@pytest.mark.parametrize("wrong", [dict(image_size=100), dict(width=3), dict(depths=(1, 2, 3))])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="a residual tower has 4 depths"):
        ResNetConfig(**dict(image_size=96, depths=(1, 2, 3, 1), width=4, embedding=10) | wrong)
