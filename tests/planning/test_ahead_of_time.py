"""The TPU compiler's own word, on this machine: needs libtpu, which the `tpu` extra brings (204 MB)."""

import json

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mmjax import config as configs
from mmjax.cli import compile as command
from mmjax.errors import UserError
from mmjax.layers.attention import attend
from mmjax.layers.masks import SelfMask
from mmjax.planning import programs
from mmjax.planning.compiler import OutOfMemory, compile_program
from mmjax.sharding import ShardingConfig, activate
from mmjax.sharding.costs import measure
from mmjax.sharding.topology import describe, installed

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not installed(), reason="needs libtpu: mmjax[tpu]")]

DEPTH = 4
LAYOUT = ["--config.sharding.rules=fsdp", f"--config.model.decoder.transformer.depth={DEPTH}"]
WIDER = [  # in narrower models the few operations that are not products differ by more than the bound
    *("--config.model.decoder.transformer.width=256", "--config.model.decoder.transformer.heads=4"),
    *("--config.data.text_length=128", "--config.model.decoder.context_length=128"),
]


@pytest.fixture(scope="module")
def topology():
    return describe("v5e:2x2")


def step(topology, *settings):
    config = configs.override(
        configs.load("language:tiny"), [*LAYOUT, *WIDER, "--config.sharding.fsdp=4", *settings]
    )
    return programs.training(configs.experiment(config), topology.devices)


@pytest.fixture(scope="module")
def scanned(topology):
    return compile_program(step(topology, "--config.model.decoder.transformer.unroll=1"), topology)


def test_the_command_reports_what_every_chip_holds_and_does(tmp_path, capsys):
    file = tmp_path / "report.json"
    mesh = ["--topology", "v5e:2x2", "--mesh", "fsdp=4", "--json", str(file)]
    command.main(["--config", "language:tiny", *LAYOUT, *mesh])
    told = capsys.readouterr().out
    for line in ("training step on v5e:2x2: 4 chips", "peak", "all-gather over fsdp", "<- bound", "MFU"):
        assert line in told
    report = json.loads(file.read_text())
    assert report["memory"]["fits"] and report["memory"]["capacity"] == 15.75 * 2**30
    parts = report["memory"]["arguments"]
    assert sum(parts.values()) <= report["memory"]["resident"]  # arrays are padded to tiles
    assert parts["optimizer state"] == pytest.approx(2 * parts["parameters"], rel=0.01)
    assert 1.0 < report["flops"]["compiled"] / report["flops"]["model"] < 1.6


def test_a_scanned_stack_costs_what_the_unrolled_one_does(topology, scanned):
    unrolled = compile_program(step(topology, f"--config.model.decoder.transformer.unroll={DEPTH}"), topology)
    assert scanned.cost.flops == pytest.approx(unrolled.compiler_flops, rel=0.02)
    assert scanned.cost.matmul_flops == pytest.approx(unrolled.cost.matmul_flops, rel=0.02)
    assert scanned.compiler_flops < 0.7 * unrolled.compiler_flops  # what the compiler says by itself


@pytest.mark.parametrize("heads, head_dim", [(4, 64), (16, 72)], ids=str)
def test_the_kernel_for_short_sequences_compiles(topology, heads, head_dim):
    """Lengths that are no whole tiles, heads across tiles, packed documents and blocks; FLOPs are told."""
    mesh = ShardingConfig(data=4).make_mesh(topology.devices)
    batch, length = 8, 50

    def shaped(*sizes, dtype):
        rows = NamedSharding(mesh, PartitionSpec("data"))
        return jax.ShapeDtypeStruct((batch, *sizes), dtype, sharding=rows)

    def run(query, key, value, segment, block_start):
        mask = SelfMask(segment=segment, block_start=block_start)

        def total(*arrays):
            return attend(*arrays, mask).astype(jnp.float32).sum()

        return jax.value_and_grad(total, (0, 1, 2))(query, key, value)

    x, integers = (shaped(length, heads, head_dim, dtype=jnp.bfloat16), shaped(length, dtype=jnp.int32))
    with activate(mesh, ShardingConfig(data=4).make_rules()):
        compiled = jax.jit(run).lower(x, x, x, integers, integers).compile()
    products = 2 + 5  # forward and backward
    cost = measure(compiled.as_text(), devices=4)
    assert cost.matmul_flops == products * 2 * (batch // 4) * heads * length**2 * head_dim


def test_decoding_is_a_prefill_and_a_loop(topology):
    config = configs.load("language:tiny")
    program = programs.generation(configs.experiment(config), topology.devices, batch_size=4, length=8)
    report = compile_program(program, topology)
    assert report.iteration.hbm > 0
    assert report.iteration.without_overlap < report.roofline.without_overlap


def test_too_large_a_program_is_one_sentence_with_the_compilers_own_figure(topology):
    mesh = ShardingConfig(data=4).make_mesh(topology.devices)
    whole = NamedSharding(mesh, PartitionSpec())

    def sorts(x):
        return jax.lax.sort(jnp.sin(jax.lax.broadcasted_iota(jnp.float32, (2**17, 2**16), 1) * x))[
            :, :2
        ].sum()

    scalar = jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)
    program = programs.Program(
        name="sort",
        mesh=mesh,
        lower=lambda: jax.jit(sorts).lower(scalar),
        arguments={"parameters": 0},
        model_flops=None,
        rows=1,
    )
    with pytest.raises(
        OutOfMemory, match=r"the sort needs .* where a device of v5e:2x2 has 15.75; take fewer rows"
    ) as caught:
        compile_program(program, topology)
    assert caught.value.needed >= 2**35


def test_meshes_that_do_not_fit_the_topology_are_told():
    arguments = ["--config", "language:tiny", "--topology", "v5e:2x2", "--mesh"]
    with pytest.raises(UserError, match="fsdp=3 do not fit 4 devices; the nearest that fits is fsdp=4"):
        command.main([*arguments, "fsdp=3"])
    with pytest.raises(UserError, match="cannot run over 2 slices; make it a multiple of 2"):
        command.main([*arguments, "data=1,fsdp=8", "--slices", "2", *LAYOUT])
