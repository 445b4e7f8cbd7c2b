"""What one SigLIP training step costs on a TPU, compiled ahead of time beside a textbook step.

    python -m tools.benchmarks.clip_step_tpu [--depth 12] [--only textbook,fsdp] [--model remat=full]

Needs the TPU compiler (`pip install mmjax[tpu]`) but no TPU. Both sides do the same work: SigLIP B/16 at 224
px, 64 text tokens, 32k words, a global batch of 1024 on v5e:4x4, forward, backward and Adam. The textbook
step is written below: two unscanned float32 towers, dense loss, Adam in float32, replicated state.

    peak        arguments + outputs + temporaries - donated buffers, per chip
    traffic     bytes accessed per chip, as XLA's cost analysis counts them
    hbm         those of them that are read from HBM or written to it (`mmjax.sharding.costs`): XLA counts a
                move to memory on the chip twice, and once more twice where slices are put together there
    TFLOP       as XLA counts

Bytes and FLOPs are of one iteration of a scan, so they mean something in unscanned steps only. These are
compiled with one and with two layers, and their figures continued to the whole depth. "less_prefetch"
is "unrolled" with half of the room on the chip for what the compiler moves there ahead: it makes fewer of the
moves that XLA counts several times, and what really crosses HBM grows.
"""

import argparse
import dataclasses
import json
import os
import time

os.environ |= dict(TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1", JAX_PLATFORMS="cpu")
os.environ |= dict(TPU_WORKER_HOSTNAMES="localhost", TPU_ACCELERATOR_TYPE="v5litepod-16")

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.experimental import topologies

from mmjax.sharding import ShardingConfig, activate, batch_sharding, costs, replicated
from mmjax.systems.sizes import siglip
from mmjax.training import optimizers
from mmjax.training.state import abstract_params, create, state_shardings
from mmjax.training.step import make_step

# The best public JAX trainer's step of the same work (issue 5): per chip, on a busy 2-core machine.
REFERENCE = dict(peak_gib=9.6, traffic_gb=119.0, tflop=8.95, seconds=470.0)
LESS_PREFETCH = {"xla_tpu_scoped_vmem_limit_kib": "65536"}  # of 128 MiB, for what a product itself needs
OURS = {
    "unrolled": dict(rules="replicated", unroll=12, remat=None),
    "less_prefetch": dict(rules="replicated", unroll=12, remat=None, compiler=LESS_PREFETCH),
    "replicated": dict(rules="replicated", unroll=1, remat="attention"),
    "fsdp": dict(rules="fsdp", unroll=1, remat="attention"),
}
UNSCANNED = ("textbook", "unrolled", "less_prefetch")


class Tower(nn.Module):
    """The textbook transformer: float32, one block after another."""

    depth: int
    width: int = 768

    @nn.compact
    def __call__(self, x):
        x = x + self.param("positions", nn.initializers.normal(0.02), x.shape[1:])
        for _ in range(self.depth):
            x = x + nn.MultiHeadDotProductAttention(12)(nn.LayerNorm()(x))
            x = x + nn.Dense(self.width)(nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x))))
        return nn.LayerNorm()(x)


class Textbook(nn.Module):
    """SigLIP B/16 as one would write it first."""

    depth: int

    @nn.compact
    def __call__(self, image, tokens):
        x = nn.Conv(768, (16, 16), (16, 16), padding="VALID")(image.astype(jnp.float32) / 127.5 - 1.0)
        x = Tower(self.depth)(x.reshape(len(x), -1, 768))
        probe = self.param("probe", nn.initializers.normal(0.02), (1, 1, 768))
        y = nn.MultiHeadDotProductAttention(12)(jnp.tile(probe, (len(x), 1, 1)), x)
        y = y + nn.Dense(768)(nn.gelu(nn.Dense(3072)(nn.LayerNorm()(y))))
        text = nn.Dense(768)(Tower(self.depth)(nn.Embed(32000, 768)(tokens))[:, -1])
        first, second = (z / jnp.linalg.norm(z, axis=-1, keepdims=True) for z in (y[:, 0], text))
        scale, bias = (self.param(name, nn.initializers.zeros, ()) for name in ("scale", "bias"))
        logits = first @ second.T * jnp.exp(scale) + bias
        return -jnp.mean(jnp.sum(jax.nn.log_sigmoid(logits * (2 * jnp.eye(len(logits)) - 1)), axis=1))


def textbook(batch, mesh, *, depth):
    """(jitted step, abstract state) of the baseline."""
    model, optimizer = Textbook(depth), optax.adamw(1e-3, b2=0.95)

    def fresh(batch):
        params = model.init(jax.random.key(0), batch["image"][:1, 0], batch["tokens"][:1])["params"]
        return params, optimizer.init(params)

    def step(state, batch):
        def loss(params):
            return model.apply({"params": params}, batch["image"][:, 0], batch["tokens"])

        params, moments = state
        value, gradient = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    abstract = jax.eval_shape(fresh, batch)
    return jax.jit(step, donate_argnums=0), _laid_out(
        abstract, jax.tree.map(lambda _: replicated(mesh), abstract)
    )


