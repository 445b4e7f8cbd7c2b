"""Parameter names of public releases, beside ours: one table per family, read in both directions.

A table (`mmjax/interop/tables`) maps a module of ours ('stack/layers/mlp/up') or a single parameter
('logit_scale') to the reference's name for it, in which {} counts layers: those are stacked along our leading
axes. In a module, `kernel` is the transposed `weight`, `scale` and `table` are the `weight`, `bias` is the
`bias`; heads split and merge by reshaping to our shape. `At` says what differs from that.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

LEAVES = {"kernel": "weight", "scale": "weight", "table": "weight", "bias": "bias"}


@dataclasses.dataclass(frozen=True)
class At:
    """Where a parameter is, when the name alone does not say it.

    Attributes:
      axes: order of the reference's axes that gives ours; None for the usual transposition of a kernel.
      part, parts: the reference joins `parts` parameters along its axis `along`; this is number `part`.
      leaf: how the reference's leaf name is joined to the module's.
    """

    name: str
    axes: tuple[int, ...] | None = None
    part: int = 0
    parts: int = 1
    along: int = 0
    leaf: str = "."


def conv(name: str) -> At:
    """A convolution whose kernel is a linear map of patches, flattened as (row, column, channel)."""
    return At(name, axes=(2, 3, 1, 0))


def untransposed(name: str, **fields) -> At:
    """A linear map whose weight is stored inputs first, as ours is."""
    return At(name, axes=(0, 1), **fields)


def split(name: str, part: int, parts: int, **fields) -> At:
    """One of several equal maps that the reference joins in one tensor."""
    return At(name, part=part, parts=parts, **fields)


@dataclasses.dataclass(frozen=True)
class _Link:
    """One of our parameters: path and shape, and the reference parameters behind it."""

    path: tuple[str, ...]
    shape: tuple[int, ...]
    at: At
    name: str  # with {} where there are layers
    axes: tuple[int, ...] | None

    def view(self, value: np.ndarray) -> np.ndarray:
        """The part of a reference array that is this parameter, its axes in our order."""
        if self.at.parts > 1:
            value = np.split(value, self.at.parts, self.at.along)[self.at.part]
        return value.transpose(self.axes) if self.axes else value

    def names(self, reference: Mapping) -> list[str]:
        if "{}" not in self.name:
            return [self.name]
        count = sum(self.name.format(i) in reference for i in range(1000))
        return [self.name.format(i) for i in range(count)]


def _links(ours: Mapping, table: Mapping[str, str | At | None]) -> Iterator[_Link]:
    for path, leaf in flatten_dict(ours).items():
        whole, module = "/".join(path), "/".join(path[:-1])
        found = table.get(whole, table.get(module, ""))
        if found == "":
            raise KeyError(f"the name table has no entry for {whole}")
        if found is None:  # has no counterpart: stays zero
            continue
        at = found if isinstance(found, At) else At(found)
        is_kernel = whole not in table and path[-1] == "kernel"
        axes = (at.axes or (1, 0)) if is_kernel else None
        name = at.name if whole in table else at.name + at.leaf + LEAVES[path[-1]]
        yield _Link(path, tuple(leaf.shape), at, name, at.axes if whole in table else axes)


def to_ours(reference: Mapping[str, np.ndarray], ours: Mapping, table: Mapping) -> dict:
    """Reference parameters (or their gradients) -> our tree. `ours` gives the shapes."""
    tree = {path: np.zeros(leaf.shape, np.float32) for path, leaf in flatten_dict(ours).items()}
    for link in _links(ours, table):
        layers = [link.view(reference[name]) for name in link.names(reference)]
        tree[link.path] = np.stack(layers).reshape(link.shape)
    return unflatten_dict(tree)


def to_reference(ours: Mapping, reference: Mapping[str, np.ndarray], table: Mapping) -> dict[str, np.ndarray]:
    """Our tree -> the reference's parameters. `reference` gives names and shapes.

    A name without a counterpart of ours comes back as NaN, so that comparing finds it.
    """
    result = {name: np.full(value.shape, np.nan, np.float32) for name, value in reference.items()}
    flat = flatten_dict(ours)
    for link in _links(ours, table):
        names = link.names(reference)
        for name, value in zip(names, np.asarray(flat[link.path]).reshape(len(names), -1), strict=True):
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


def projections(
    ours: str, theirs: str, query="q_proj", key="k_proj", value="v_proj", output="o_proj"
) -> dict:
    """The four maps of an attention module, beside the reference's names for them."""
    names = dict(query=query, key=key, value=value, output=output)
    return {f"{ours}/{mine}": f"{theirs}.{name}" for mine, name in names.items()}
