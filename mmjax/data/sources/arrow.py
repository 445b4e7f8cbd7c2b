"""Columns of Arrow and Parquet files as sequences: a picture is read only when its row is asked for."""

from __future__ import annotations

import bisect
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.data.sources import files
from mmjax.errors import UserError


def pyarrow() -> Any:
    """The package, or a UserError that says how to install it."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Parquet and Arrow files need the package `pyarrow`: run `pip install 'mmjax[parquet]'`."
        ) from error
    return pyarrow


class ParquetTable:
    """One Parquet file. Text columns are read at once, columns of bytes by the row group."""

    def __init__(self, path: str):
        """Raises UserError where the file cannot be read or is cut."""
        arrow = pyarrow()
        self.path = path
        try:
            self._file = arrow.parquet.ParquetFile(files.open_binary(path), memory_map=False)
        except (OSError, arrow.ArrowException) as error:
            raise _unreadable(path, error) from error
        self.schema = self._file.schema_arrow
        groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._starts = [sum(groups[:i]) for i in range(len(groups) + 1)]
        self._lock, self._kept = threading.Lock(), (("", -1), None)

    def __len__(self) -> int:
        return self._starts[-1]

    def column(self, name: str) -> Sequence[Any]:
        """The values of a column."""
        if is_binary(self.schema.field(name).type):
            return _Lazy(len(self), lambda index: self._cell(name, index))
        return labelled(self.schema, name, self._read(lambda: self._file.read([name])[name]).to_pylist())

    def _cell(self, name: str, index: int) -> Any:
        group = bisect.bisect_right(self._starts, index) - 1
        with self._lock:  # a Parquet reader is not safe to share, and one group at a time bounds memory
            if self._kept[0] != (name, group):
                column = self._read(lambda: self._file.read_row_group(group, [name])[name])
                self._kept = (name, group), column
            return self._kept[1][index - self._starts[group]].as_py()

    def _read(self, read: Any) -> Any:
        try:
            return files.persistent(self.path, read)
        except pyarrow().ArrowException as error:
            raise _unreadable(self.path, error) from error


class ArrowTable:
    """Arrow files in the stream format, mapped into memory: random access without reading anything else."""

    def __init__(self, paths: Sequence[str]):
        """Raises UserError where a file cannot be read or is cut."""
        arrow = pyarrow()
        tables = []
        for path in paths:
            try:
                tables.append(arrow.ipc.open_stream(arrow.memory_map(files.local(path))).read_all())
            except (OSError, arrow.ArrowException) as error:
                raise _unreadable(path, error) from error
        self.path = paths[0]
        self._table = arrow.concat_tables(tables)
        self.schema = self._table.schema

    def __len__(self) -> int:
        return self._table.num_rows

    def column(self, name: str) -> Sequence[Any]:
        """The values of a column."""
        column = self._table[name]
        if is_binary(column.type):
            return _Lazy(len(self), lambda index: column[index].as_py())
        return labelled(self.schema, name, column.to_pylist())


class _Lazy:
    def __init__(self, length: int, cell: Any):
        self._length, self._cell = length, cell

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self._length:
            raise IndexError(index)
        return self._cell(index)


def is_binary(kind: Any) -> bool:
    """Whether a column holds bytes, or a Hugging Face picture {bytes, path}, rather than text."""
    types = pyarrow().types
    if types.is_struct(kind):
        return any(is_binary(kind.field(i).type) for i in range(kind.num_fields))
    return types.is_binary(kind) or types.is_large_binary(kind)


def labelled(schema: Any, name: str, values: list[Any]) -> list[Any]:
    """The values of a column, class numbers replaced by the names that Hugging Face keeps in the schema."""
    kept = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = kept.get("info", {}).get("features", {}).get(name, {})
    names = feature.get("names") if isinstance(feature, Mapping) else None
    if not names:
        return values
    named = dict(enumerate(names))
    return [named.get(value, value) for value in values]


def _unreadable(path: str, error: Exception) -> UserError:
    reason = str(error).split("\n")[0]
    return UserError(f"{path} cannot be read, it is damaged or of another format ({reason}): fetch it again.")
