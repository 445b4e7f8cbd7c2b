"""A linear map whose outputs are several axes, the last of them split over devices (adaLN's six vectors under
`fsdp_tensor`): the values of one device, and no exchange. Several devices take a process of their own."""

import os
import subprocess
import sys

PROGRAM = """
import chex, jax, jax.numpy as jnp, numpy as np
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec
from mmjax.layers.partitioning import dense

class Layer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return dense((2, 3, 16), ("embed", None, None, "modulation"), name="modulation")(x)

layer = Layer()
x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8)), jnp.float32)
params = nn.meta.unbox(jax.jit(layer.init)(jax.random.key(0), x))["params"]

# A function for each mesh: JAX may otherwise take the program that it traced for another.
def value_and_gradients():
    return jax.jit(lambda params, x: (
        layer.apply({"params": params}, x),
        jax.grad(lambda params: jnp.sum(layer.apply({"params": params}, x) ** 3))(params),
    ))

expected = value_and_gradients()(params, x)
text = jax.jit(lambda params, x: layer.apply({"params": params}, x)).lower(params, x).as_text()
assert "tensor<8x96xf32>" in text, text  # one product of matrices

mesh = jax.make_mesh((4,), ("tensor",), axis_types=(jax.sharding.AxisType.Auto,))
split = {"modulation": {
    "kernel": NamedSharding(mesh, PartitionSpec(None, None, None, "tensor")),
    "bias": NamedSharding(mesh, PartitionSpec(None, None, "tensor")),
}}
with jax.set_mesh(mesh), nn.logical_axis_rules([("embed", None), ("modulation", "tensor")]):
    placed = jax.device_put(params, split), jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
    compiled = value_and_gradients().lower(*placed).compile()
    value, gradients = compiled(*placed)
    chex.assert_trees_all_close((value, gradients), expected, rtol=1e-5, atol=1e-5)
    assert value.sharding.spec == PartitionSpec(None, None, None, "tensor"), value.sharding
text = compiled.as_text()
for exchange in ("all-gather", "all-to-all", "all-reduce", "collective-permute"):
    assert exchange not in text, text
print("split")
"""


def test_an_inner_axis_that_is_split_stays_where_it_is():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert ran.stdout.strip() == "split", ran.stderr[-3000:]
