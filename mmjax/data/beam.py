"""The conversion of `mmjax.data.conversion` as an Apache Beam pipeline (extra `beam`), on many machines.

Each element is a range of records of a split, which one worker reads, checks and writes as one record file; a
range that a worker loses is written again, to the same bytes. Sources and output must be reachable from every
worker (`gs://`, or a shared disk).
"""

from __future__ import annotations

import collections
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath

from mmjax.data import conversion
from mmjax.data.conversion import Preparation
from mmjax.data.sources.dataset import Dataset, open_dataset
from mmjax.data.worlds import world
from mmjax.errors import UserError

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError as error:
    raise UserError(f"--beam needs the package `{error.name}`: run `pip install 'mmjax[beam]'`.") from error

RECORDS_PER_FILE = 10_000


class Range(NamedTuple):
    """Records `start` to `stop` of a split, its part number `part` of `parts`."""

    split: str
    part: int
    parts: int
    start: int
    stop: int

    @property
    def file(self) -> str:
        """The name of its record file."""
        return f"{self.split}-{self.part:05d}-of-{self.parts:05d}.arrayrecord"


class WriteRange(beam.DoFn):
    """Range -> (split, part, entry of the manifest or None, ids, problems)."""

    def __init__(self, spec: str, directory: str, preparation: Preparation):
        self._spec, self._directory, self._preparation = spec, directory, preparation
        self._dataset: Dataset | None = None

    def setup(self) -> None:
        """Opens the data set, once per worker."""
        self._dataset = open_dataset(self._spec)

    def process(self, part: Range) -> Iterator[tuple[str, int, Any, list[str], list[Any]]]:
        """Reads, checks and writes one range."""
        source = self._dataset.source(part.split)
        prepared = [self._preparation(source, index) for index in range(part.start, part.stop)]
        problems = [problem for one in prepared for problem in one.problems]
        good: dict[str, bytes] = {}
        for one in prepared:
            if one.data is not None and one.id in good:
                problems.append((one.id, "repeated id", "an earlier record has the same id"))
            elif one.data is not None:
                good[one.id] = one.data
        entry = _write(epath.Path(self._directory), part.file, good.values()) if good else None
        yield part.split, part.part, entry, list(good), problems


def convert(
    spec: str,
    directory: str | os.PathLike,
    *,
    preparation: Preparation = Preparation(),
    options: Sequence[str] = (),
    limit: int | None = None,
    max_bad_share: float = 0.1,
    replace: bool = False,
    records_per_file: int = RECORDS_PER_FILE,
) -> world.World:
    """As `conversion.convert`, by Beam. The manifest comes last: without one, an output is not finished.

    Args:
      options: of the pipeline, as on a Beam command line (`--runner=DataflowRunner`, ...).
      records_per_file: records of one range.

    Raises:
      UserError: nothing to convert, too much of it is bad, or the directory is in the way.
    """
    output = epath.Path(directory)
    if (output / world.MANIFEST).exists() and not replace:
        raise UserError(f"{output} holds a data set: choose another directory or pass --force.")
    output.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(spec)
    ranges = [part for split in dataset.splits for part in _ranges(dataset, split, limit, records_per_file)]
    with tempfile.TemporaryDirectory() as scratch:
        # The sums of a pipeline come back to the one who started it through a file: runners return nothing.
        results = str(output / ".parts") if "://" in str(output) else os.path.join(scratch, "parts")
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            written = (
                pipeline
                | "Ranges" >> beam.Create(ranges)
                | "Spread" >> beam.Reshuffle()
                | "Write" >> beam.ParDo(WriteRange(spec, os.fspath(output), preparation))
            )
            _ = (
                written
                | "Ids" >> beam.FlatMap(lambda one: [((one[0], id), 1) for id in one[3]])
                | "Count" >> beam.CombinePerKey(sum)
                | "Repeated" >> beam.Filter(lambda one: one[1] > 1)
                | "Tell" >> beam.Map(lambda one: _line("repeated", *one[0], one[1]))
                | "SaveRepeated" >> beam.io.WriteToText(f"{results}-repeated", num_shards=1)
            )
            _ = (
                written
                | "Sums" >> beam.Map(lambda one: _line("part", one[0], one[1], one[2], one[4]))
                | "SaveSums" >> beam.io.WriteToText(f"{results}-sums", num_shards=1)
            )
        lines = [json_line for path in _results(results) for json_line in path.read_text().splitlines()]
        for path in _results(results):
            path.unlink()
    return _finished(spec, dataset, output, preparation, lines, ranges, max_bad_share)


def _ranges(dataset: Dataset, split: str, limit: int | None, size: int) -> Iterator[Range]:
    source = dataset.source(split)
    count = min(len(source), limit or len(source))
    parts = -(-count // size)
    for part in range(parts):
        yield Range(split, part, parts, part * size, min((part + 1) * size, count))


def _write(output: epath.Path, name: str, data: Iterable[bytes]) -> dict[str, Any]:
    """Writes a record file beside its place, or on the worker's disk for a bucket, and moves it there."""
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / name
        entry = world.write_records(local, data)
        partial = output / f".{name}.{os.getpid()}.partial"
        epath.Path(local).copy(partial, overwrite=True)
        partial.rename(output / name)
    return entry


def _finished(
    spec: str,
    dataset: Dataset,
    output: epath.Path,
    preparation: Preparation,
    lines: Iterable[str],
    ranges: Sequence[Range],
    max_bad_share: float,
) -> world.World:
    problems: dict[str, list[tuple[str, str, str]]] = {split: [] for split in dataset.splits}
    files: dict[str, dict[int, Any]] = collections.defaultdict(dict)
    for line in lines:
        what, split, *rest = json.loads(line)
        if what == "repeated":
            id, times = rest
            problems[split].append((id, "repeated id", f"{times} record files hold it"))
        else:
            part, entry, bad = rest
            problems[split] += map(tuple, bad)
            if entry:
                files[split][part] = entry
    for split, bad in problems.items():
        total = sum(part.stop - part.start for part in ranges if part.split == split)
        if len(bad) > max_bad_share * total or not files[split]:
            raise UserError(
                f"{len(bad)} of {total} records of split {split!r} are bad, more than --max-bad-share allows "
                f"(such as {bad[0] if bad else 'none'}): mend them or raise the share."
            )
    splits = {
        split: world.joined([entry for _, entry in sorted(parts.items())]) for split, parts in files.items()
    }
    told = conversion.manifest(spec, dataset, preparation, splits, problems)
    with tempfile.TemporaryDirectory() as scratch:
        conversion.write_problems(Path(scratch), problems)
        world.write_manifest(Path(scratch), told)
        for name in (conversion.PROBLEMS, world.MANIFEST):
            epath.Path(os.path.join(scratch, name)).copy(output / name, overwrite=True)
    return world.World.open(output)


def _results(prefix: str) -> list[epath.Path]:
    path = epath.Path(prefix)
    return sorted(path.parent.glob(f"{path.name}-*"))


def _line(*values: Any) -> str:
    return json.dumps(values)
