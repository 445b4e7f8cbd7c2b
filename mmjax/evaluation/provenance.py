"""What a figure rests on: which records, how many, and the hash of their bytes."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmjax.data.sources import Dataset
from mmjax.data.worlds.world import sha256
from mmjax.errors import UserError


def split(dataset: Dataset, name: str) -> dict[str, Any]:
    """{split, count, sha256} of a split; of a built one, the hash that building it again gives.

    Raises:
      UserError: the data set has no such split.
    """
    return {"split": name, **dataset.provenance(name)}


def files(evaluator: Any) -> dict[str, Mapping[str, Any]]:
    """{file name: {count, sha256}} of what an evaluator reads beside the split: its `sources` and shots."""
    shots = getattr(evaluator, "shots", None)
    shown = (shots.examples, shots.images) if shots else ()
    paths = [Path(path) for path in (*getattr(evaluator, "sources", ()), *shown) if path]
    return {path.name: {"count": len(_members(path)), "sha256": digest(path)} for path in paths}


def digest(path: str | Path) -> str:
    """The SHA-256 of a file; of a directory, that of the relative names and hashes of all its files.

    Raises:
      UserError: there is nothing at `path`.
    """
    path, members = Path(path), _members(Path(path))
    if path.is_file():
        return sha256(path)
    lines = (f"{sha256(member)}  {member.relative_to(path).as_posix()}\n" for member in members)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _members(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"there is nothing at {path}: correct the path in the evaluator's config.")
    return sorted(member for member in path.rglob("*") if member.is_file())
