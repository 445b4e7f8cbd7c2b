"""ArrayRecord files: one, or the shards of a glob such as `data/train-*.arrayrecord`, or a folder of them."""

from __future__ import annotations

import os

from array_record.python.array_record_data_source import ArrayRecordDataSource

from mmjax.data.records import BadRecord
from mmjax.data.sources import files
from mmjax.data.sources.access import Chain, Rows, Source
from mmjax.data.sources.splits import Splits, by_split_name, expanded
from mmjax.errors import UserError

SUFFIX = ".arrayrecord"


def claims(path: str) -> bool:
    """Whether `path` names ArrayRecord files."""
    return path.endswith(SUFFIX) or any(name.endswith(SUFFIX) for name in files.listing(path))


def open_path(path: str, *, split: str = "") -> Splits:
    """Opens one file, a glob or a folder; files named `train-...`, `val_...` are splits, others one split.

    Args:
      split: the name to give to all of it; "" for the names of the files, or "train".
    """
    paths = expanded(path, SUFFIX)
    groups = {split: paths} if split else by_split_name(paths)
    return Splits(
        path, {name: lambda members=members: open_shards(members) for name, members in groups.items()}
    )


def open_shards(paths: list[str]) -> Source:
    """The records of several files in order; an empty file takes the place of one bad record."""
    return _chained([_present(open_array_record(path), path) for path in paths])


def open_array_record(path: str) -> Source:
    """Opens an ArrayRecord file (written with `group_size:1`, or random reads decode whole groups).

    Raises:
      UserError: missing, damaged or not an ArrayRecord file.
    """
    try:
        source = _ArrayRecord(path)
        if len(source):
            source[0]
        return source
    except UserError:
        raise
    except Exception as error:  # the reader raises bare RuntimeErrors and ValueErrors
        raise UserError(f"record file {path} cannot be read ({error}): build its world again.") from error


class _ArrayRecord:
    """One file, whose damaged records are bad records and whose disappearance is told."""

    def __init__(self, path: str):
        self._path, self._records = path, ArrayRecordDataSource([files.local(path)])

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            return self._records[index]
        except (RuntimeError, ValueError, OSError) as error:
            if not os.path.exists(self._path) and not files.is_remote(self._path):
                files.persistent(self._path, lambda: os.stat(self._path))
                return self._records[index]
            raise BadRecord("", "damaged record", f"{self._path} number {index} ({error})") from error


def _present(source: Source, path: str) -> Source:
    if len(source):
        return source
    empty = BadRecord(os.path.basename(path), "empty shard", "the file holds no record")
    return Rows([empty], lambda row: row)


def _chained(sources: list[Source]) -> Source:
    return sources[0] if len(sources) == 1 else Chain(sources)
