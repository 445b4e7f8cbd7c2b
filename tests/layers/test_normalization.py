"""Norms and their gradients beside Flax's, whose gradients JAX derives."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from perturbed import normal, parameters

from mmjax.layers.normalization import normalization

PEERS = {
    "layer": lambda **settings: nn.LayerNorm(use_fast_variance=False, **settings),
    "layer_no_bias": lambda **settings: nn.LayerNorm(use_fast_variance=False, use_bias=False, **settings),
    "rms": nn.RMSNorm,
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("axes", [("embed",), ("heads", "head_dim")], ids=["one axis", "two"])
@pytest.mark.parametrize("kind", PEERS)
def test_values_and_gradients_are_those_of_flax(kind, axes, dtype):
    behind = tuple(range(-len(axes), 0))
    peer = PEERS[kind](epsilon=1e-3, dtype=dtype, reduction_axes=behind, feature_axes=behind)
    ours = normalization(kind, epsilon=1e-3, axis_names=axes, dtype=dtype)
    x, weight = jnp.asarray(3.0 + normal(0, 4, 2, 6), dtype), normal(1, 4, 2, 6)
    params = parameters(ours, x)
    chex.assert_trees_all_equal_shapes_and_dtypes(params, parameters(peer, x))

    def value_and_gradients(norm):
        def total(params, x):
            y = norm.apply({"params": params}, x)
            return jnp.sum(y * weight), y

        return jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, x)

    near = dict(rtol=3e-2, atol=3e-2) if dtype == "bfloat16" else dict(rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(value_and_gradients(ours), value_and_gradients(peer), **near)


def test_parameters_in_another_type_have_gradients_of_it():
    x, norm = normal(0, 4, 6), normalization("layer")
    params = jax.tree.map(lambda p: jnp.asarray(p, "bfloat16"), parameters(norm, x))
    gradients = jax.jit(jax.grad(lambda params: norm.apply({"params": params}, x).sum()))(params)
    chex.assert_trees_all_equal_shapes_and_dtypes(gradients, params)


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_numbers_far_from_zero(kind):
    """The variance of numbers around 1e4 is not lost in their squares."""
    x, norm = 1e4 + normal(0, 3, 64), normalization(kind, affine=False)
    assert not norm.init(jax.random.key(0), x)
    exact = x.astype(np.float64)
    if kind == "layer":
        exact = exact - exact.mean(-1, keepdims=True)
    exact = exact / np.sqrt(np.square(exact).mean(-1, keepdims=True))
    np.testing.assert_allclose(norm.apply({}, x), exact, rtol=2e-3, atol=2e-3)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown norm 'batch'"):
        normalization("batch")
