"""A world: a directory of ArrayRecord files, one or more per split, described by `manifest.json`.

It is the form every data set takes once it is built. A manifest holds no time and no path, so that building a
world twice gives equal bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from array_record.python import array_record_module
from etils import epath

from mmjax.data.sources.access import Chain, Source
from mmjax.data.sources.array_record import open_array_record
from mmjax.data.sources.splits import chosen
from mmjax.errors import UserError

MANIFEST = "manifest.json"


class Encodable(Protocol):
    """A record of any kind, see `mmjax.data.records`."""

    def encode(self) -> bytes: ...


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
            for split, entry in manifest["splits"].items():
                if not all("file" in file and "count" in file for file in _files(entry)):
                    raise TypeError(f"split {split!r} names no files with their counts")
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

    def files(self, split: str) -> list[Mapping[str, Any]]:
        """{file, count, sha256} of each record file of a split; UserError if there is no such split."""
        split = chosen(f"the world {self.directory}", self.splits, split)
        return _files(self.manifest["splits"][split])

    def paths(self, split: str) -> list[str]:
        """The record files of a split; UserError if the world has no such split."""
        return [os.fspath(epath.Path(self.directory) / entry["file"]) for entry in self.files(split)]

    def path(self, split: str) -> str:
        """The first record file of a split, its only one in a small world."""
        return self.paths(split)[0]

    def provenance(self, split: str) -> dict[str, Any]:
        """{count, sha256} of a split: the hash that building the world again gives."""
        split = chosen(f"the world {self.directory}", self.splits, split)
        entry = self.manifest["splits"][split]
        return {"count": entry["count"], "sha256": entry.get("sha256")}

    def source(self, split: str) -> Source:
        """The records of a split; UserError if it is missing, damaged or not as long as the manifest says."""
        sources = []
        for path, entry in zip(self.paths(split), self.files(split), strict=True):
            source = open_array_record(path)
            if len(source) != entry["count"]:
                raise UserError(
                    f"{path} holds {len(source)} records but its manifest says {entry['count']}: "
                    "build the world again."
                )
            sources.append(source)
        return sources[0] if len(sources) == 1 else Chain(sources)


def claims(path: str) -> bool:
    """Whether `path` holds a world."""
    return (epath.Path(path) / MANIFEST).exists()


def open_path(path: str) -> World:
    """`World.open`, for `open_dataset`."""
    return World.open(path)


def write(
    directory: str | os.PathLike,
    splits: Mapping[str, Iterable[Encodable]],
    facts: Mapping[str, Any],
    *,
    replace: bool = False,
) -> World:
    """Writes a world in one move: `directory` is either the finished world or as it was before.

    Args:
      directory: must not exist, be empty or, with `replace`, hold a world.
      splits: the records of each split, in order, of any kind.
      facts: what else the manifest should say.

    Raises:
      UserError: the directory cannot be written.
    """
    with replacing(directory, replace=replace) as partial:
        written = {}
        for split, records in splits.items():
            data = (record.encode() for record in records)
            written[split] = write_records(partial / f"{split}.arrayrecord", data)
        write_manifest(partial, {**facts, "splits": written})
    return World.open(Path(directory).absolute())


@contextlib.contextmanager
def replacing(directory: str | os.PathLike, *, replace: bool = False) -> Iterator[Path]:
    """A new directory that takes the place of `directory` when the block ends, or never if it fails.

    Raises:
      UserError: the directory cannot be written.
    """
    target = Path(directory).absolute()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    former = target.with_name(f".{target.name}.{os.getpid()}.former")
    try:
        partial.mkdir(parents=True)
        yield partial
        if replace and target.exists():
            os.rename(target, former)
        os.rename(partial, target)
    except OSError as error:
        raise UserError(f"the world cannot be written to {target} ({error.strerror}).") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def write_records(path: Path, records: Iterable[bytes]) -> dict[str, Any]:
    """Writes one record file and returns what the manifest says of it: {file, count, bytes, sha256}."""
    # Pictures are compressed already; a group of one makes random reads 60 times faster.
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    count = 0
    for record in records:
        writer.write(record)
        count += 1
    writer.close()
    return {"file": path.name, "count": count, "bytes": path.stat().st_size, "sha256": sha256(path)}


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Writes `manifest.json`, the last file of a world."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (directory / MANIFEST).write_text(text, encoding="utf-8", errors="backslashreplace")


def joined(files: list[dict[str, Any]]) -> dict[str, Any]:
    """The manifest's entry of a split of several files; its hash is that of the hashes of its files."""
    if len(files) == 1:
        return files[0]
    digest = hashlib.sha256("".join(file["sha256"] for file in files).encode()).hexdigest()
    return {"files": files, "count": sum(file["count"] for file in files), "sha256": digest}


def sha256(path: str | os.PathLike) -> str:
    """The hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return entry.get("files", [entry])
