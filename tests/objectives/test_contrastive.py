"""The ring losses are the dense ones: values and every gradient, on one device and on eight."""

import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.objectives.contrastive import sigmoid_contrastive, softmax_contrastive

SCALE, BIAS = jnp.float32(9.0), jnp.float32(-3.0)


def unit(seed, rows=16, width=8):
    x = np.random.default_rng(seed).standard_normal((rows, width), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def value_and_gradients(loss, constants, **settings):
    def mean(first, second, *constants):
        total, count = loss(first, second, *constants, **settings)
        return total / count

    everything = tuple(range(2 + len(constants)))
    return jax.jit(jax.value_and_grad(mean, everything))(unit(0), unit(1), *constants)


LOSSES = {
    "softmax": (softmax_contrastive, (SCALE,)),
    "sigmoid": (sigmoid_contrastive, (SCALE, BIAS)),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("settings", [dict(ring=True), dict(chunk=4)], ids=str)
def test_the_ring_of_one_device_is_the_dense_loss(name, settings):
    loss, constants = LOSSES[name]
    dense = value_and_gradients(loss, constants)
    chex.assert_trees_all_close(value_and_gradients(loss, constants, **settings), dense, rtol=2e-6, atol=1e-6)


def test_a_chunk_must_divide_the_rows():
    with pytest.raises(UserError, match="16 pairs does not split into chunks of 5"):
        softmax_contrastive(unit(0), unit(1), SCALE, chunk=5)


PROGRAM = """
import chex, jax
from flax import linen as nn
from test_contrastive import LOSSES, value_and_gradients

shape = dict(data=2, fsdp=2, tensor=2)
mesh = jax.make_mesh(tuple(shape.values()), tuple(shape), axis_types=(jax.sharding.AxisType.Auto,) * 3)
rules = [("batch", ("data", "fsdp"))]
for name, (loss, constants) in LOSSES.items():
    dense = value_and_gradients(loss, constants)
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
        for chunk in (None, 2):
            ring = value_and_gradients(loss, constants, ring=True, chunk=chunk)
            chex.assert_trees_all_close(ring, dense, rtol=2e-6, atol=1e-6)
            assert ring[1][0].sharding.spec[0] == ("data", "fsdp"), ring[1][0].sharding
        def total(first, second):
            return loss(first, second, *constants, ring=True)[0]
        text = jax.jit(total).lower(*(jax.ShapeDtypeStruct((64, 8), "float32"),) * 2).compile().as_text()
        assert "collective-permute" in text and "[64,64]" not in text and "[16,64]" not in text
print("equal")
"""


def test_the_ring_of_four_devices_is_the_dense_loss_and_never_holds_the_matrix():
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": os.path.dirname(__file__),
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "equal"
