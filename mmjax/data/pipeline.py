"""The training and evaluation batches of one source or several, as a pure function of (seed, step).

B global batch, L tokens, M pictures of a row, H height, W width, K documents of the fullest row. The order of
operations is the whole point: permute globally (anew every epoch), then cut each global batch into contiguous
row blocks, one per process. So 1, 2 or 16 processes see the same global batches, and any step can be reached
without reading what came before it. What packing, length buckets and mixtures change is what is permuted:
packed rows in place of records, and several permutations side by side (`packing`, `mixtures`).
"""

from __future__ import annotations

import bisect
import collections
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import grain
import numpy as np

from mmjax.data import lending, workers
from mmjax.data.config import DataConfig
from mmjax.data.layouts import blank, write_row
from mmjax.data.mixtures import Mixture, derived_seed
from mmjax.data.records import AnyRecord, BadRecord, decode
from mmjax.data.sources import caption, open_dataset
from mmjax.data.streams import Example, Stream, media_of
from mmjax.data.templates import Template
from mmjax.data.tokenizer import Tokenizer
from mmjax.errors import UserError

__all__ = ["Batch", "DataConfig", "Pipeline", "train_tokenizer"]

Batch = dict[str, np.ndarray]

ENDLESS = 2**52  # rows; Grain computes with the number of batches in floats
CYCLE = 2**16
TOGETHER = 32  # rows that are prepared stage by stage, see `Records.get_many`


