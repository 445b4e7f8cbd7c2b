"""Which chips a collective of a compiled program joins, along which mesh axes, and what each of them sends.

HLO writes groups of devices in three ways, all read here: a list `{{0,1},{2,3}}`, a reshaped count
`[2,2]<=[4]T(1,0)`, and axes of a mesh `mesh['a'=2,'b'=2] {'a'}`. Devices are numbered as in the mesh that the
program was compiled for, in row-major order.
"""

import dataclasses
import math
import re

import numpy as np

from mmjax.sharding.hlo import Instruction

KINDS = ("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "collective-permute")

_MESH = re.compile(r"mesh\[([^\]]*)\](?:,? ?device_ids=\((.*?\)?)\))? *\{([^}]*)\}")
_COUNTED = re.compile(r"\[([\d,]+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)")
_PAIR = re.compile(r"\{([\d, ]+)\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange.

    Attributes:
      kind: one of `KINDS`.
      bytes: of the whole result of a group (the operand, of a reduce-scatter), as one chip sees it.
      group: the devices that exchange, of one group; of a permutation all (from, to).
    """

    kind: str
    bytes: int
    group: tuple[int, ...] | tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Devices that exchange with each other."""
        return 2 if self.kind == "collective-permute" else len(self.group)

    @property
    def sent(self) -> float:
        """Bytes that a chip sends, in the best of the usual algorithms (rings)."""
        share = (self.size - 1) / self.size
        return {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share) * self.bytes

    def axes(self, sizes: dict[str, int]) -> tuple[str, ...]:
        """Names of the mesh axes along which the devices of a group differ; mesh axis -> size in order."""
        pairs = self.group if self.kind == "collective-permute" else [self.group]
        found = set()
        for members in pairs:
            where = np.unravel_index(np.asarray(members), tuple(sizes.values()))
            found |= {name for name, at in zip(sizes, where, strict=True) if np.ptp(at)}
        return tuple(name for name in sizes if name in found)


def kind_of(instruction: Instruction) -> str | None:
    """The kind of collective an instruction starts; None if it is none, or only waits for one."""
    name = instruction.opcode.removesuffix("-start")
    return name if name in KINDS else None


def read(instruction: Instruction, operand_bytes: int, *, devices: int) -> Collective | None:
    """The collective an instruction starts; None where every group is one device."""
    kind = kind_of(instruction)
    if kind == "collective-permute":
        group = tuple(p for p in _pairs(instruction.attribute("source_target_pairs")) if p[0] != p[1])
        return Collective(kind, operand_bytes, group) if group else None
    group = _first_group(instruction.attributes, devices)
    if len(group) < 2:
        return None
    size = operand_bytes * (len(group) if kind == "all-gather" else 1)
    return Collective(kind, size, group)


def _pairs(text: str) -> list[tuple[int, ...]]:
    return [tuple(int(number) for number in found.split(",")) for found in _PAIR.findall(text)]


def _first_group(attributes: str, devices: int) -> tuple[int, ...]:
    at = attributes.find("replica_groups=")
    text = attributes[at + len("replica_groups=") :] if at >= 0 else ""
    if found := _MESH.match(text):
        return _mesh_group(*found.groups())
    if found := _COUNTED.match(text):
        groups = _numbers(found[2]).reshape(_integers(found[1]))
        return tuple(groups[0].tolist())
    end = text.find("}}")
    listed = _pairs(text[: end + 1]) if text.startswith("{{") else []
    return max(listed, key=len) if listed else tuple(range(devices))


def _mesh_group(axes: str, order: str | None, names: str) -> tuple[int, ...]:
    sizes = {name: int(size) for name, size in re.findall(r"'?([\w.]+)'?=(\d+)", axes)}
    devices = np.arange(math.prod(sizes.values())) if order is None else _numbers(order)
    devices = devices.reshape(tuple(sizes.values()))
    # `{'a'}` joins the devices along a; `{'a':(2)4}` along the middle 4 of a split into 2 x 4 x rest.
    shape, moved = [], []
    wanted = {name: part for name, part in re.findall(r"'?([\w.]+)'?(?::(\(\d+\)\d+))?", names) if name}
    for name, size in sizes.items():
        before, width = 1, size
        if wanted.get(name):
            before, width = (int(number) for number in re.findall(r"\d+", wanted[name]))
        if name in wanted:
            moved.append(len(shape) + 1)
        shape += [before, width, size // (before * width)]
    devices = np.moveaxis(devices.reshape(shape), moved, range(-len(moved), 0)) if moved else devices
    width = math.prod(shape[i] for i in moved)
    return tuple(devices.reshape(-1, width)[0].tolist())


def _numbers(text: str) -> np.ndarray:
    """'[4,2]T(1,0)': the numbers from 0, reshaped and transposed, in a row; '0,2,1,3': as listed."""
    found = re.match(r"\[([\d,]+)\](?:T\(([\d,]+)\)?)?", text)
    if not found:
        return np.array(_integers(text))
    numbers = np.arange(math.prod(_integers(found[1]))).reshape(_integers(found[1]))
    return (numbers.transpose(_integers(found[2])) if found[2] else numbers).reshape(-1)


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))
