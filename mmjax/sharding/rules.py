"""Which mesh axis each logical axis is split over.

Layers name the axes of their parameters and activations; a `ShardingRules` maps the names to mesh axes. A
name mapped to nothing stays whole on every device.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping

from jax.sharding import PartitionSpec

from mmjax.errors import UserError

AXES = ("data", "fsdp", "tensor", "sequence")
BATCH_AXES = ("data", "fsdp")

MeshAxes = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardingRules:
    """Logical axis -> mesh axes. Earlier fields win where an activation would use a mesh axis twice."""

    # Activations. `batch` comes first: under fsdp an activation keeps its rows split and its width whole.
    batch: MeshAxes = BATCH_AXES
    sequence: MeshAxes = ()
    # Widths of parameters (and of activations).
    heads: MeshAxes = ()
    kv_heads: MeshAxes = ()
    mlp: MeshAxes = ()
    vocab: MeshAxes = ()
    modulation: MeshAxes = ()  # the shifts, scales and gates an adaLN layer puts out
    embed: MeshAxes = ()
    head_dim: MeshAxes = ()
    # Rarely worth splitting.
    layers: MeshAxes = ()  # the axis `nn.scan` stacks on
    latent: MeshAxes = ()  # learned queries
    patch: MeshAxes = ()  # pixels of one patch

    def pairs(self) -> tuple[tuple[str, MeshAxes | None], ...]:
        """The rules in the form `nn.logical_axis_rules` reads."""
        return tuple((f.name, getattr(self, f.name) or None) for f in dataclasses.fields(self))

    def override(self, lines: Mapping[str, str | MeshAxes | None]) -> "ShardingRules":
        """A copy with some lines replaced.

        Raises:
          UserError: an unknown logical or mesh axis, or a mesh axis named twice in one line.
        """
        checked = {}
        for name, axes in lines.items():
            axes = (axes,) if isinstance(axes, str) else tuple(axes or ())
            _check_known(name, [f.name for f in dataclasses.fields(self)], "logical axis")
            for axis in axes:
                _check_known(axis, AXES, "mesh axis")
            if len(set(axes)) != len(axes):
                raise UserError(f"sharding.overrides.{name} names a mesh axis twice: {axes}")
            checked[name] = axes
        return dataclasses.replace(self, **checked)

    def spec(self, logical: PartitionSpec, shape: tuple[int, ...], mesh_shape: Mapping[str, int], path: str):
        """The mesh PartitionSpec of one parameter.

        Args:
          logical: logical axis name (or None) per dimension; shorter than `shape` means None for the rest.
          path: 'a/b/c', for the error message.

        Raises:
          UserError: two different logical axes of the parameter claim one mesh axis, or a dimension is not
            divisible by the devices it is split over.
        """
        taken: dict[str, str] = {}
        entries = []
        for name, size in zip(tuple(logical) + (None,) * (len(shape) - len(logical)), shape, strict=True):
            axes = () if name is None else self._axes(name, path)
            axes = tuple(axis for axis in axes if mesh_shape[axis] > 1)
            if name in taken.values():  # e.g. a square (embed, embed) kernel: its first axis is split
                axes = ()
            for axis in axes:
                if axis in taken:
                    raise UserError(
                        f"sharding: parameter {path} would use mesh axis {axis!r} for both {taken[axis]!r} "
                        f"and {name!r}; change one with sharding.overrides.{name}"
                    )
                taken[axis] = name
            if axes:
                _check_divides(name, path, size, axes, mesh_shape)
            entries.append(axes or None)
        return PartitionSpec(*entries)

    def _axes(self, name: str, path: str) -> MeshAxes:
        if not hasattr(self, name):
            raise UserError(f"sharding: parameter {path} has the logical axis {name!r}, which no rule covers")
        return getattr(self, name)


PRESETS = {
    "replicated": ShardingRules(),
    "fsdp": ShardingRules(embed=("fsdp",)),
    "fsdp_tensor": ShardingRules(
        sequence=("sequence",),
        heads=("tensor",),
        kv_heads=("tensor",),
        mlp=("tensor",),
        vocab=("tensor",),
        modulation=("tensor",),
        embed=("fsdp",),
    ),
    # Activations are split along their tokens; parameters over the devices of both axes.
    "fsdp_sequence": ShardingRules(sequence=("sequence",), embed=("fsdp", "sequence")),
}


def _check_divides(name: str, path: str, size: int, axes: MeshAxes, mesh_shape: Mapping[str, int]) -> None:
    parts = math.prod(mesh_shape[axis] for axis in axes)
    if size % parts == 0:
        return
    split = " x ".join(axes)
    works = max(part for part in range(1, parts + 1) if size % part == 0)
    near = max(round(size / parts), 1) * parts
    raise UserError(
        f"sharding: axis {name!r} of parameter {path} has size {size}, not divisible by the {parts} devices "
        f"of mesh axis {split}; the nearest that works is {works} devices or a size of {near} (or keep it "
        f"whole with sharding.overrides.{name}=())"
    )


def _check_known(name: str, known: tuple[str, ...] | list[str], what: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise UserError(f"sharding.overrides: unknown {what} {name!r}; {hint}")
