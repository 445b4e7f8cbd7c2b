"""Rooflines worked out by hand, and topologies that do not exist."""

import types

import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.sharding.chips import CHIPS, parse_topology
from mmjax.sharding.collectives import Collective
from mmjax.sharding.costs import Cost
from mmjax.sharding.roofline import estimate
from mmjax.sharding.topology import Topology

V5E = CHIPS["v5e"]


def slices(sides, *, count=1, chip=V5E, sizes):
    """A topology and a mesh of `sizes` over its devices in row-major order."""
    places = [place for _ in range(count) for place in np.ndindex(*sides)]
    each = int(np.prod(sides))
    devices = [
        types.SimpleNamespace(coords=(*place, 0, 0)[:3], slice_index=index // each)
        for index, place in enumerate(places)
    ]
    grid = np.array(devices, dtype=object).reshape(tuple(sizes.values()))
    mesh = types.SimpleNamespace(devices=grid, size=len(devices), shape=sizes)
    return mesh, Topology(name="test", chip=chip, sides=sides, slices=count, devices=devices)


def roofline(cost, mesh_and_topology, model_flops=None):
    return estimate(cost, *mesh_and_topology, model_flops=model_flops)


def test_compute_and_memory_bounds_by_hand():
    pod = slices((2, 2), sizes={"data": 4})
    found = roofline(Cost(matmul_flops=1.97e12, flops=9e12, hbm_bytes=8.19e9), pod, model_flops=4 * 0.985e12)
    assert found.compute == pytest.approx(0.01)
    assert found.hbm == pytest.approx(0.01)
    assert found.mfu(found.step) == pytest.approx(0.5)
    assert found.mfu(found.without_overlap) == pytest.approx(0.25)
    assert roofline(Cost(hbm_bytes=1.0), pod).bound == "HBM"
    assert roofline(Cost(hbm_bytes=1.0), pod).mfu(1.0) is None


def test_what_the_host_keeps_goes_over_pcie():
    found = roofline(Cost(host_bytes=3e9, hbm_bytes=8.19e9), slices((2, 2), sizes={"data": 4}))
    assert found.seconds["PCIe"] == pytest.approx(0.2)
    assert found.bound == "PCIe" and found.without_overlap == pytest.approx(0.21)


def gather(group, size=16e9):
    return Cost(collectives={Collective("all-gather", int(size), tuple(group)): 2.0})


def test_a_closed_ring_uses_both_directions_and_an_open_one_does_not():
    closed = slices((16, 16), sizes={"data": 16, "fsdp": 16})
    found = roofline(gather(range(16)), closed)
    assert found.ici == pytest.approx(2 * 15e9 / (2 * 4.5e10))
    assert [(each.kind, each.axes, each.count) for each in found.traffic] == [("all-gather", "fsdp", 2)]
    opened = slices((4, 4), sizes={"data": 4, "fsdp": 4})
    assert roofline(gather(range(4)), opened).ici == pytest.approx(2 * 12e9 / 4.5e10)
    both = roofline(gather(range(256)), closed)  # both sides of the torus at once
    assert both.ici == pytest.approx(2 * 16e9 * 255 / 256 / (4 * 4.5e10))
    assert both.traffic[0].axes == "data+fsdp"


def test_a_shift_takes_as_long_as_its_longest_way():
    pod = slices((16, 16), sizes={"data": 16, "fsdp": 16})
    neighbours = tuple((i, (i + 1) % 16) for i in range(16))
    far = tuple((i, (i + 5) % 16) for i in range(16))
    for pairs, hops in ((neighbours, 1), (far, 5)):
        cost = Cost(collectives={Collective("collective-permute", 9 * 10**9, pairs): 1.0})
        assert roofline(cost, pod).ici == pytest.approx(hops * 9e9 / 4.5e10)


def test_between_slices_only_each_chips_own_part_travels():
    pod = slices((2, 2), count=2, sizes={"data": 2, "fsdp": 4})
    reduce = Collective("all-reduce", 8 * 10**9, tuple(range(8)))
    found = roofline(Cost(collectives={reduce: 1.0}), pod)
    assert found.dcn == pytest.approx(2 * (1 / 2) * (8e9 / 4) / V5E.dcn_bandwidth)
    assert found.ici == pytest.approx(2 * (3 / 4) * 8e9 / (2 * V5E.ici_bandwidth))
    assert found.bound == "DCN"


def test_two_devices_of_a_chip_share_it():
    chip = CHIPS["tpu7x"]
    pod = slices((2, 2, 1), chip=chip, sizes={"data": 4})
    found = roofline(Cost(matmul_flops=chip.flops, hbm_bytes=chip.hbm_bandwidth), pod)
    assert found.compute == found.hbm == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["v5e:1x1", "v5e:2x4", "v5e:16x16", "v5p:4x4x4", "v6e:4x8", "tpu7x:2x2x1"])
def test_topologies_that_exist(name):
    chip, sides = parse_topology(name)
    assert name == f"{chip.name}:{'x'.join(map(str, sides))}"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("v7x:2x2", "there is no chip 'v7x' .did you mean tpu7x"),
        ("v5e:32x32", "does not exist; the nearest that does is v5e:16x16"),
        ("v5e:3x5", "does not exist; the nearest that does is v5e:4x4"),
        ("v5p:4x4x6", "does not exist; the nearest that does is v5p:4x4x8"),
        ("v5e:4x4x4", "a torus of 2 dimensions, such as v5e:1x1"),
        ("v5e:large", "write sides as in v5e:1x1"),
    ],
)
def test_topologies_that_do_not(name, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_topology(name)