def ours(batch, mesh, rules, *, depth, model, system):
    """(jitted step, abstract state) of mmjax's own step."""
    siglip_b16 = siglip.SIZES["B/16-224"]

    def tower(config):
        shape = dict(depth=depth) | model
        return dataclasses.replace(config, transformer=dataclasses.replace(config.transformer, **shape))

    towers = dict(vision=tower(siglip_b16.vision), text=tower(siglip_b16.text))
    clip = dataclasses.replace(siglip_b16, **towers, **system)
    boxed = abstract_params(clip)
    treatments = optimizers.treat(clip.treatments(), boxed)
    config = optimizers.OptimizerConfig(b2=0.95, momentum_dtype="bfloat16")
    axes = optimizers.logical_axes(boxed)
    optimizer = optimizers.make_optimizer(config, steps=1000, treatments=treatments, axes=axes)
    abstract = jax.eval_shape(lambda: create(clip, optimizer, treatments, seed=0, ema=False))
    shardings = state_shardings(abstract, boxed, treatments, mesh, rules)
    step = make_step(clip, optimizer, treatments, schedule=config.make_schedule(1000))
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(shardings, replicated(mesh)))
    return jitted, _laid_out(abstract, shardings)


def _laid_out(abstract, shardings):
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract,
        shardings,
    )


def measure(step, state, batch, options) -> dict[str, float]:
    """Compiles and reads the compiler's own accounts; seconds are of this machine, however busy."""
    start, cpu = time.monotonic(), time.process_time()
    compiled = step.lower(state, batch).compile(compiler_options=options)
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return dict(
        peak_gib=(peak - memory.alias_size_in_bytes) / 2**30,
        state_gib=memory.argument_size_in_bytes / 2**30,
        traffic_gb=cost["bytes accessed"] / 1e9,
        hbm_gb=costs.measure(compiled.as_text(), count_loops=False).hbm_bytes / 1e9,
        tflop=cost["flops"] / 1e12,
        seconds=seconds,
        cpu_seconds=cpu,
    )


def figures_of(name, arguments, devices, model, system, options, *, depth) -> dict[str, float]:
    """Builds and compiles one variant."""
    choice = OURS.get(name, OURS["replicated"])
    axes = dict(data=1, fsdp=-1) if choice["rules"] == "fsdp" else {}
    config = ShardingConfig(**axes, rules=choice["rules"])
    mesh, rules = config.make_mesh(devices), config.make_rules()
    rows = dict(sharding=batch_sharding(mesh))
    batch = {
        "image": jax.ShapeDtypeStruct((arguments.batch, 1, 224, 224, 3), jnp.uint8, **rows),
        "tokens": jax.ShapeDtypeStruct((arguments.batch, 64), jnp.int32, **rows),
    }
    if name == "textbook":
        step, state = textbook(batch, mesh, depth=depth)
    else:
        model = dict(unroll=choice["unroll"], remat=choice["remat"]) | model
        step, state = ours(batch, mesh, rules, depth=depth, model=model, system=system)
    with activate(mesh, rules):
        return measure(step, state, batch, choice.get("compiler", {}) | options)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topology", default="v5e:4x4")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--depth", type=int, default=12, help="layers per tower; the reference has 12")
    parser.add_argument("--only", default="textbook,unrolled,less_prefetch,replicated,fsdp")
    parser.add_argument("--model", nargs="*", default=[], help="FIELD=JSON of TransformerConfig")
    parser.add_argument("--system", nargs="*", default=[], help="FIELD=JSON of CLIP")
    parser.add_argument("--compiler", nargs="*", default=[], help="OPTION=VALUE of the TPU compiler")
    arguments = parser.parse_args()
    model, system = (
        {name: json.loads(value) for name, value in (line.split("=", 1) for line in lines)}
        for lines in (arguments.model, arguments.system)
    )
    options = dict(line.split("=", 1) for line in arguments.compiler)
    devices = topologies.get_topology_desc(arguments.topology, "tpu").devices

    def compiled(name, depth):
        return figures_of(name, arguments, devices, model, system, options, depth=depth)

    book = None
    for name in arguments.only.split(","):
        if name in UNSCANNED:  # 24 layers one by one compile for half an hour, and each is like the last
            one, two = (compiled(name, depth) for depth in (1, 2))
            figures = {key: one[key] + (arguments.depth - 1) * (two[key] - one[key]) for key in one}
        else:
            figures = compiled(name, arguments.depth)
        book = figures if name == "textbook" else book
        print(f"{name} ({'from depths 1 and 2' if name in UNSCANNED else 'compiled'})")
        for key, value in figures.items():
            ratios = [("reference", REFERENCE.get(key)), ("textbook", (book or {}).get(key))]
            beside = (f"{value / other:.2f}x the {of}" for of, other in ratios if other)
            print(f"  {key:12} {value:8.2f}  {'  '.join(beside)}", flush=True)


if __name__ == "__main__":
    main()
