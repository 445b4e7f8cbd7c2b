"""How the rules lay parameters over a mesh: what each device holds, and what all of them hold whole."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jax.sharding import AbstractMesh, AxisType, Mesh

from mmjax.sharding.rules import ShardingRules
from mmjax.sharding.state import parameter_shardings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One parameter.

    Attributes:
      spec: mesh axes of each dimension, () where it is whole.
      bytes, bytes_per_device: of all of it, and of what a device holds.
    """

    path: str
    shape: tuple[int, ...]
    spec: tuple[tuple[str, ...], ...]
    bytes: int
    bytes_per_device: int

    @property
    def replicated(self) -> bool:
        """Whether every device holds all of it."""
        return not any(self.spec)


def abstract_mesh(sizes: Mapping[str, int]) -> AbstractMesh:
    """A mesh without devices: enough to say how arrays would be split."""
    return AbstractMesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


def parameter_rows(boxed: Any, mesh: Mesh | AbstractMesh, rules: ShardingRules) -> tuple[Row, ...]:
    """Every parameter in the order of the tree.

    Args:
      boxed: abstract parameters in their boxes, see `parameter_shardings`.

    Raises:
      UserError: a collision or an indivisible dimension.
    """
    shardings = flatten_dict(parameter_shardings(boxed, mesh, rules))
    return tuple(
        Row(
            path="/".join(path),
            shape=leaf.shape,
            spec=tuple(_axes(entry) for entry in shardings[path].spec),
            bytes=math.prod(leaf.shape) * leaf.dtype.itemsize,
            bytes_per_device=bytes_per_device(leaf, shardings[path]),
        )
        for path, leaf in flatten_dict(nn.meta.unbox(boxed)).items()
    )


def bytes_per_device(leaf: Any, sharding: Any) -> int:
    """Of one array or array shape, under its sharding."""
    return math.prod(sharding.shard_shape(leaf.shape)) * _itemsize(leaf)


def _itemsize(leaf: Any) -> int:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return 8
    return leaf.dtype.itemsize


def table(rows: tuple[Row, ...], mesh: Mesh | AbstractMesh) -> str:
    """The rows as aligned text, with the sums and the share that stays whole."""
    cells = [("parameter", "shape", "split over", "bytes per device", "")]
    cells += [
        (
            row.path,
            " x ".join(map(str, row.shape)) or "scalar",
            ", ".join("+".join(axes) or "-" for axes in row.spec) or "-",
            f"{row.bytes_per_device:,}",
            "replicated" if row.replicated else "",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}  {e}".rstrip()
        for a, b, c, d, e in cells
    ]
    return "\n".join([*lines, "", *_summary(rows, mesh)])


def _summary(rows: tuple[Row, ...], mesh: Mesh | AbstractMesh) -> Iterator[str]:
    figures = summary(rows)
    sizes = ", ".join(f"{axis}={size}" for axis, size in mesh.shape.items() if size > 1) or "one device"
    yield f"mesh            {sizes} ({mesh.size} devices)"
    yield f"parameters      {figures['bytes'] / 2**20:,.1f} MiB in all"
    yield f"per device      {figures['bytes_per_device'] / 2**20:,.1f} MiB"
    yield (
        f"replicated      {figures['replicated_share']:.1%} of the bytes "
        f"({sum(row.replicated for row in rows)} of {len(rows)} parameters)"
    )


def summary(rows: tuple[Row, ...]) -> dict[str, float]:
    """{"bytes", "bytes_per_device", "replicated_bytes", "replicated_share"} of all rows."""
    total = sum(row.bytes for row in rows)
    whole = sum(row.bytes for row in rows if row.replicated)
    return {
        "bytes": total,
        "bytes_per_device": sum(row.bytes_per_device for row in rows),
        "replicated_bytes": whole,
        "replicated_share": whole / max(total, 1),
    }


def _axes(entry: Any) -> tuple[str, ...]:
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
