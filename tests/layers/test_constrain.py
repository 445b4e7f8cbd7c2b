"""Activation constraints reach the program. Needs several devices, so it runs in a process of its own."""

import os
import subprocess
import sys

PROGRAM = """
import jax, jax.numpy as jnp
from flax import linen as nn
from mmjax.layers.partitioning import constrain
from mmjax.layers.transformer import Block, Inputs, TransformerConfig

block = Block(TransformerConfig(depth=1, width=16, heads=2))
x = jnp.ones((8, 4, 16))
constrained = lambda x: constrain(x, "batch", "sequence", "embed")
rules = [("batch", "data")] + [(name, None) for name in ("sequence", "embed", "heads", "kv_heads", "mlp")]

# Without a mesh, and on a mesh of one device, it does nothing.
assert "sharding_constraint" not in str(jax.make_jaxpr(constrained)(x))
with jax.set_mesh(jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])):
    assert "sharding_constraint" not in str(jax.make_jaxpr(constrained)(x))

mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
with jax.set_mesh(mesh):
    try:
        jax.make_jaxpr(constrained)(x)
    except RuntimeError as error:
        assert "without logical axis rules" in str(error), error
    else:
        raise AssertionError("a mesh without rules was accepted")
    with nn.logical_axis_rules(rules):
        assert str(jax.make_jaxpr(constrained)(x)).count("sharding_constraint") == 1
        params = nn.meta.unbox(jax.jit(block.init)(jax.random.key(0), x, None, Inputs())["params"])
        run = lambda params, x: block.apply({"params": params}, x, None, Inputs())[0]
        assert str(jax.make_jaxpr(run)(params, x)).count("sharding_constraint") >= 4
        y = jax.jit(run)(params, x)
        assert y.sharding.spec[0] == "data", y.sharding
print("constrained")
"""


def test_constraints_are_in_the_program():
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "constrained"
