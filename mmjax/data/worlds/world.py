"""A world: a directory of ArrayRecord files, one per split, and `manifest.json`, which describes them.

A manifest holds no time and no path, so that building a world twice gives equal bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from array_record.python import array_record_module
from etils import epath

from mmjax.data.records import Record
from mmjax.data.sources import Source, open_array_record
from mmjax.errors import UserError

MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class World:
    """A finished world on disk."""

    directory: str
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, directory: str | os.PathLike) -> World:
        """Reads the manifest.

        Raises:
          UserError: there is no world in `directory`.
        """
        path = epath.Path(directory) / MANIFEST
        try:
            manifest = json.loads(path.read_text())
            if not isinstance(manifest["splits"], dict):
                raise TypeError("`splits` is not a map")
        except FileNotFoundError as error:
            raise UserError(
                f"there is no world in {os.fspath(directory)}: run `mmjax data build openmoji --output "
                f"{os.fspath(directory)}` or correct data.source."
            ) from error
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(f"{path} is not a readable manifest ({error}): build the world again.") from error
        return cls(os.fspath(directory), manifest)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.manifest["splits"])

    def path(self, split: str) -> str:
        """The record file of a split; UserError if the world has no such split."""
        if split not in self.manifest["splits"]:
            raise UserError(
                f"the world {self.directory} has no split {split!r}: use {', '.join(self.splits)}."
            )
        return os.fspath(epath.Path(self.directory) / self.manifest["splits"][split]["file"])

    def source(self, split: str) -> Source:
        """The records of a split; UserError if it is missing, damaged or not as long as the manifest says."""
        source = open_array_record(self.path(split))
        expected = self.manifest["splits"][split]["count"]
        if len(source) != expected:
            raise UserError(
                f"{self.path(split)} holds {len(source)} records but its manifest says {expected}: "
                "build the world again."
            )
        return source


def write(
    directory: str | os.PathLike,
    splits: Mapping[str, Iterable[Record]],
    facts: Mapping[str, Any],
    *,
    replace: bool = False,
) -> World:
    """Writes a world in one move: `directory` is either the finished world or as it was before.

    Args:
      directory: must not exist, be empty or, with `replace`, hold a world.
      splits: the records of each split, in order.
      facts: what else the manifest should say.

    Raises:
      UserError: the directory cannot be written.
    """
    target = Path(directory).absolute()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    former = target.with_name(f".{target.name}.{os.getpid()}.former")
    try:
        partial.mkdir(parents=True)
        written = {split: _write_split(partial / f"{split}.arrayrecord", r) for split, r in splits.items()}
        manifest = json.dumps({**facts, "splits": written}, indent=2, ensure_ascii=False)
        (partial / MANIFEST).write_text(manifest + "\n", encoding="utf-8")
        if replace and target.exists():
            os.rename(target, former)
        os.rename(partial, target)
    except OSError as error:
        raise UserError(f"the world cannot be written to {target} ({error.strerror}).") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)
    return World.open(target)


def sha256(path: str | os.PathLike) -> str:
    """The hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_split(path: Path, records: Iterable[Record]) -> dict[str, Any]:
    # Pictures are compressed already; a group of one makes random reads 60 times faster.
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    count = 0
    for record in records:
        writer.write(record.encode())
        count += 1
    writer.close()
    return {"file": path.name, "count": count, "sha256": sha256(path)}
