"""Parameter names of public releases, beside ours: one table per family, read in both directions.

A table (`mmjax/interop/tables`) maps a module of ours ('stack/layers/mlp/up') or a single parameter
('logit_scale') to the reference's name for it, in which {} counts layers: those are stacked along our leading
axes. In a module, `kernel` is the transposed `weight`, `scale` and `table` are the `weight`, `bias` is the
`bias`; heads split and merge by reshaping to our shape. `At` says what differs from that.

The reference's shapes follow from ours: a kernel of more than two axes has one input axis (in a module called
`output` one output axis), and the reference merges the others.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "table": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
STACKS = ("layers", "groups")  # our scanned modules: each puts one leading axis on what is below it

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class At:
    """Where a parameter is, when the name alone does not say it.

    Attributes:
      axes: order of the reference's axes that gives ours; None for the usual transposition of a kernel.
      part, parts: the reference joins `parts` parameters along its axis `along`; this is number `part`.
      leaf: how the reference's leaf name is joined to the module's.
      shape: the reference's shape (of the part), where ours does not tell it; one entry may be -1.
      channels: of the pictures whose patches our kernel flattens; what is left of its first axis is square.
      first, step: the reference's number of our first layer, and from one of ours to the next.
      copies: the reference repeats our one parameter so often, under numbers in place of {}.
    """

    name: str
    axes: Shape | None = None
    part: int = 0
    parts: int = 1
    along: int = 0
    leaf: str = "."
    shape: Shape | None = None
    channels: int = 3
    copies: int = 0
    first: int = 0
    step: int = 1


def conv(name: str, channels: int = 3) -> At:
    """A convolution whose kernel is a linear map of patches, flattened as (row, column, channel)."""
    return At(name, axes=(2, 3, 1, 0), channels=channels)


def untransposed(name: str, **fields) -> At:
    """A linear map whose weight is stored inputs first, as ours is."""
    return At(name, axes=(0, 1), **fields)


def split(name: str, part: int, parts: int, **fields) -> At:
    """One of several equal maps that the reference joins in one tensor."""
    return At(name, part=part, parts=parts, **fields)


@dataclasses.dataclass(frozen=True)
class Link:
    """One of our parameters and the reference tensors behind it, one per layer.

    Attributes:
      path, shape: ours.
      stacked: leading axes of ours that count layers.
      names: of the reference's tensors, in the order of our layers.
      axes: order of the reference's axes that gives ours.
    """

    path: tuple[str, ...]
    shape: Shape
    stacked: int
    names: tuple[str, ...]
    at: At
    axes: Shape | None

    @property
    def layer_shape(self) -> Shape:
        return self.shape[self.stacked :]

    @property
    def reference_shape(self) -> Shape:
        """Shape of each of the reference's tensors, joined ones included."""
        shape = list(self._part_shape())
        if self.at.parts > 1:
            shape[self.at.along] *= self.at.parts
        return tuple(shape)

    def _part_shape(self) -> Shape:
        ours, size = self.layer_shape, math.prod(self.layer_shape)
        if self.at.shape is not None:
            known = -math.prod(self.at.shape)
            return tuple(size // known if n == -1 else n for n in self.at.shape)
        if self.path[-1] == "bias":
            return (size,)
        if self.axes is None:
            return ours
        if len(self.axes) > len(ours):
            side = math.isqrt(ours[0] // self.at.channels)
            ours = (side, side, self.at.channels, *ours[1:])
        elif len(self.axes) < len(ours):
            inputs = len(ours) - 1 if self.path[-2] == "output" else 1
            ours = (math.prod(ours[:inputs]), math.prod(ours[inputs:]))
        return tuple(ours[self.axes.index(axis)] for axis in range(len(ours)))

    def view(self, value: np.ndarray) -> np.ndarray:
        """The part of a reference array that is this parameter, its axes in our order; writes go through."""
        if self.at.parts > 1:
            value = np.split(value, self.at.parts, self.at.along)[self.at.part]
        return value.transpose(self.axes) if self.axes else value


def links(ours: Mapping, table: Mapping[str, str | At | None]) -> Iterator[Link]:
    """What belongs together; `ours` gives the shapes. A parameter that the table maps to None is left out."""
    for path, leaf in flatten_dict(ours).items():
        whole, module = "/".join(path), "/".join(path[:-1])
        found = table.get(whole, table.get(module, ""))
        if found == "":
            raise KeyError(f"the name table has no entry for {whole}")
        if found is None:  # has no counterpart: stays zero
            continue
        at = found if isinstance(found, At) else At(found)
        if whole in table:
            name, axes = at.name, at.axes
        else:
            name = at.name + at.leaf + LEAVES[path[-1]]
            axes = (at.axes or (1, 0)) if path[-1] == "kernel" else None
        stacked, count = 0, at.copies or 1
        if "{}" in name and not at.copies:
            stacked = sum(part in STACKS for part in path)
            count = math.prod(leaf.shape[:stacked])
        names = tuple(name.format(at.first + at.step * i) for i in range(count)) if "{}" in name else (name,)
        yield Link(path, tuple(leaf.shape), stacked, names, at, axes)


def reference_shapes(ours: Mapping, table: Mapping) -> dict[str, Shape]:
    """Names and shapes of all tensors of the reference that the table knows."""
    return {name: link.reference_shape for link in links(ours, table) for name in link.names}


def to_ours(reference: Mapping[str, np.ndarray], ours: Mapping, table: Mapping) -> dict:
    """Reference parameters (or their gradients) -> our tree. `ours` gives the shapes."""
    tree = {path: np.zeros(leaf.shape, np.float32) for path, leaf in flatten_dict(ours).items()}
    for link in links(ours, table):
        names = link.names[:1] if link.at.copies else link.names
        tree[link.path] = np.stack([link.view(reference[name]) for name in names]).reshape(link.shape)
    return unflatten_dict(tree)


def to_reference(ours: Mapping, reference: Mapping[str, np.ndarray], table: Mapping) -> dict[str, np.ndarray]:
    """Our tree -> the reference's parameters. `reference` gives names and shapes.

    A name without a counterpart of ours comes back as NaN, so that comparing finds it.
    """
    result = {name: np.full(value.shape, np.nan, np.float32) for name, value in reference.items()}
    flat = flatten_dict(ours)
    for link in links(ours, table):
        values = np.asarray(flat[link.path]).reshape(-1, *link.layer_shape)
        for name, value in zip(
            link.names, np.broadcast_to(values, (len(link.names), *values.shape[1:])), strict=True
        ):
            target = link.view(result[name])
            target[...] = value.reshape(target.shape)
    return result


def under(prefix: str, table: Mapping, theirs: str = "") -> dict:
    """`table` below `prefix` of ours and below the module `theirs` of the reference."""
    moved = {}
    for path, at in table.items():
        if isinstance(at, At):
            at = dataclasses.replace(at, name=theirs + at.name)
        elif at is not None:
            at = theirs + at
        moved[f"{prefix}/{path}" if prefix else path] = at
    return moved


def numbered(table: Mapping, first: int, step: int = 1) -> dict:
    """`table` for layers that the reference counts from `first` in steps of `step`."""
    entries = {path: at if isinstance(at, At) else At(at) for path, at in table.items()}
    return {path: dataclasses.replace(at, first=first, step=step) for path, at in entries.items()}


def without(prefix: str, table: Mapping) -> dict:
    """`table` for a reference whose names lack a prefix that the table's have."""

    def cut(at: str | At | None) -> str | At | None:
        if isinstance(at, At):
            return dataclasses.replace(at, name=at.name.removeprefix(prefix))
        return at and at.removeprefix(prefix)

    return {path: cut(at) for path, at in table.items()}


def projections(
    ours: str, theirs: str, query="q_proj", key="k_proj", value="v_proj", output="o_proj"
) -> dict:
    """The four maps of an attention module, beside the reference's names for them."""
    names = dict(query=query, key=key, value=value, output=output)
    return {f"{ours}/{mine}": f"{theirs}.{name}" for mine, name in names.items()}
