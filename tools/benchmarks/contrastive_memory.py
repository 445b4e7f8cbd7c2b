"""Memory of the contrastive losses at a global batch of 131,072, compiled ahead of time for 4 TPU chips.

    python -m tools.benchmarks.contrastive_memory [--topology v5e:2x2] [--width 1024] [--chunk 1024]

Needs the TPU compiler (`pip install mmjax[tpu]`) but no TPU. Compiles value and gradient of both ring losses
at this batch, twice and four times it, and of the dense softmax loss, which does not fit: the compiler says.
"""

import argparse
import os
import time

os.environ |= dict(TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1", JAX_PLATFORMS="cpu")
os.environ |= dict(TPU_WORKER_HOSTNAMES="localhost", TPU_ACCELERATOR_TYPE="v5litepod-4")

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from mmjax.objectives.contrastive import sigmoid_contrastive, softmax_contrastive
from mmjax.sharding import ShardingConfig, activate, batch_sharding, replicated

LOSSES = {"sigmoid": (sigmoid_contrastive, 2), "softmax": (softmax_contrastive, 1)}


def compile_loss(name, mesh, rules, *, batch, width, **form):
    """Compiles value and gradients for unit vectors float32[batch, width] over the mesh."""
    loss, constants = LOSSES[name]

    def mean(first, second, *constants):
        total, count = loss(first, second, *constants, **form)
        return total / count

    rows = jax.ShapeDtypeStruct((batch, width), jnp.float32, sharding=batch_sharding(mesh))
    scalar = jax.ShapeDtypeStruct((), jnp.float32, sharding=replicated(mesh))
    arguments = (rows, rows, *[scalar] * constants)
    with activate(mesh, rules):
        step = jax.jit(jax.value_and_grad(mean, tuple(range(len(arguments)))))
        return step.lower(*arguments).compile()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--batch", type=int, default=131_072)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--chunk", type=int, default=1024)
    arguments = parser.parse_args()
    config = ShardingConfig()
    mesh = config.make_mesh(topologies.get_topology_desc(arguments.topology, "tpu").devices)
    print(f"{arguments.topology}: {mesh.size} chips, D = {arguments.width}, value and gradient, per chip")
    for name in LOSSES:
        for batch in (arguments.batch, 2 * arguments.batch, 4 * arguments.batch):
            start = time.monotonic()
            settings = dict(batch=batch, width=arguments.width, ring=True, chunk=arguments.chunk)
            compiled = compile_loss(name, mesh, config.make_rules(), **settings)
            mib = compiled.memory_analysis().temp_size_in_bytes / 2**20
            print(
                f"ring {name}: global batch {batch:7,}, local {batch // mesh.size:6,}: "
                f"temporaries {mib:7.1f} MiB ({mib * 2**20 / (batch // mesh.size):.0f} bytes per row), "
                f"compiled in {time.monotonic() - start:.0f} s",
                flush=True,
            )
    try:
        compile_loss("softmax", mesh, config.make_rules(), batch=arguments.batch, width=arguments.width)
        print(f"dense softmax: global batch {arguments.batch:7,}: fits")
    except jax.errors.JaxRuntimeError as error:
        print(f"dense softmax: global batch {arguments.batch:7,}: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()
