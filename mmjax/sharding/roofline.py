"""How fast a step can be at best: what each resource of a chip needs for its share of the work.

Compute, HBM, ICI, DCN and PCIe (to the host's memory) work side by side, so the slowest of them bounds the
step; what really happens lies between that and one after another. Exchanges among chips go over rings: an
axis of the mesh that runs around a closed side of the torus uses both directions of its links, an open one is
as slow as its busiest end. Exchanges along different axes are taken to wait for each other, as layers do.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from jax.sharding import Mesh

from mmjax.sharding.collectives import Collective
from mmjax.sharding.costs import Cost
from mmjax.sharding.topology import Topology


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traffic:
    """All exchanges of one kind along the same mesh axes, in one step.

    Attributes:
      axes: mesh axes, joined by '+'.
      count: exchanges.
      sent: bytes that each device sends.
      ici_seconds, dcn_seconds: how long their links take.
    """

    kind: str
    axes: str
    count: float
    sent: float
    ici_seconds: float
    dcn_seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roofline:
    """Seconds that each resource of a device needs for one step.

    Attributes:
      model_flops: of one device's share of the model, nothing computed twice; None where it is not known.
      peak: FLOP/s of a device.
      traffic: what ICI and DCN carry.
    """

    compute: float
    hbm: float
    ici: float
    dcn: float
    pcie: float
    model_flops: float | None
    peak: float
    traffic: tuple[Traffic, ...]

    @property
    def seconds(self) -> Mapping[str, float]:
        resources = ("compute", "HBM", "ICI", "DCN", "PCIe")
        return {name: getattr(self, name.lower()) for name in resources}

    @property
    def bound(self) -> str:
        """The resource that needs longest."""
        return max(self.seconds, key=self.seconds.get)

    @property
    def step(self) -> float:
        """Seconds of a step in which everything overlaps."""
        return max(self.seconds.values())

    @property
    def without_overlap(self) -> float:
        """Seconds of a step in which nothing does."""
        return sum(self.seconds.values())

    def mfu(self, seconds: float) -> float | None:
        """Share of the peak that the model's own FLOPs are, in a step of that length."""
        return None if self.model_flops is None else self.model_flops / (self.peak * seconds)


def estimate(cost: Cost, mesh: Mesh, topology: Topology, *, model_flops: float | None) -> Roofline:
    """The roofline of a program compiled for `mesh`.

    Args:
      cost: of one device, see `mmjax.sharding.costs.measure`.
      model_flops: of the whole step, over all devices.
    """
    chip, devices = topology.chip, mesh.size
    traffic = exchanges(cost.collectives, mesh, topology)
    peak = chip.flops / chip.devices
    return Roofline(
        compute=cost.matmul_flops / peak,
        hbm=cost.hbm_bytes / (chip.hbm_bandwidth / chip.devices),
        ici=sum(each.ici_seconds for each in traffic),
        dcn=sum(each.dcn_seconds for each in traffic),
        pcie=cost.host_bytes / (chip.pcie_bandwidth / chip.devices),
        model_flops=None if model_flops is None else model_flops / devices,
        peak=peak,
        traffic=traffic,
    )


def exchanges(collectives: Mapping[Collective, float], mesh: Mesh, topology: Topology) -> tuple[Traffic, ...]:
    """The collectives by kind and mesh axes, the slowest first."""
    lay = _Layout(mesh, topology)
    found: dict[tuple[str, str], Traffic] = {}
    for exchange, count in collectives.items():
        axes = "+".join(exchange.axes(dict(mesh.shape)))
        ici, dcn = lay.seconds(exchange)
        before = found.get((exchange.kind, axes))
        found[exchange.kind, axes] = Traffic(
            kind=exchange.kind,
            axes=axes,
            count=count + (before.count if before else 0),
            sent=count * exchange.sent + (before.sent if before else 0),
            ici_seconds=count * ici + (before.ici_seconds if before else 0),
            dcn_seconds=count * dcn + (before.dcn_seconds if before else 0),
        )
    return tuple(sorted(found.values(), key=lambda each: -(each.ici_seconds + each.dcn_seconds)))


class _Layout:
    """Where the devices of a mesh stand."""

    def __init__(self, mesh: Mesh, topology: Topology):
        devices, self.topology = list(mesh.devices.flat), topology
        self.places = np.array([device.coords for device in devices])[:, : len(topology.sides)]
        self.slices = np.array([getattr(device, "slice_index", None) or 0 for device in devices])
        self._bandwidth = functools.cache(self._bandwidth)

    def seconds(self, exchange: Collective) -> tuple[float, float]:
        """(ICI, DCN) of one exchange."""
        chip = self.topology.chip
        if exchange.kind == "collective-permute":
            return self._permutation(exchange)
        group = exchange.group
        slices = len(set(self.slices[list(group)]))
        inside = tuple(device for device in group if self.slices[device] == self.slices[group[0]])
        ici = dataclasses.replace(exchange, group=inside).sent / self._bandwidth(inside)
        if slices == 1:
            return ici, 0.0
        # First within each slice; then every device exchanges its own part with its peers in the others.
        between = dataclasses.replace(
            exchange, group=tuple(range(slices)), bytes=exchange.bytes // len(inside)
        )
        return ici, between.sent / (chip.dcn_bandwidth / chip.devices)

    def _permutation(self, exchange: Collective) -> tuple[float, float]:
        """A shift takes as many turns on each link as it makes steps."""
        chip = self.topology.chip
        pairs = np.array(exchange.group)
        if np.any(self.slices[pairs[:, 0]] != self.slices[pairs[:, 1]]):
            return 0.0, exchange.sent / (chip.dcn_bandwidth / chip.devices)
        steps = np.abs(self.places[pairs[:, 0]] - self.places[pairs[:, 1]])
        for axis, side in enumerate(self.topology.sides):
            if self._closed(side):
                steps[:, axis] = np.minimum(steps[:, axis], side - steps[:, axis])
        hops = max(int(steps.sum(axis=1).max()), 1)
        return exchange.sent * hops / (chip.ici_bandwidth / chip.devices), 0.0

    def _bandwidth(self, group: tuple[int, ...]) -> float:
        """Bytes/s that a device of the group can send to the others in a ring."""
        chip, directions = self.topology.chip, 0
        for axis, side in enumerate(self.topology.sides):
            extent = len(set(self.places[list(group), axis]))
            if extent > 1:
                directions += 2 if extent == side and self._closed(side) else 1
        if directions == 0:  # cores of one chip share its memory
            return chip.hbm_bandwidth / chip.devices
        return directions * chip.ici_bandwidth / chip.devices

    def _closed(self, side: int) -> bool:
        return side > 2 and side % self.topology.chip.ring == 0