class Pipeline:
    """One split, ready to batch.

    A batch is a flat dict: tokens, targets, segment, block_start, positions i32[B, L];
    image u8[B, M, H, W, 3]; image_valid bool[B, M]; index i32[B], the number of the row's (first) record;
    i32[B] of each name in `data.facts`, -1 in an empty row;
    with `data.pack` also members i32[B, K], the numbers of all its records, -1 where there are no more.
    `data.patches` and `data.tiles` have arrays of their own in place of image, see `media`.

    Records are numbered through the sources of a mixture, one after the other.

    Attributes:
      dataset: the data set of the first source.

    Raises:
      UserError: no such data or split, an empty split, packed pictures without an <image> in the template,
        a fact with the name of another array.
    """

    def __init__(self, config: DataConfig, tokenizer: Tokenizer, *, split: str | None = None):
        self.config = config
        self.tokenizer = tokenizer
        self.split = split or config.split
        self.template = Template(config.template)
        self._media = media_of(config, tokenizer)
        if taken := set(config.facts) & {"index", *blank(tokenizer, 0), *self._media.blank(0)}:
            raise UserError(f"data.facts has {min(taken)!r}, which a batch already holds: rename that fact.")
        if config.pack and config.images and not self.template.images:
            raise UserError(
                f"data.template {config.template!r} has no <image> to tell whose picture is whose in a "
                "packed row: add it, or set data.images=0."
            )
        datasets = {source: open_dataset(source) for source in dict.fromkeys(config.sources)}
        self.dataset = datasets[config.sources[0]]
        self._streams = [self._stream(source, datasets[source]) for source in config.sources]
        self._starts = _starts(len(stream.records) for stream in self._streams)

    def _stream(self, source: str, dataset) -> Stream:
        records = dataset.source(self.split)
        if not len(records):
            raise UserError(f"split {self.split!r} of {source} is empty: build the world again.")
        name = f"{source}:{self.split}"
        return Stream(records, self.config, self.tokenizer, self._media, name=name)

    def __reduce__(self):
        """Pickled for another process, it opens its data there, where no bad record is met yet."""
        return functools.partial(Pipeline, split=self.split), (self.config, self.tokenizer)

    def __len__(self) -> int:
        """Records of the split, good and bad."""
        return self._starts[-1]

    @property
    def problems(self) -> list[tuple[str, str, str]]:
        """(record id, kind, message) of the bad records met so far, in record order."""
        met = (bad for stream in self._streams for bad in stream.records.problems)
        return [(bad.id, bad.kind, bad.message) for bad in met]

    def problem_counts(self) -> dict[str, int]:
        """How many bad records of each kind were met so far, most frequent kind first."""
        return dict(collections.Counter(kind for _, kind, _ in self.problems).most_common())

    @property
    def captions(self) -> list[str]:
        """The text of each record in record order, "" where it has none that can be read."""
        return [
            caption(stream.source, number) for stream in self._streams for number in range(len(stream.source))
        ]

    @property
    def fill(self) -> float:
        """Share of the positions of the packed rows that hold a token of a document."""
        packed = [stream.packed for stream in self._streams]
        return float(np.average([rows.fill for rows in packed], weights=[len(rows) for rows in packed]))

    def record(self, index: int) -> AnyRecord:
        """The encoded record behind `index` of a batch. Raises BadRecord where it is bad."""
        number, at = _place(self._starts, index)
        return decode(self._streams[number].source[at])

    def example_batch(self, batch_size: int) -> Batch:
        """A batch of zeros with the shapes and types of all others; with buckets, of the longest."""
        batch = self._blank(self.config.text_length, batch_size)
        return {name: np.zeros_like(array) for name, array in batch.items()}

    def train(
        self,
        batch_size: int,
        seed: int,
        *,
        start_step: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """Endless local batches from `start_step` on.

        Args:
          batch_size: rows of the global batch.
          seed: of the order and the augmentation.
          start_step: the first batch is the one that an uninterrupted run gives at this step.
          process_index: which contiguous block of B / process_count rows of each global batch to give.
          process_count: number of processes.

        Returns:
          An iterator; call its `close()` to stop its threads and processes.

        Raises:
          UserError: the batch does not divide; while iterating, too many bad records, or a process is gone.
        """
        if batch_size < 1 or batch_size % process_count:
            raise UserError(
                f"training.batch_size is {batch_size}: use a multiple of the {process_count} processes."
            )
        count = batch_size // process_count
        block = _Block(self, batch_size, seed, range(process_index * count, (process_index + 1) * count))
        steps = grain.MapDataset.range(start_step, ENDLESS // batch_size)
        threads, processes = self.config.threads, self.config.processes
        if processes:
            batches = steps.map(block.lent).to_iter_dataset(self._read_options(ahead=threads))
            return workers.Watched(iter(workers.spread(batches, processes).map(self._told)))
        return iter(steps.map(block).to_iter_dataset(self._read_options(ahead=max(2, threads))))

    def evaluate(self, batch_size: int) -> Iterator[Batch]:
        """One pass over the good records in record order, each in a row of its own, without augmentation.

        The last batch is filled up with empty rows of index -1.
        """
        dataset = (
            grain.MapDataset.range(len(self))
            .map(self._evaluation_row)
            .to_iter_dataset(self._read_options(ahead=2 * batch_size))
            .batch(batch_size, batch_fn=lambda rows: self._padded(rows, batch_size))
        )
        return iter(dataset)

    @functools.cached_property
    def _rows(self) -> list[int]:
        """The first row of each stream in training, and the number of all; a packed row counts once."""
        return _starts(map(len, self._streams))

    @functools.cached_property
    def _most(self) -> int:
        """K."""
        return max(stream.packed.most for stream in self._streams)

    def _draws(self, batch_size: int, seed: int) -> Callable[[int], int]:
        """What row of the data is row n of the run; rows are numbered through the streams."""
        if self.config.buckets:
            return self._bucketed(batch_size, seed)
        starts = self._rows
        if len(self._streams) == 1:
            return _shuffled(starts[-1], seed)
        walks = _walks(map(len, self._streams), seed)
        mixture = Mixture(self.config.draw_stages(batch_size), seed)

        def draw(number: int) -> int:
            source, count = mixture.locate(number)
            return starts[source] + walks[source](count)

        return draw

    def _bucketed(self, batch_size: int, seed: int) -> Callable[[int], int]:
        """Each step draws one bucket, in proportion to its records, and all its rows from it."""
        starts = self._streams[0].starts
        counts = tuple(stop - start for start, stop in itertools.pairwise(starts))
        if not any(counts):
            raise UserError(f"{self._streams[0].name} has no usable record: see the log for what is wrong.")
        walks = _walks(counts, seed)
        steps = Mixture([(0, counts)], seed)

        def draw(number: int) -> int:
            step, row = divmod(number, batch_size)
            bucket, count = steps.locate(step)
            return starts[bucket] + walks[bucket](count * batch_size + row)

        return draw

    def _news(self) -> list[tuple[int, int, BadRecord]]:
        """(stream, number in it, what is wrong) of the bad records met since the last call."""
        return [
            (number, *news) for number, stream in enumerate(self._streams) for news in stream.records.news()
        ]

    def _told(self, batch_and_news: tuple[Mapping, list[tuple[int, int, BadRecord]]]) -> Batch:
        """The batch of another process, whose news are noted."""
        batch, news = batch_and_news
        for stream, number, bad in news:
            self._streams[stream].records.note(number, bad)
        return dict(batch)

    def _training_batch(
        self, draw: Callable[[int], int], seed: int, numbers: range, room: Callable[[Batch, int], Mapping]
    ) -> Mapping[str, np.ndarray]:
        """The rows of these numbers of the run, each written into its place in what `room` makes for them."""
        batch: Mapping[str, np.ndarray] = {}
        empty: Batch = {}
        for i, (number, stream, (examples, length)) in enumerate(self._training_rows(draw, numbers)):
            empty = empty or self._blank(length)
            batch = batch or room(empty, len(numbers))
            row = {name: array[i, ...] for name, array in batch.items()}
            for name, array in empty.items():  # right before the rest, while the row is near the processor
                row[name][...] = array
            rng = None if self.config.augment is None else np.random.default_rng((seed, number))
            self._write(row, examples, stream, rng)
        return batch

    def _training_rows(self, draw: Callable[[int], int], numbers: range) -> Iterator:
        """(number of the run, stream, what `Stream.rows` gives) of each row."""
        for first in range(0, len(numbers), TOGETHER):
            some = numbers[first : first + TOGETHER]
            places = [_place(self._rows, draw(number)) for number in some]
            rows = {
                stream: iter(self._streams[stream].rows([at for which, at in places if which == stream]))
                for stream in {stream for stream, _ in places}
            }
            for number, (stream, _) in zip(some, places, strict=True):
                yield number, stream, next(rows[stream])

    def _evaluation_row(self, index: int) -> Batch | None:
        stream, at = _place(self._starts, index)
        example = self._streams[stream].records.get(at)
        if example is None:
            return None
        row = self._blank(self.config.text_length)
        self._write(row, [example], stream, None)
        row.pop("members", None)
        return row

    def _blank(self, length: int, *shape: int) -> Batch:
        """Rows without any record, of `length` tokens."""
        rows = blank(self.tokenizer, *shape, length) | self._media.blank(*shape)
        for name in ("index", *self.config.facts):
            rows[name] = np.full(shape, -1, np.int32)
        if self.config.pack:
            rows["members"] = np.full((*shape, self._most), -1, np.int32)
        return rows

    def _write(
        self, row: Batch, examples: Sequence[Example], stream: int, rng: np.random.Generator | None
    ) -> None:
        """Writes examples of a stream into a blank row."""
        write_row(row, [example.sample for example in examples])
        self._media.fill(row, [picture for example in examples for picture in example.pictures], rng)
        numbers = [self._starts[stream] + example.number for example in examples]
        row["index"][...] = numbers[0]
        for name, value in zip(self.config.facts, examples[0].facts, strict=True):
            row[name][...] = value
        if "members" in row:
            row["members"][: len(numbers)] = numbers

    def _padded(self, rows: Sequence[Batch], batch_size: int) -> Batch:
        empty = self._blank(self.config.text_length)
        rows = [*rows, *[empty] * (batch_size - len(rows))]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _read_options(self, *, ahead: int) -> grain.ReadOptions:
        return grain.ReadOptions(num_threads=self.config.threads, prefetch_buffer_size=ahead)


class _Block:
    """step -> the same rows of each global batch. Pickled for another process, it starts anew there."""

    def __init__(self, pipeline: Pipeline, batch_size: int, seed: int, rows: range):
        self._pipeline, self._batch_size, self._seed, self._rows = pipeline, batch_size, seed, rows
        self._draw = pipeline._draws(batch_size, seed)
        self._lender = lending.Lender()

    def __reduce__(self):
        return _Block, (self._pipeline, self._batch_size, self._seed, self._rows)

    def __call__(self, step: int) -> Batch:
        return self._filled(step, _room)

    def lent(self, step: int) -> tuple[Mapping, list[tuple[int, int, BadRecord]]]:
        """The batch in lent memory, and its news: what `Pipeline._told` is to be told."""
        room = self._lender.lend if lending.POSSIBLE else _room
        return self._filled(step, room), self._pipeline._news()

    def _filled(self, step: int, room: Callable[[Batch, int], Mapping]) -> Mapping[str, np.ndarray]:
        first = step * self._batch_size
        numbers = range(first + self._rows.start, first + self._rows.stop)
        return self._pipeline._training_batch(self._draw, self._seed, numbers, room)


def _room(row: Batch, count: int) -> Batch:
    """Memory for so many rows."""
    return {name: np.empty((count, *array.shape), array.dtype) for name, array in row.items()}


def train_tokenizer(config: DataConfig) -> Tokenizer:
    """Trains a tokenizer on the readable texts of the training split."""
    sources = [open_dataset(source).source(config.split) for source in config.sources]
    texts = (caption(source, index) for source in sources for index in range(len(source)))
    return Tokenizer.train(filter(None, texts), config.vocabulary_size)


def _walks(lengths: Iterable[int], seed: int) -> list[Callable[[int], int]]:
    """The order of each of several that are drawn from."""
    return [_shuffled(length, derived_seed(seed, number)) for number, length in enumerate(lengths)]


def _shuffled(length: int, seed: int) -> Callable[[int], int]:
    """Draws 0 .. length - 1, shuffled anew every epoch, endlessly, each draw by itself."""

    @functools.lru_cache(maxsize=2)
    def permutation(epoch: int) -> Callable[[int], int]:
        key = derived_seed(seed, epoch)
        if length <= CYCLE:  # Grain looks for one of `length` numbers among so many
            return np.random.default_rng(key).permutation(length).item
        return lambda at: grain.experimental.index_shuffle(at, max_index=length - 1, seed=key, rounds=4)

    def draw(number: int) -> int:
        epoch, at = divmod(number, length)
        return permutation(epoch)(at)

    return draw


def _starts(lengths) -> list[int]:
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    return starts


def _place(starts: Sequence[int], index: int) -> tuple[int, int]:
    """(which, number within it) of a number that runs through several."""
    which = bisect.bisect_right(starts, index) - 1
    return which, index - starts[which]
