"""`mmjax compile` as far as it goes without the TPU compiler; the rest is in tests/planning."""

import json

import pytest
from jax.experimental import topologies

from mmjax.cli import compile as command
from mmjax.errors import UserError
from mmjax.planning import text
from mmjax.planning.compiler import Memory, Report, advice
from mmjax.planning.search import does_not_fit
from mmjax.sharding import topology as topology_module
from mmjax.sharding.chips import CHIPS, GIB
from mmjax.sharding.costs import Cost
from mmjax.sharding.roofline import Roofline, Traffic
from mmjax.sharding.topology import Topology


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config", "clip:tiny"], "--topology"),
        (["--config", "clip:tiny", "--topology", "v5e:32x32"], "the nearest that does is v5e:16x16"),
        (["--config", "clip:tiny", "--topology", "h100:8"], "there is no chip 'h100'"),
        (["--config", "clip:tiny", "--topology", "v5e:2x2", "--slices", "0"], "slices"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        command.main(arguments)


def test_without_the_compiler_the_user_learns_what_to_install(monkeypatch):
    def missing(**_):
        raise RuntimeError("no libtpu")

    monkeypatch.setattr(topologies, "get_topology_desc", missing)
    monkeypatch.setattr(topology_module, "installed", lambda: False)
    with pytest.raises(UserError, match=r"compiling for v5e:4x4 needs the TPU compiler: pip install 'mmjax"):
        topology_module.describe("v5e:4x4")


@pytest.fixture
def report():
    chip = CHIPS["v5e"]
    traffic = Traffic(kind="all-gather", axes="fsdp", count=3.0, sent=9e9, ici_seconds=0.1, dcn_seconds=0.0)
    return Report(
        program="training step",
        topology=Topology(name="v5e:4x4", chip=chip, sides=(4, 4), slices=1, devices=()),
        mesh={"data": 1, "fsdp": 16, "tensor": 1, "sequence": 1},
        rows=256,
        memory=Memory(
            arguments={"parameters": 4 * GIB, "optimizer state": 8 * GIB, "batch": 2**20},
            resident=12 * GIB,
            temporaries=5 * GIB,
            program=GIB // 8,
            capacity=chip.hbm,
        ),
        cost=Cost(flops=2.1e13, matmul_flops=2e13, hbm_bytes=8.19e10, host_bytes=1.5e9),
        roofline=Roofline(
            compute=0.2,
            hbm=0.1,
            ici=0.1,
            dcn=0.0,
            pcie=0.1,
            model_flops=1.97e13,
            peak=1.97e14,
            traffic=(traffic,),
        ),
        iteration=None,
        compiler_flops=1e12,
        trace_seconds=1.0,
        compile_seconds=9.0,
    )


def test_the_text_says_what_bounds_the_step_and_whether_it_fits(report):
    told = text.describe(report)
    assert "training step on v5e:4x4: 16 chips, mesh fsdp=16, 256 rows" in told
    assert "17.12 GiB of 15.75 GiB (109%): does not fit" in told
    assert "compute                              200.00 ms  <- bound" in told
    assert "50.0% with everything overlapped, 20.0% with nothing" in told
    assert "traffic with the host's memory       1.50 GB" in told
    assert "PCIe                                 100.00 ms" in told
    assert "9.00 GB sent in 3, 100.00 ms on ICI" in told
    plain = json.loads(json.dumps(report.to_json()))
    assert plain["memory"]["peak"] == report.memory.peak and not plain["memory"]["fits"]
    assert plain["roofline"]["bound"] == "compute" and plain["roofline"]["mfu"] == pytest.approx(0.5)


def test_advice_follows_from_what_takes_the_memory(report):
    assert "12.0 GiB: split parameters over more devices" in does_not_fit(report)
    small, capacity = {"parameters": GIB, "batch": 0}, report.memory.capacity
    activations = advice("training step", small, report.mesh, capacity)
    assert activations.startswith("recompute more in the backward pass")
    of_caches = advice("generate (64 tokens)", small, report.mesh, capacity)
    assert of_caches.startswith("take fewer rows at a time (--batch)")
