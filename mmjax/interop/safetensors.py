"""safetensors files, read and written one tensor at a time.

A file is a little-endian u64 length, a JSON header {name: {dtype, shape, data_offsets}} of that length, and
the data. A directory holds one such file, or several and `<stem>.safetensors.index.json`, which says which
tensor is where. Files are read and not mapped: mapped pages would count as this process's memory. Pickles
(.bin, .pt) are refused, since reading one runs whatever code it holds.
"""

import dataclasses
import json
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mmjax.errors import UserError

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
SUFFIX, INDEX = ".safetensors", ".safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_PICKLED = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # torch's zip, bare pickles
_COMPARED = 1 << 24  # bytes
_LARGEST_HEADER = 100_000_000  # what the reference reader allows

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where one tensor is: bytes `start` to `start + size` of the file."""

    file: Path
    start: int
    dtype: np.dtype
    shape: Shape

    @property
    def size(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    def read(self) -> np.ndarray:
        """The whole tensor."""
        return np.fromfile(self.file, self.dtype, math.prod(self.shape), offset=self.start).reshape(
            self.shape
        )


def equal(one: Entry, other: Entry) -> bool:
    """Whether two tensors hold the same bytes; compares a little at a time."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    for start in range(0, one.size, _COMPARED):
        count = min(_COMPARED, one.size - start)
        pieces = [np.fromfile(e.file, np.uint8, count, offset=e.start + start) for e in (one, other)]
        if not np.array_equal(*pieces):
            return False
    return True


def open_directory(directory: Path) -> dict[str, Entry]:
    """The tensors of all safetensors files of a directory; reads the headers alone.

    Raises:
      UserError: no weights, a pickle, a truncated or damaged file, an index that does not fit; names the file
        and where it can the tensor.
    """
    indices = sorted(directory.glob("*" + INDEX))
    if len(indices) > 1:
        raise UserError(f"{directory} has several {INDEX} files: leave one.")
    if not indices:
        files = sorted(directory.glob("*" + SUFFIX))
        _require_one(directory, files)
        return read_header(files[0])
    try:
        where = dict(json.loads(indices[0].read_bytes())["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{indices[0]} is not an index of safetensors files: download it again.") from error
    entries = {}
    for name in sorted(set(where.values())):
        if Path(name).name != name:
            raise UserError(f"{indices[0]} names {name!r}, which is no file beside it: download it again.")
        entries |= read_header(directory / name)
    for tensor, name in where.items():
        if tensor not in entries:
            raise UserError(f"{directory / name} lacks {tensor}, which {indices[0].name} places there.")
    return entries


def _require_one(directory: Path, files: list[Path]) -> None:
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:3])
        raise UserError(
            f"{directory} has several weight files ({names}) and no {INDEX}: add it, or leave one."
        )
    if not files:
        pickles = sorted(p.name for p in directory.iterdir() if p.suffix in PICKLES)
        if pickles:
            raise pickle_error(directory / pickles[0])
        raise UserError(f"{directory} holds no .safetensors file: give a directory with weights.")


def pickle_error(file: Path) -> UserError:
    """What is told of a pickle."""
    return UserError(
        f"{file} is a pickle, which can run code when it is read: give the weights as safetensors."
    )


def read_header(file: Path) -> dict[str, Entry]:
    """The tensors of one file; checks that all their bytes are there.

    Raises:
      UserError: as `open_directory`.
    """
    try:
        with file.open("rb") as stream:
            first, length = stream.read(8), file.stat().st_size
            size = struct.unpack("<Q", first)[0] if len(first) == 8 else length
            if size > min(_LARGEST_HEADER, length - 8):
                if first.startswith(_PICKLED):  # read as a length, these bytes are beyond any file
                    raise pickle_error(file)
                raise UserError(f"{file} is truncated or no safetensors file: its header is not complete.")
            header = json.loads(stream.read(size))
        header.pop("__metadata__", None)
        entries = {name: _entry(file, name, fields, 8 + size) for name, fields in header.items()}
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): check the path.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} has a damaged header ({error}): download it again.") from error
    for name, entry in entries.items():
        if entry.start + entry.size > length:
            raise UserError(f"{file} is truncated: the data of {name} end past the file; download it again.")
    return entries


def _entry(file: Path, name: str, fields: Mapping[str, Any], base: int) -> Entry:
    start, end = fields["data_offsets"]
    if fields["dtype"] not in DTYPES:
        raise UserError(f"{file}: {name} is of type {fields['dtype']}, not one of {', '.join(DTYPES)}.")
    entry = Entry(file, base + start, DTYPES[fields["dtype"]], tuple(fields["shape"]))
    if start < 0 or min(entry.shape, default=0) < 0 or end - start != entry.size:
        raise UserError(f"{file}: the bytes of {name} do not fit its type and shape; download it again.")
    return entry


class Writer:
    """A directory of safetensors files whose tensors are filled in one by one, in any order.

    Tensors go into shards by name, in the order of their types and names that the reference writer has too.

    Attributes:
      entries: where each tensor is.
    """

    def __init__(
        self,
        directory: Path,
        tensors: Mapping[str, tuple[np.dtype, Shape]],
        *,
        stem: str,
        shard_bytes: int = 10**18,
    ):
        self.entries: dict[str, Entry] = {}
        sizes = {name: dtype.itemsize * math.prod(shape) for name, (dtype, shape) in tensors.items()}
        shards = list(_shards(sizes, shard_bytes))
        for number, names in enumerate(shards, start=1):
            part = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
            file = directory / f"{stem}{part}{SUFFIX}"
            self.entries |= _allocate(file, {name: tensors[name] for name in names})
        if len(shards) > 1:
            where = {name: entry.file.name for name, entry in sorted(self.entries.items())}
            index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": where}
            (directory / (stem + INDEX)).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    @contextmanager
    def open(self, name: str) -> Iterator[np.ndarray]:
        """The tensor's place in its file, to write to."""
        entry = self.entries[name]
        if not entry.size:
            yield np.empty(entry.shape, entry.dtype)
            return
        window = np.memmap(entry.file, np.uint8, "r+", offset=entry.start, shape=(entry.size,))
        yield np.ndarray(entry.shape, entry.dtype, buffer=window)
        window.flush()


def _shards(sizes: Mapping[str, int], largest: int) -> Iterator[list[str]]:
    shard: list[str] = []
    room = largest
    for name in sorted(sizes):
        if shard and sizes[name] > room:
            yield shard
            shard, room = [], largest
        shard.append(name)
        room -= sizes[name]
    yield shard


def _allocate(file: Path, tensors: Mapping[str, tuple[np.dtype, Shape]]) -> dict[str, Entry]:
    """Writes the header and makes room for the data."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers refuses files without it
    end = 0
    for name in sorted(tensors, key=lambda name: (-tensors[name][0].itemsize, name)):
        dtype, shape = tensors[name]
        start, end = end, end + dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + end)
    return read_header(file)
