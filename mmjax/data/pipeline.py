"""The training and evaluation batches of a world, as a pure function of (seed, step).

B global batch, L tokens, M pictures of an example (1), H height, W width. The order of operations is the
whole point: permute globally (anew every epoch), then cut each global batch into contiguous row blocks, one
per process. So 1, 2 or 16 processes see the same global batches, and any step can be reached without reading
what came before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np

from mmjax.data.images import ImageSpec
from mmjax.data.records import BadRecord, Record
from mmjax.data.sources import Records
from mmjax.data.templates import Template
from mmjax.data.tokenizer import Tokenizer
from mmjax.data.transforms import Augmentation
from mmjax.data.worlds.world import World
from mmjax.errors import UserError

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What to read and how to lay it out.

    Attributes:
      source: directory of a built world.
      split: the split to train on.
      image_size: side of the pictures in pixels; others are resized, see `image_resize` (`ImageSpec`).
      image: a published model's whole preprocessing, in place of `image_resize` and `background`.
      text_length: tokens of an example; a longer caption is a bad record.
      template: layout of an example, see `templates`.
      vocabulary_size: largest vocabulary of a tokenizer trained on the captions.
      augment: None for none. Training only.
      threads: each prepares whole batches ahead; 0 reads when asked.
      max_bad_share: a run stops when more of a split than this share is bad.
      cache_megabytes: decoded pictures kept in memory, filled as they are read.
    """

    source: str
    split: str = "train"
    image_size: int = 64
    image_resize: str = "pad"
    background: tuple[int, int, int] = (255, 255, 255)
    image: ImageSpec | None = None
    text_length: int = 24
    template: str = "<bos>{caption}<eos>"
    vocabulary_size: int = 4096
    augment: Augmentation | None = dataclasses.field(default_factory=Augmentation)
    threads: int = 2
    max_bad_share: float = 0.01
    cache_megabytes: int = 256

    def __post_init__(self):
        if self.image is not None and self.image.size != self.image_size:
            raise UserError(
                f"data.image.size is {self.image.size}: make it data.image_size={self.image_size}."
            )

    @property
    def image_spec(self) -> ImageSpec:
        return self.image or ImageSpec(
            size=self.image_size, background=self.background, resize=self.image_resize
        )


