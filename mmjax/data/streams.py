"""One source of a run, laid out: its records, and the rows that are drawn from it."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

from mmjax.data.chat import chat_template
from mmjax.data.config import DataConfig
from mmjax.data.layouts import Layouts, Sample
from mmjax.data.lengths import measured
from mmjax.data.media import NoPictures, Patches, Squares, TiledPictures
from mmjax.data.packing import Packed, pack
from mmjax.data.records import IMAGE, AnyRecord, BadRecord, Conversation, Document, Record, decode
from mmjax.data.sources import Records, Source
from mmjax.data.templates import Template
from mmjax.data.tokenizer import Tokenizer
from mmjax.errors import UserError

Media = Squares | Patches | TiledPictures | NoPictures
_Parts = tuple[str, Sample, tuple[int, ...], tuple[Any, ...]]  # id, sample, facts, pictures of a record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A record ready to be put into a row: its sample, its decoded pictures (which the sample no longer
    holds), the facts that the config names, its number in its stream."""

    sample: Sample
    pictures: tuple[Any, ...]
    facts: tuple[int, ...]
    number: int


def media_of(config: DataConfig, tokenizer: Tokenizer) -> Media:
    """How the pictures of a run are prepared."""
    if not config.images:
        return NoPictures()
    if config.tiles is not None:
        marker = tokenizer.id(IMAGE)
        return TiledPictures(
            spec=config.tiles, images=config.images, length=config.text_length, marker=marker
        )
    shared = dict(images=config.images, augment=config.augment, slots_per_image=config.slots_per_image)
    if config.patches is not None:
        return Patches(spec=config.patches, **shared)
    return Squares(spec=config.image_spec, **shared)


