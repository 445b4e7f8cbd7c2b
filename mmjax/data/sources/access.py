"""Random access to encoded records, and to what is decoded from them.

A source is anything with `len(source)` and `source[i] -> bytes`. Reading a record may raise `BadRecord`: what
is wrong in a container (a cut shard, a row that is no row) takes a place among its records, so that one
mechanism counts and names every problem.
"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from absl import logging

from mmjax.data.records import AnyRecord, BadRecord, decode, texts
from mmjax.errors import UserError

T = TypeVar("T")


class Source(Protocol):
    """Random access to encoded records; safe to read from several threads."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> bytes: ...


class Rows(Generic[T]):
    """A source that makes record i from row i when it is read.

    A row that is a `BadRecord` is raised instead.
    """

    def __init__(
        self,
        rows: Sequence[T | BadRecord],
        make: Callable[[T], AnyRecord],
        *,
        caption: Callable[[T], str] | None = None,
    ):
        """`make(row)` may raise `BadRecord`; `caption(row)` gives the caption without reading a picture."""
        self._rows, self._make, self._caption = rows, make, caption

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> bytes:
        return self._make(self._good(index)).encode()

    def caption(self, index: int) -> str:
        """The caption of a record as it stands in the source; it may raise `BadRecord`."""
        if self._caption is None:
            return _joined(decode(self[index]))
        return self._caption(self._good(index))

    def _good(self, index: int) -> T:
        row = self._rows[index]
        if isinstance(row, BadRecord):
            raise BadRecord(row.id, row.kind, row.message)  # a new one: each raise grows a traceback
        return row


class Chain:
    """Several sources, one after the other."""

    def __init__(self, sources: Sequence[Source]):
        self._sources = sources
        self._starts = [0]
        for source in sources:
            self._starts.append(self._starts[-1] + len(source))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> bytes:
        source, inner = self._place(index)
        return source[inner]

    def caption(self, index: int) -> str:
        """See `Rows.caption`."""
        source, inner = self._place(index)
        return source.caption(inner) if hasattr(source, "caption") else _joined(decode(source[inner]))

    def _place(self, index: int) -> tuple[Source, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = bisect.bisect_right(self._starts, index) - 1
        return self._sources[place], index - self._starts[place]


def caption(source: Source, index: int) -> str:
    """The text of record `index`, its parts joined by a space; "" where the record cannot be read.

    Reads no picture where the source can do without, so that a tokenizer is trained on a table at once.
    """
    try:
        text = source.caption(index) if hasattr(source, "caption") else _joined(decode(source[index]))
        text.encode("utf-8")
    except (BadRecord, UnicodeEncodeError):
        return ""
    return "" if "\0" in text or not text.strip() else text


def _joined(record: AnyRecord) -> str:
    return " ".join(texts(record))


class Records(Generic[T]):
    """Decoded records of a source, where a bad one never stops a run unseen nor slips through.

    A bad record is None however often it is read, in every process and every resumed run; it is logged once.

    Attributes:
      problems: the bad records met so far, in record order.

    Raises (when read):
      UserError: more than `max_bad_share` of the source is bad.
    """

    def __init__(
        self,
        source: Source,
        *stages: Callable[[int, Any], Any],
        name: str,
        max_bad_share: float,
        cache: int = 0,
    ):
        """The stages make a record of its bytes, each as `stage(i, what the last one gave)`, and may raise
        `BadRecord`; the first follows right after reading, while the bytes are near the processor. The first
        `cache` distinct records read are kept decoded."""
        self._source, (self._first, *self._stages), self._name = source, stages, name
        self._max_bad_share, self._capacity = max_bad_share, cache
        self._cache: dict[int, T] = {}
        self._bad: dict[int, BadRecord] = {}
        self._told = 0  # of the bad ones, which stand in the order they were met in
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def get(self, index: int) -> T | None:
        """Record `index` itself, or None if it is bad."""
        return self.get_many([index])[0]

    def get_many(self, indices: Sequence[int]) -> list[T | None]:
        """`get` of each; all go through one stage before any goes through the next, so that the memory a
        stage works in stays near the processor (tokenizing is several times slower right after a JPEG)."""
        if any(index in self._bad for index in indices):
            self._stop_above_share()  # whichever thread met them first, none goes on
        values = dict.fromkeys(
            index for index in indices if index not in self._cache and index not in self._bad
        )
        for stage in (self._read, *self._stages):
            for index, value in list(values.items()):
                try:
                    values[index] = stage(index, value)
                except BadRecord as bad:
                    bad.id = bad.id or f"number {index}"
                    self.note(index, bad)
                    del values[index]
        for index, value in values.items():
            if len(self._cache) < self._capacity:
                self._cache[index] = value
        return [values[index] if index in values else self._cache.get(index) for index in indices]

    def _read(self, index: int, _: None) -> Any:
        return self._first(index, self._source[index])

    @property
    def problems(self) -> list[BadRecord]:
        with self._lock:
            return [self._bad[index] for index in sorted(self._bad)]

    def news(self) -> list[tuple[int, BadRecord]]:
        """The bad records met since the last call, by number."""
        with self._lock:
            news = list(itertools.islice(self._bad.items(), self._told, None))
            self._told = len(self._bad)
        return news

    def note(self, index: int, bad: BadRecord) -> None:
        """Counts a bad record, also one that another process has met; raises as reading does."""
        with self._lock:
            if new := index not in self._bad:
                self._bad[index] = bad
        if new:
            logging.warning("%s: skipped %s (%d skipped so far)", self._name, bad, len(self._bad))
        self._stop_above_share()

    def _stop_above_share(self) -> None:
        if len(self._bad) > self._max_bad_share * len(self):
            raise UserError(
                f"{self._name} has more bad records than data.max_bad_share={self._max_bad_share:g} allows "
                f"({'; '.join(map(str, self.problems[:3]))}): mend them or raise the share."
            )
