"""Random access to encoded records, and to what is decoded from them.

A source is anything with `len(source)` and `source[i] -> bytes`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from absl import logging
from grain.sources import ArrayRecordDataSource

from mmjax.data.records import BadRecord
from mmjax.errors import UserError

T = TypeVar("T")


class Source(Protocol):
    """Random access to encoded records; safe to read from several threads."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> bytes: ...


def open_array_record(path: str) -> Source:
    """Opens an ArrayRecord file (written with `group_size:1`, or random reads decode whole groups).

    Raises:
      UserError: missing, damaged or not an ArrayRecord file.
    """
    try:
        source = ArrayRecordDataSource([path])
        if len(source):
            source[0]
        return source
    except Exception as error:  # the reader raises bare RuntimeErrors and ValueErrors
        raise UserError(f"record file {path} cannot be read ({error}): build its world again.") from error


class Records(Generic[T]):
    """Decoded records of a source, where a bad one never stops a run unseen nor slips through.

    `records[i]` is the decoded record i or, where that one is bad, the next good one after it (cyclically):
    a rule without state, so that every process and every resumed run sees the same data. Each bad record
    is logged once.

    Attributes:
      problems: the bad records met so far, in record order.

    Raises (when read):
      UserError: more than `max_bad_share` of the source is bad.
    """

    def __init__(
        self,
        source: Source,
        decode: Callable[[int, bytes], T],
        *,
        name: str,
        max_bad_share: float,
        cache: int = 0,
    ):
        """`decode(i, bytes)` raises `BadRecord`; the first `cache` distinct records read are kept decoded."""
        self._source, self._decode, self._name = source, decode, name
        self._max_bad_share, self._capacity = max_bad_share, cache
        self._cache: dict[int, T] = {}
        self._bad: dict[int, BadRecord] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> T:
        for candidate in range(index, index + len(self)):
            record = self.get(candidate % len(self))
            if record is not None:
                return record
        raise UserError(f"{self._name} has no usable record: see the log for what is wrong with each.")

    def get(self, index: int) -> T | None:
        """Record `index` itself, or None if it is bad."""
        if index in self._cache:
            return self._cache[index]
        if index in self._bad:
            return None
        try:
            record = self._decode(index, self._source[index])
        except BadRecord as bad:
            bad.id = bad.id or f"number {index}"
            self._note(index, bad)
            return None
        if len(self._cache) < self._capacity:
            self._cache[index] = record
        return record

    @property
    def problems(self) -> list[BadRecord]:
        with self._lock:
            return [self._bad[index] for index in sorted(self._bad)]

    def _note(self, index: int, bad: BadRecord) -> None:
        with self._lock:
            if index in self._bad:
                return
            self._bad[index] = bad
        logging.warning("%s: skipped %s (%d skipped so far)", self._name, bad, len(self._bad))
        if len(self._bad) > self._max_bad_share * len(self):
            raise UserError(
                f"{self._name} has more bad records than data.max_bad_share={self._max_bad_share:g} allows "
                f"({'; '.join(map(str, self.problems[:3]))}): mend them or raise the share."
            )
