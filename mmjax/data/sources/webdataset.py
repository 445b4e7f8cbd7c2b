"""WebDataset: tar files whose members `key.jpg`, `key.txt`, `key.json` make one sample, by random access.

The headers of each tar are read once; where its samples lie is kept beside it (`shard.tar.index`, or in the
cache directory where that may not be written) and read anew when the tar's size or time of change differs.
A sample is a run of neighbouring members of one key, the member's name up to the first dot of its last part.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import msgpack

from mmjax.data.records import BadRecord, Record
from mmjax.data.sources import files
from mmjax.data.sources.access import Chain, Rows, Source
from mmjax.data.sources.splits import HELD_OUT_SHARE, Splits, by_split_name, expanded, held_out
from mmjax.data.sources.tar import DamagedTar, members

SUFFIX = ".tar"
INDEX_VERSION = 1
PICTURES = tuple(suffix[1:] for suffix in files.PICTURES)
TEXTS = ("txt", "caption", "text", "cls")
CAPTION_KEYS = ("caption", "text", "title", "alt")  # of a json member


@dataclasses.dataclass(frozen=True)
class Sample:
    """A key and where its parts lie: extension -> (offset, size)."""

    key: str
    parts: dict[str, tuple[int, int]]


def claims(path: str) -> bool:
    """Whether `path` names tar files."""
    return path.endswith(SUFFIX) or any(name.endswith(SUFFIX) for name in files.listing(path))


def open_path(
    path: str,
    *,
    image: str = "",
    caption: str = "",
    split: str = "",
    held_out_share: float = HELD_OUT_SHARE,
) -> Splits:
    """Opens one tar, braces, a glob or a folder of tars.

    Args:
      image: extension of the pictures; "" for the first known one of a sample.
      caption: extension of the texts, or the key of the json member that holds the text; "" to look for it.
      split: a name for all of it; "" for those of the files, or else some shards' worth held out by key.
      held_out_share: what share to hold out where the files name no split.
    """
    paths = expanded(path, SUFFIX)
    groups = {split: paths} if split else by_split_name(paths)
    if list(groups) != ["train"] or split:
        opened = {
            name: lambda members=members: Chain([_source(one, index(one), image, caption) for one in members])
            for name, members in groups.items()
        }
        return Splits(path, opened)
    places = [(one, sample) for one in paths for sample in index(one)]
    divided = held_out(places, held_out_share, lambda place: _id(place[0], place[1]))
    return Splits(
        path, {name: lambda rows=rows: _rows(rows, image, caption) for name, rows in divided.items()}
    )


def index(path: str) -> list[Sample | BadRecord]:
    """The samples of a tar in order, and in their places what is wrong with it.

    Raises:
      UserError: the file cannot be read.
    """
    length, changed = files.stamp(path)
    stamp = {"version": INDEX_VERSION, "bytes": length, "changed": changed}
    for file in _index_files(path):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, msgpack.UnpackException):
            kept = msgpack.unpackb(Path(file).read_bytes(), unicode_errors="surrogatepass")
            if {name: kept[name] for name in stamp} == stamp:
                return [_unpacked(entry) for entry in kept["samples"]]
    found = files.persistent(path, lambda: _scanned(path, length))
    entries = [_packed(sample) for sample in found]
    _keep(path, msgpack.packb({**stamp, "samples": entries}, unicode_errors="surrogatepass"))
    return found


def _scanned(path: str, length: int) -> list[Sample | BadRecord]:
    name, samples, seen = os.path.basename(path), [], set()
    try:
        with files.open_binary(path) as file:
            for member in members(file, length):
                _add(samples, seen, name, member)
    except DamagedTar as error:
        samples.append(BadRecord(name, "cut or damaged shard", str(error)))
    return samples or [BadRecord(name, "empty shard", "the tar holds no file")]


def _add(samples: list[Sample | BadRecord], seen: set[str], shard: str, member: Any) -> None:
    folder, _, file = member.name.rpartition("/")
    stem, _, extension = file.partition(".")
    key, extension = f"{folder}/{stem}" if folder else stem, extension.lower()
    if member.kind:
        samples.append(BadRecord(f"{shard}/{member.name}", member.kind, "the member is left out"))
    elif not stem or file.startswith("."):
        return  # .DS_Store, ._picture.jpg: left by file managers
    elif samples and isinstance(samples[-1], Sample) and samples[-1].key == key:
        if extension in samples[-1].parts:
            samples.append(BadRecord(f"{shard}/{key}", "duplicate key", f".{extension} comes twice"))
        else:
            samples[-1].parts[extension] = (member.offset, member.size)
    elif key in seen:
        samples.append(BadRecord(f"{shard}/{key}", "duplicate key", f"{member.name} repeats an earlier key"))
    else:
        seen.add(key)
        samples.append(Sample(key, {extension: (member.offset, member.size)}))


def _source(path: str, samples: list[Sample | BadRecord], image: str, caption: str) -> Source:
    return _rows([(path, sample) for sample in samples], image, caption)


def _rows(places: list[tuple[str, Sample | BadRecord]], image: str, caption: str) -> Source:
    rows = [one if isinstance(one, BadRecord) else (path, one) for path, one in places]

    def text(row: tuple[str, Sample]) -> str:
        return _caption(*row, caption)[0]

    def record(row: tuple[str, Sample]) -> Record:
        path, sample = row
        part = _picture(path, sample, image)
        words, facts = _caption(path, sample, caption)
        data = files.read_range(path, *sample.parts[part])
        return Record(id=_id(path, sample), image=data, caption=words, facts=facts)

    return Rows(rows, record, caption=text)


def _picture(path: str, sample: Sample, image: str) -> str:
    wanted = (image.lower().lstrip("."),) if image else PICTURES
    found = next((part for part in wanted if part in sample.parts), None)
    if found is None:
        has = ", ".join(sorted(sample.parts))
        raise BadRecord(_id(path, sample), "missing image", f"the sample has only {has}")
    return found


def _caption(path: str, sample: Sample, wanted: str) -> tuple[str, dict[str, Any]]:
    """The text of a sample, and its json member where it has one."""
    id = _id(path, sample)
    facts = _json(id, files.read_range(path, *sample.parts["json"])) if "json" in sample.parts else {}
    part = next((part for part in ((wanted,) if wanted else TEXTS) if part in sample.parts), None)
    if part is not None:
        text = files.read_range(path, *sample.parts[part]).decode("utf-8", "surrogateescape")
        return text.removeprefix("\ufeff").strip(), facts
    text = next((facts[key] for key in ((wanted,) if wanted else CAPTION_KEYS) if key in facts), None)
    if not isinstance(text, str):
        has = ", ".join(sorted([*sample.parts, *(f"json:{key}" for key in facts)]))
        raise BadRecord(id, "missing caption", f"the sample has only {has}")
    return text, facts


def _json(id: str, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRecord(id, "not JSON", f"the json member: {error}") from error
    if not isinstance(value, dict):
        raise BadRecord(id, "not a JSON object", f"the json member is {type(value).__name__}")
    return value


def _id(path: str, sample: Sample | BadRecord) -> str:
    """Unique among shards, whose writers often number their keys from zero."""
    if isinstance(sample, BadRecord):
        return sample.id
    return f"{os.path.basename(path).removesuffix(SUFFIX)}/{sample.key}"


def _packed(sample: Sample | BadRecord) -> list:
    if isinstance(sample, BadRecord):
        return [sample.id, sample.kind, sample.message]
    return [sample.key, sample.parts]


def _unpacked(entry: list) -> Sample | BadRecord:
    if len(entry) == 3:
        return BadRecord(*entry)
    key, parts = entry
    return Sample(key, {name: (offset, size) for name, (offset, size) in parts.items()})


def _index_files(path: str) -> tuple[str, str]:
    """Where an index may be: beside the tar, or in the user's cache directory."""
    digest = hashlib.sha256(os.path.abspath(path).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{path}.index", files.cache("tar", f"{digest}.index")


def _keep(path: str, data: bytes) -> None:
    """Writes an index where that is possible; a reader sees all of it or none."""
    for file in _index_files(path):
        if files.is_remote(file):
            continue
        with contextlib.suppress(OSError):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            partial = Path(f"{file}.{os.getpid()}.partial")
            partial.write_bytes(data)
            os.replace(partial, file)
            return