class Stream:
    """One source of a run.

    Attributes:
      records: the decoded records, see `Records`.
    """

    def __init__(self, source: Source, config: DataConfig, tokenizer: Tokenizer, media: Media, *, name: str):
        self.source, self.name = source, name
        self._config, self._media, self._tokenizer = config, media, tokenizer
        self._layouts = _layouts(config, tokenizer, media)
        cache = (config.cache_megabytes << 20) // max(config.processes, 1)
        self.records: Records[Example] = Records(
            source,
            lambda _, data: decode(data),
            self._laid_out,
            self._opened,
            self._decoded,
            name=name,
            max_bad_share=config.max_bad_share,
            cache=cache // (media.bytes * max(config.images, 1)),
        )

    @functools.cached_property
    def _counted(self) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and pictures of each record; what is bad is met here, so that it is counted in every run."""
        config = self._config
        tokens, pictures = measured(
            self.source,
            self._layout,
            settings=self._settings(),
            directory=config.index_directory,
            threads=config.threads,
        )
        for number in np.flatnonzero(tokens == 0).tolist():
            self.records.get(number)
        return tokens, pictures

    @functools.cached_property
    def packed(self) -> Packed | None:
        """The packed rows; None where each record is a row of its own."""
        if not self._config.pack:
            return None
        tokens, pictures = self._counted
        rows = pack(tokens, pictures, length=self._config.text_length, images=self._config.images)
        if not len(rows):
            raise UserError(f"{self.name} has no usable record: see the log for what is wrong with each.")
        logging.info(
            "%s: %d records in %d rows, %.1f %% filled", self.name, len(tokens), len(rows), 100 * rows.fill
        )
        return rows

    @functools.cached_property
    def _order(self) -> np.ndarray:
        """Records by bucket."""
        return np.argsort(self._buckets, kind="stable")[np.count_nonzero(self._buckets < 0) :]

    @functools.cached_property
    def _buckets(self) -> np.ndarray:
        """The shortest of `data.buckets` that holds each record, -1 for a bad one."""
        tokens, _ = self._counted
        return np.where(tokens > 0, np.searchsorted(self._config.buckets, tokens), -1)

    @functools.cached_property
    def starts(self) -> list[int]:
        """The first row of each bucket, and the number of rows; without buckets, all rows are in one."""
        if self._config.buckets:
            counts = np.bincount(self._buckets[self._order], minlength=len(self._config.buckets))
            return [0, *np.cumsum(counts).tolist()]
        return [0, len(self.records) if self.packed is None else len(self.packed)]

    def __len__(self) -> int:
        """Rows."""
        return self.starts[-1]

    def rows(self, numbers: Sequence[int]) -> list[tuple[list[Example], int]]:
        """The examples of each row, and its length.

        Where none of them is usable, those of the next row (of the same bucket, cyclically) that has any.
        """
        members = [self._members(number) for number in numbers]
        examples = iter(self.records.get_many(list(itertools.chain.from_iterable(members))))
        rows = []
        for number, some in zip(numbers, members, strict=True):
            good = [example for example in itertools.islice(examples, len(some)) if example is not None]
            bucket = bisect.bisect_right(self.starts, number) - 1
            length = (*self._config.buckets, self._config.text_length)[bucket]
            rows.append((good or self._good_after(number, bucket), length))
        return rows

    def _good_after(self, number: int, bucket: int) -> list[Example]:
        first, count = self.starts[bucket], self.starts[bucket + 1] - self.starts[bucket]
        for more in range(1, count):
            examples = self.records.get_many(self._members(first + (number - first + more) % count))
            if good := [example for example in examples if example is not None]:
                return good
        raise UserError(f"{self.name} has no usable record: see the log for what is wrong with each.")

    def _members(self, row: int) -> list[int]:
        if self.packed is not None:
            return self.packed[row].tolist()
        return [int(self._order[row]) if self._config.buckets else row]

    def _laid_out(self, number: int, record: AnyRecord) -> _Parts:
        facts = tuple(_whole_number(record, name) for name in self._config.facts)
        sample = self._layout(record)
        return record.id, dataclasses.replace(sample, pictures=()), facts, sample.pictures

    def _opened(self, number: int, laid_out: _Parts) -> _Parts:
        id, sample, facts, pictures = laid_out
        return id, sample, facts, _each(id, pictures, self._media.open)

    def _decoded(self, number: int, opened: _Parts) -> Example:
        id, sample, facts, pictures = opened
        pictures = _each(id, pictures, self._media.decode)
        return Example(sample=sample, pictures=pictures, facts=facts, number=number)

    def _layout(self, record: AnyRecord) -> Sample:
        sample, most = self._layouts(record), self._config.images
        if len(sample.pictures) > most:
            count = len(sample.pictures)
            raise BadRecord(record.id, "too many pictures", f"{count} pictures, data.images allows {most}")
        return sample

    def _settings(self) -> str:
        """All that the length of a sample depends on besides its record."""
        config = self._config
        tokenizer = hashlib.sha256(self._tokenizer.to_json().encode()).hexdigest()
        layouts = (config.template, chat_template(config.chat), config.document, config.text_length)
        return repr((layouts, config.images, config.tiles, config.slots_per_image, tokenizer))


def _each(id: str, pictures: tuple[Any, ...], prepare: Callable[[Any], Any]) -> tuple[Any, ...]:
    """The pictures of a record, each one step further."""
    try:
        return tuple(map(prepare, pictures))
    except BadRecord as bad:
        bad.id = id
        raise


def _whole_number(record: AnyRecord, fact: str) -> int:
    value = record.facts.get(fact)
    if not isinstance(value, int) or not -(2**31) <= value < 2**31:
        message = f"its fact {fact!r} is {value!r}: a whole number was expected"
        raise BadRecord(record.id, f"missing {fact}", message)
    return value


def _layouts(config: DataConfig, tokenizer: Tokenizer, media: Media) -> Layouts:
    shared = (config.text_length, media.slots)
    template, chat = Template(config.template), chat_template(config.chat)

    def caption(record: Record) -> Sample:
        sample = template.sample(tokenizer, record, *shared)
        return sample if config.images else dataclasses.replace(sample, pictures=())

    def document(record: Document) -> Sample:
        return config.document.sample(tokenizer, record, *shared, max_images=config.images)

    def conversation(record: Conversation) -> Sample:
        return chat.sample(tokenizer, record, *shared)

    return Layouts({Record: caption, Conversation: conversation, Document: document})
