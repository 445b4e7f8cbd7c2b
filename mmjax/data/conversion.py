"""Converting any data set to a built one: record files that are read at random, and a manifest.

Every record is checked on the way: its schema, its text, and each of its pictures by decoding it. What is
wrong is left out, counted by kind in the manifest and named in `problems.jsonl`. The result does not depend
on the number of workers.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from PIL import Image

import mmjax
from mmjax.data import decode as decoding
from mmjax.data import records
from mmjax.data.records import AnyRecord, BadRecord
from mmjax.data.sources.access import Source
from mmjax.data.sources.dataset import Dataset, open_dataset, parsed
from mmjax.data.worlds import world
from mmjax.errors import UserError

PROBLEMS = "problems.jsonl"
LEFT_OUT = "left_out"  # of the facts of a document: pictures that it lacks
CHUNK = 16  # records a worker takes at a time
LOSSLESS = ("PNG", "GIF", "BMP")

T, R = TypeVar("T"), TypeVar("R")


class Prepared(NamedTuple):
    """A record on its way: `data` is None where it is left out; problems are (id, kind, message)."""

    id: str
    data: bytes | None
    problems: tuple[tuple[str, str, str], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
    """What is done to each record.

    Attributes:
      image_size: pictures whose shorter side is longer are scaled down to it, in pixels; 0 for none.
      quality: of the JPEG a picture that was scaled is stored as; one that was lossless stays so (PNG).
    """

    image_size: int = 0
    quality: int = 92

    def __post_init__(self):
        if self.image_size < 0 or not 1 <= self.quality <= 100:
            raise UserError(
                f"--image-size is {self.image_size} and --quality {self.quality}: use a size of 0 or more "
                "pixels and a quality from 1 to 100."
            )

    def __call__(self, source: Source, index: int) -> Prepared:
        """Reads, checks and scales a record; never raises `BadRecord`."""
        id = f"number {index}"
        try:
            data = source[index]
            record = records.decode(data)
            id = record.id
            scaled = self._pictures(record)
        except BadRecord as bad:
            return Prepared(bad.id or id, None, ((bad.id or id, bad.kind, bad.message),))
        lost = tuple((id, "picture left out", told) for told in record.facts.get(LEFT_OUT, ()))
        return Prepared(id, data if scaled is record else scaled.encode(), lost)

    def _pictures(self, record: AnyRecord) -> AnyRecord:
        """The record with its pictures scaled; itself where none had to be."""
        before = records.pictures(record)
        after = tuple(self._picture(picture) for picture in before)
        return record if after == before else with_pictures(record, after)

    def _picture(self, data: bytes) -> bytes:
        decoded = decoding.decode_nearly(decoding.opened(data, self._enough))
        if not self.image_size or min(decoding.size_of(data)) <= self.image_size:
            return data
        image = decoded if isinstance(decoded, Image.Image) else Image.fromarray(decoded)
        target = self._enough(image.size)
        scaled = image.resize(target, Image.Resampling.BICUBIC, reducing_gap=3.0)
        file = io.BytesIO()
        with Image.open(io.BytesIO(data), formats=decoding.FORMATS) as image:
            lossless = image.format in LOSSLESS
        scaled.save(file, "PNG") if lossless else scaled.save(file, "JPEG", quality=self.quality)
        return file.getvalue()

    def _enough(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size that a picture of `size` is scaled to."""
        shorter = min(size)
        if not self.image_size or shorter <= self.image_size:
            return size
        width, height = (max(1, round(side * self.image_size / shorter)) for side in size)
        return width, height


def with_pictures(record: AnyRecord, pictures: Sequence[bytes]) -> AnyRecord:
    """The record with other pictures, as many as it has."""
    if isinstance(record, records.Document):
        left = iter(pictures)
        parts = tuple(next(left) if isinstance(part, bytes) else part for part in record.parts)
        return dataclasses.replace(record, parts=parts)
    if isinstance(record, records.Record):
        return dataclasses.replace(record, image=pictures[0])
    field = "frames" if isinstance(record, records.Video) else "images"
    return dataclasses.replace(record, **{field: tuple(pictures)})


def convert(
    spec: str,
    directory: str | os.PathLike,
    *,
    preparation: Preparation = Preparation(),
    workers: int = 0,
    limit: int | None = None,
    shard_megabytes: int = 1024,
    max_bad_share: float = 0.1,
    replace: bool = False,
    progress: Callable[[str, Iterable[T], int], Iterable[T]] = lambda split, items, total: items,
) -> world.World:
    """Converts what `open_dataset(spec)` opens.

    Args:
      directory: where the result goes; written in one move.
      workers: threads; 0 for one per core. Decoding and reading release Python's lock.
      limit: only the first so many records of each split.
      shard_megabytes: a record file that has grown to this is followed by another.
      max_bad_share: it stops when more of a split is bad.
      replace: build anew where there is a data set already.
      progress: wraps the records of a split, given its name and their number.

    Raises:
      UserError: nothing to convert, too much of it is bad, or the directory is in the way.
    """
    dataset = open_dataset(spec)
    _is_free(directory, replace)
    problems: dict[str, list[tuple[str, str, str]]] = {}
    with world.replacing(directory, replace=replace) as partial:
        splits = {}
        for split in dataset.splits:
            source, bad = dataset.source(split), problems.setdefault(split, [])
            count = min(len(source), limit or len(source))
            prepared = progress(split, _in_order(source, preparation, count, workers), count)
            good = _good(prepared, bad, split, max_bad_share * count)
            splits[split] = write_shards(partial, split, good, shard_megabytes << 20)
        write_problems(partial, problems)
        world.write_manifest(partial, manifest(spec, dataset, preparation, splits, problems))
    return world.World.open(Path(directory).absolute())