class Pipeline:
    """One split of a world, ready to batch.

    A batch is a flat dict: tokens, targets, segment, block_start, positions i32[B, L];
    image u8[B, M, H, W, 3]; image_valid bool[B, M]; index i32[B], the record's number in its split.

    Raises:
      UserError: no such world or split, an empty split, a template with several pictures.
    """

    def __init__(self, config: DataConfig, tokenizer: Tokenizer, *, split: str | None = None):
        self.config = config
        self.tokenizer = tokenizer
        self.split = split or config.split
        self.world = World.open(config.source)
        self.template = Template(config.template)
        self._source = self.world.source(self.split)
        if not len(self._source):
            raise UserError(f"split {self.split!r} of {config.source} is empty: build the world again.")
        if self.template.images > 1:
            raise UserError(f"data.template {config.template!r} has several <image>: a record has one.")
        self._image_spec = config.image_spec
        self._records = Records(
            self._source,
            self._decode,
            name=f"{config.source}:{self.split}",
            max_bad_share=config.max_bad_share,
            cache=(config.cache_megabytes << 20) // (4 * config.image_size**2),  # Pillow holds RGB as 4 bytes
        )

    def __len__(self) -> int:
        """Records of the split, good and bad."""
        return len(self._source)

    @property
    def problems(self) -> list[tuple[str, str, str]]:
        """(record id, kind, message) of the bad records met so far, in record order."""
        return [(bad.id, bad.kind, bad.message) for bad in self._records.problems]

    @property
    def captions(self) -> list[str]:
        """The captions in record order, "" where a record has none that can be read."""
        return [_caption(self._source[index]) for index in range(len(self))]

    def record(self, index: int) -> Record:
        """The encoded record behind `index` of a batch. Raises BadRecord where it is bad."""
        return Record.decode(self._source[index])

    def example_batch(self, batch_size: int) -> Batch:
        """A batch of zeros with the shapes and types of all others."""
        size, length = self.config.image_size, self.config.text_length
        text = ("tokens", "targets", "segment", "block_start", "positions")
        return {
            **{name: np.zeros((batch_size, length), np.int32) for name in text},
            "image": np.zeros((batch_size, 1, size, size, 3), np.uint8),
            "image_valid": np.zeros((batch_size, 1), bool),
            "index": np.zeros(batch_size, np.int32),
        }

    def train(
        self,
        batch_size: int,
        seed: int,
        *,
        start_step: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ) -> grain.DatasetIterator:
        """Endless local batches from `start_step` on.

        Args:
          batch_size: rows of the global batch.
          seed: of the order and the augmentation.
          start_step: the first batch is the one that an uninterrupted run gives at this step.
          process_index: which contiguous block of B / process_count rows of each global batch to give.
          process_count: number of processes.

        Returns:
          An iterator; call its `close()` to stop its threads.

        Raises:
          UserError: the batch does not divide; while iterating, too many bad records.
        """
        if batch_size < 1 or batch_size % process_count:
            raise UserError(
                f"training.batch_size is {batch_size}: use a multiple of the {process_count} processes."
            )
        iterator = iter(
            grain.MapDataset.range(len(self))
            .seed(seed)
            .shuffle()
            .repeat()
            .random_map(self._training_example)
            .batch(batch_size // process_count)[process_index::process_count]
            .to_iter_dataset(self._read_options(ahead=max(2, self.config.threads)))
        )
        iterator.set_state({"next_index": start_step})
        return iterator

    def evaluate(self, batch_size: int) -> Iterator[Batch]:
        """One pass over the good records in record order, without augmentation.

        The last batch is filled up with empty rows of index -1.
        """
        dataset = (
            grain.MapDataset.range(len(self))
            .map(self._evaluation_example)
            .to_iter_dataset(self._read_options(ahead=2 * batch_size))
            .batch(batch_size, batch_fn=lambda rows: self._padded(rows, batch_size))
        )
        return iter(dataset)

    def _decode(self, index: int, data: bytes) -> dict[str, Any]:
        record = Record.decode(data)
        try:
            text = self.template.example(self.tokenizer, record.caption, self.config.text_length)
            return {**text, "image": self._image_spec.decode(record.image), "index": np.int32(index)}
        except BadRecord as bad:
            bad.id = record.id
            raise

    def _training_example(self, index: int, rng: np.random.Generator) -> Batch:
        example = self._records[index]
        if self.config.augment is None:
            return _with_pixels(example, np.asarray(example["image"]))
        pixels = self.config.augment(example["image"], rng, background=self.config.background)
        return _with_pixels(example, pixels)

    def _evaluation_example(self, index: int) -> Batch | None:
        example = self._records.get(index)
        return None if example is None else _with_pixels(example, np.asarray(example["image"]))

    def _padded(self, rows: Sequence[Batch], batch_size: int) -> Batch:
        batch = self.example_batch(batch_size)
        batch["targets"][:] = -1
        batch["index"][:] = -1
        for name, array in batch.items():
            array[: len(rows)] = [row[name] for row in rows]
        return batch

    def _read_options(self, *, ahead: int) -> grain.ReadOptions:
        return grain.ReadOptions(num_threads=self.config.threads, prefetch_buffer_size=ahead)


def train_tokenizer(config: DataConfig) -> Tokenizer:
    """Trains a tokenizer on the readable captions of the training split."""
    source = World.open(config.source).source(config.split)
    captions = (_caption(source[index]) for index in range(len(source)))
    return Tokenizer.train(filter(None, captions), config.vocabulary_size)


def _caption(data: bytes) -> str:
    try:
        return Record.decode(data).caption
    except BadRecord:
        return ""


def _with_pixels(example: dict[str, Any], pixels: np.ndarray) -> Batch:
    return {**example, "image": pixels[None], "image_valid": np.ones(1, bool)}
