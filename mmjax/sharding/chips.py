"""What one TPU chip can do, and which topologies exist.

Sources. Peak bf16 FLOP/s, HBM bandwidth, cores and shapes: the system-architecture pages of Cloud TPU (v4,
v5e, v5p, v6e, tpu7x). One-way bandwidth of an ICI link, DCN egress per chip and PCIe: "How to Scale Your
Model" (Austin et al. 2025), chapter 2, whose link figures are what is reached (45 of 50 GB/s on v5e), not the
marketed sum of both directions; it says nothing of tpu7x's PCIe, which is taken to be v6e's. HBM that a
program may use: what libtpu's compiler itself says when a program exceeds it (0.0.42), which is what a run is
held to; the marketed 16 GB of a v5e are 15.75 GiB.
"""

import dataclasses
import difflib
import math

from mmjax.errors import UserError

GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """Figures of one chip; JAX sees `devices` of them, which share everything equally.

    Attributes:
      hbm: bytes a program may use.
      flops: peak bf16 FLOP/s.
      hbm_bandwidth, ici_bandwidth, dcn_bandwidth, pcie_bandwidth: bytes/s; of an ICI link one way, of DCN
        what a chip's share of its host sends, of PCIe between a chip and its host.
      dimensions: of the torus.
      ring: a side of this length, or a multiple of it, is closed to a ring.
      largest: the shape of a whole pod.
    """

    name: str
    hbm: float
    flops: float
    hbm_bandwidth: float
    ici_bandwidth: float
    dcn_bandwidth: float
    pcie_bandwidth: float
    dimensions: int
    ring: int
    largest: tuple[int, ...]
    devices: int = 1

    @property
    def examples(self) -> str:
        """Topologies of this chip, for an error message."""
        sides = ("1x1", "2x2", "4x4", "8x8", "16x16") if self.dimensions == 2 else ("2x2x1", "2x2x4", "4x4x4")
        return ", ".join(f"{self.name}:{side}" for side in sides)


def _chip(name: str, hbm: float, *figures: float, **shape) -> Chip:
    flops, *bandwidths = figures
    names = ("hbm_bandwidth", "ici_bandwidth", "dcn_bandwidth", "pcie_bandwidth")
    return Chip(name=name, hbm=hbm * GIB, flops=flops, **dict(zip(names, bandwidths, strict=True)), **shape)


def _cubes(*largest: int) -> dict:
    return dict(dimensions=3, ring=4, largest=largest)


_FLAT = dict(dimensions=2, ring=16, largest=(16, 16))
CHIPS = {
    chip.name: chip
    for chip in (
        # name, HBM in GiB, bf16 FLOP/s, bytes/s of HBM, of an ICI link one way, of DCN, of PCIe
        _chip("v4", 2 * 15.25, 2.75e14, 1.228e12, 4.5e10, 6.25e9, 1.5e10, **_cubes(16, 16, 16), devices=2),
        _chip("v5e", 15.75, 1.97e14, 8.19e11, 4.5e10, 3.125e9, 1.5e10, **_FLAT),
        _chip("v5p", 95.74, 4.59e14, 2.765e12, 9e10, 6.25e9, 1.5e10, **_cubes(16, 16, 24)),
        _chip("v6e", 31.25, 9.18e14, 1.64e12, 9e10, 1.25e10, 3.2e10, **_FLAT),
        _chip("tpu7x", 2 * 94.75, 2.307e15, 7.38e12, 9e10, 1.25e10, 3.2e10, **_cubes(16, 24, 24), devices=2),
    )
}


def parse_topology(name: str) -> tuple[Chip, tuple[int, ...]]:
    """'v5e:16x16' -> the chip and the sides of its torus, in chips.

    Raises:
      UserError: no such chip, or a shape that is not sold; names the nearest that exists.
    """
    kind, _, text = name.partition(":")
    if kind not in CHIPS:
        near = difflib.get_close_matches(kind, CHIPS, 1, 0.0)[0]
        known = ", ".join(CHIPS)
        raise UserError(
            f"--topology {name}: there is no chip {kind!r} (did you mean {near}?); known: {known}"
        )
    chip = CHIPS[kind]
    try:
        sides = tuple(int(side) for side in text.split("x"))
    except ValueError:
        raise UserError(f"--topology {name}: write sides as in {chip.examples}") from None
    if len(sides) != chip.dimensions or min(sides) < 1:
        raise UserError(
            f"--topology {name}: {kind} is a torus of {chip.dimensions} dimensions, such as {chip.examples}"
        )
    if not _exists(chip, sides):
        near = "x".join(str(side) for side in _nearest(chip, sides))
        raise UserError(f"--topology {name} does not exist; the nearest that does is {kind}:{near}")
    return chip, sides


def _exists(chip: Chip, sides: tuple[int, ...]) -> bool:
    if any(side > most for side, most in zip(sorted(sides), sorted(chip.largest), strict=True)):
        return False
    if chip.dimensions == 2:  # up to a half or whole pod, sides 1 : 1 or 1 : 2
        small, large = sorted(sides)
        return sides == (1, 1) or (small in (2, 4, 8, 16) and large in (small, 2 * small))
    below_a_cube = sides in ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))
    return below_a_cube or all(side % 4 == 0 for side in sides)


def _nearest(chip: Chip, sides: tuple[int, ...]) -> tuple[int, ...]:
    """The existing shape with the nearest number of chips, then the likeliest sides."""
    lengths = sorted({1, 2, *range(4, max(chip.largest) + 1, 4)})
    shapes = [()]
    for _ in range(chip.dimensions):
        shapes = [(*shape, length) for shape in shapes for length in lengths]

    def distance(shape: tuple[int, ...]) -> tuple[float, float]:
        size = abs(math.log(math.prod(shape) / math.prod(sides)))
        return size, sum(abs(math.log(a / b)) for a, b in zip(shape, sides, strict=True))

    return min((shape for shape in shapes if _exists(chip, shape)), key=distance)