def write_shards(directory: Path, split: str, good: Iterator[bytes], size: int) -> dict[str, Any]:
    """Writes the record files of a split, returns its entry in the manifest; UserError where it is empty."""
    files: list[dict[str, Any]] = []
    for first in good:
        path = directory / f"{split}-{len(files):05d}.arrayrecord"
        files.append(world.write_records(path, _until(first, good, size)))
    if not files:
        raise UserError(f"no record of split {split!r} can be used: run `mmjax data inspect` to see why.")
    if len(files) == 1:
        only = directory / f"{split}.arrayrecord"
        os.rename(directory / files[0]["file"], only)
        files[0]["file"] = only.name
    return world.joined(files)


def manifest(
    spec: str,
    dataset: Dataset,
    preparation: Preparation,
    splits: Mapping[str, Any],
    problems: Mapping[str, Sequence[tuple[str, str, str]]],
) -> dict[str, Any]:
    """What the manifest says: settings, provenance, splits, and the problems by kind."""
    kind, path, options = parsed(spec)
    known = getattr(dataset, "manifest", {})
    inherited = {name: known[name] for name in ("licence", "attribution") if name in known}
    name = os.path.basename(os.path.normpath(path))
    source = {"kind": kind, "name": name, "options": options} if kind or options else {"name": name}
    return {
        **inherited,
        "source": source,
        **dataclasses.asdict(preparation),
        "versions": {"mmjax": mmjax.__version__},
        "splits": dict(splits),
        "problems": {
            split: dict(collections.Counter(kind for _, kind, _ in bad).most_common())
            for split, bad in problems.items()
        },
    }


def write_problems(directory: Path, problems: Mapping[str, Sequence[tuple[str, str, str]]]) -> None:
    """Writes every problem as a line of JSON."""
    lines = (
        json.dumps({"split": split, "id": id, "kind": kind, "message": message})
        for split, bad in problems.items()
        for id, kind, message in bad
    )
    (directory / PROBLEMS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def verify(directory: str | os.PathLike) -> tuple[list[str], list[str]]:
    """Hashes the files of a built data set anew.

    Returns:
      The files that are as the manifest says, and a sentence on each that is not.

    Raises:
      UserError: there is no built data set.
    """
    opened = world.World.open(directory)
    right, wrong = [], []
    listed = set()
    for split in opened.splits:
        for path, entry in zip(opened.paths(split), opened.files(split), strict=True):
            listed.add(entry["file"])
            told = _difference(path, entry)
            (wrong if told else right).append(f"{entry['file']} {told}" if told else entry["file"])
    for path in sorted(Path(directory).glob("*.arrayrecord")):
        if path.name not in listed:
            wrong.append(f"{path.name} is not in the manifest")
    return right, wrong


def in_order(function: Callable[[T], R], items: Iterable[T], *, workers: int, ahead: int = 4) -> Iterator[R]:
    """`map(function, items)` by threads, in order, at most `ahead` results per worker held back."""
    workers = workers or os.cpu_count() or 1
    waiting: collections.deque[Future[R]] = collections.deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= ahead * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _in_order(source: Source, prepare: Preparation, count: int, workers: int) -> Iterator[Prepared]:
    def chunk(start: int) -> list[Prepared]:
        return [prepare(source, index) for index in range(start, min(start + CHUNK, count))]

    return itertools.chain.from_iterable(in_order(chunk, range(0, count, CHUNK), workers=workers))


def _good(
    prepared: Iterable[Prepared], problems: list[tuple[str, str, str]], split: str, allowed: float
) -> Iterator[bytes]:
    seen: set[str] = set()
    bad = 0
    for one in prepared:
        problems += one.problems
        if one.data is not None and one.id in seen:
            problems.append((one.id, "repeated id", "an earlier record has the same id"))
        elif one.data is not None:
            seen.add(one.id)
            yield one.data
            continue
        bad += 1
        if bad > allowed:
            kinds = collections.Counter(kind for _, kind, _ in problems).most_common(3)
            told = ", ".join(f"{kind}: {count}" for kind, count in kinds)
            id, _, message = problems[0]
            raise UserError(
                f"more of split {split!r} is bad than --max-bad-share allows ({told}; such as record {id}: "
                f"{message}): mend it or raise the share."
            )


def _until(first: bytes, rest: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Records up to a number of bytes; what is left stays in `rest`."""
    written = len(first)
    yield first
    while written < size and (data := next(rest, None)) is not None:
        written += len(data)
        yield data


def _difference(path: str, entry: Mapping[str, Any]) -> str:
    if not os.path.isfile(path):
        return "is missing"
    size = os.path.getsize(path)
    if "bytes" in entry and size != entry["bytes"]:
        return f"has {size} bytes, the manifest says {entry['bytes']}"
    return "" if world.sha256(path) == entry["sha256"] else "differs from its SHA-256 in the manifest"


def _is_free(directory: str | os.PathLike, replace: bool) -> None:
    path = Path(directory)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / world.MANIFEST).is_file():
        raise UserError(
            f"{os.fspath(directory)} is not empty and holds no data set: choose another directory."
        )
    if not replace:
        raise UserError(f"{os.fspath(directory)} holds a data set: choose another one or pass --force.")
