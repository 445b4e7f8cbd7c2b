"""The splits of a data set: named by the data, or held out by a stable hash where it names none."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from mmjax.data.records import BadRecord
from mmjax.data.sources import files
from mmjax.data.sources.access import Source
from mmjax.errors import UserError

HELD_OUT_SHARE = 0.01
# What the field calls the same thing: any name of a group finds another where only that one is there.
SAME = (("train", "training"), ("held_out", "val", "valid", "validation", "dev", "heldout"))
NAMES = frozenset(itertools.chain(*SAME, ("test", "testdev", "minival", "restval")))
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")

T = TypeVar("T")


class Splits:
    """A data set of sources opened when they are first asked for.

    Attributes:
      name: what it was opened from, for messages.
      splits: the names of its splits.
    """

    def __init__(self, name: str, sources: Mapping[str, Callable[[], Source]]):
        self.name, self._open, self._sources = name, dict(sources), {}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._open)

    def source(self, split: str) -> Source:
        """The records of a split; UserError if there is no such split or it holds nothing."""
        split = chosen(self.name, self.splits, split)
        if split not in self._sources:
            source = self._open[split]()
            if not len(source):
                raise UserError(f"split {split!r} of {self.name} holds no record: correct data.source.")
            self._sources[split] = source
        return self._sources[split]

    def provenance(self, split: str) -> dict[str, Any]:
        """{count, sha256} of a split: the hash of all its bytes, the kind of problem where there are none."""
        source, digest = self.source(split), hashlib.sha256()
        for index in range(len(source)):
            try:
                digest.update(hashlib.sha256(source[index]).digest())
            except BadRecord as bad:
                digest.update(bad.kind.encode())
        return {"count": len(source), "sha256": digest.hexdigest()}


def chosen(name: str, splits: Sequence[str], split: str) -> str:
    """The split of a data set that `split` means.

    Raises:
      UserError: there is none.
    """
    if split in splits:
        return split
    group = next((group for group in SAME if split in group), ())
    found = [other for other in splits if other in group]
    if len(found) != 1:
        raise UserError(f"{name} has no split {split!r}: use {', '.join(splits) or 'another data set'}.")
    return found[0]


def held_out(rows: Sequence[T], share: float, key: Callable[[T], Hashable]) -> dict[str, list[T]]:
    """Divides rows by a stable hash of their key: "train", and about `share` of the keys in "held_out".

    Rows of one key stay together; where there are two keys at least, one at least is held out.

    Raises:
      UserError: `share` is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise UserError(f"held_out_share is {share:g}: use a share from 0 up to but not including 1.")
    if not share:
        return {"train": list(rows)}
    places = {one: _place(str(one)) for one in map(key, rows)}
    bound = max(share, min(places.values(), default=0.0)) if len(places) > 1 else -1.0
    divided: dict[str, list[T]] = {"train": [], "held_out": []}
    for row in rows:
        divided["held_out" if places[key(row)] <= bound else "train"].append(row)
    return {name: members for name, members in divided.items() if members}


def grouped(rows: Iterable[T], split: Callable[[T], str]) -> dict[str, list[T]]:
    """Rows by the name of their split, in the order of first appearance."""
    groups: dict[str, list[T]] = {}
    for row in rows:
        groups.setdefault(split(row), []).append(row)
    return groups


def by_split_name(paths: Sequence[str]) -> dict[str, list[str]]:
    """Files by the split their names begin with (`train-00000.tar`), where all do; else all "train"."""
    names = [re.split(r"[-_.\d]", os.path.basename(path).lower(), maxsplit=1)[0] for path in paths]
    whole = [os.path.basename(path).lower().split(".")[0].rstrip("-_0123456789") for path in paths]
    names = [one if one in NAMES else name for name, one in zip(names, whole, strict=True)]
    if not all(name in NAMES for name in names):
        return {"train": list(paths)}
    return {
        name: [path for _, path in members]
        for name, members in grouped(zip(names, paths, strict=True), lambda pair: pair[0]).items()
    }


def expanded(path: str, *suffixes: str) -> list[str]:
    """The files of a path with braces (`{000..099}`), of a glob or a folder (those with a suffix); or itself.

    Raises:
      UserError: none of them is there.
    """
    found: list[str] = []
    for name in _unbraced(path):
        if any(character in name for character in "*?["):
            found += sorted(_glob(name))
        elif names := [one for one in files.listing(name) if one.endswith(suffixes)]:
            found += [os.path.join(name, one) for one in names]
        else:
            found.append(name)
    missing = [name for name in found if not _is_file(name)]
    if missing or not found:
        name = missing[0] if missing else path
        what = f"{' or '.join(suffixes)} in" if files.epath.Path(name).is_dir() else "file"
        raise UserError(f"there is no {what} {name}: correct data.source.")
    return found


def _unbraced(path: str) -> Iterable[str]:
    match = _BRACES.search(path)
    if not match:
        yield path
        return
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        yield from _unbraced(f"{path[: match.start()]}{number:0{len(first)}d}{path[match.end() :]}")


def _glob(pattern: str) -> list[str]:
    if not files.is_remote(pattern):
        return glob.glob(pattern, recursive=True)
    folder, _, name = pattern.rpartition("/")
    return [os.fspath(path) for path in files.epath.Path(folder).glob(name)]


def _is_file(path: str) -> bool:
    return files.epath.Path(path).exists() and not files.epath.Path(path).is_dir()


def _place(key: str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
