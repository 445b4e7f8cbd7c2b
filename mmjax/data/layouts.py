"""From a record of any kind to token ids, what of them is learned, and the pictures they stand for.

L tokens. A `Sample` is one document before padding; `write_row` puts one, or several packed, in a row.
The learned part is marked while the ids are made, never searched for afterwards: arithmetic on the lengths of
re-encoded text breaks with every new tokenizer, and then drops the loss of whole samples unseen.

Targets are aligned: `targets[i]` is the id that position i should predict, -1 where there is no loss. What a
model could not, or need not, say is never a target: padding, <bos>, <image> and the image queries.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mmjax.data.records import IMAGE, AnyRecord, BadRecord
from mmjax.data.tokenizer import Tokenizer

TAG = re.compile(r"(<\w+>|<\|\w+\|>)")

Slots = Callable[[bytes], int]


def one_slot(picture: bytes) -> int:
    """One token for each picture, whatever it is."""
    return 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One document, before padding.

    Attributes:
      ids: i32[N]. is_target: bool[N], which of them the model learns to say.
      pictures: the encoded pictures, in the order of their markers.
    """

    ids: np.ndarray
    is_target: np.ndarray
    pictures: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


class Writer:
    """Writes a sample piece by piece.

    A piece is encoded on its own; so that a word means the same ids as in running text, a space belongs to
    the piece it leads, not to the one it ends.
    """

    def __init__(self, tokenizer: Tokenizer, slots: Slots = one_slot):
        self._tokenizer, self._slots = tokenizer, slots
        self._ids: list[int] = []
        self._is_target: list[bool] = []
        self._pictures: list[bytes] = []

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def written(self) -> list[int]:
        """The ids so far."""
        return list(self._ids)

    def text(self, text: str, *, target: bool = False) -> None:
        """Text of a record, in which nothing is a special token."""
        if text:
            self.ids(self._tokenizer.encode(text, special=False), target=target)

    def markup(self, markup: str, *, target: bool = False) -> None:
        """Text of a template: its tags are roles (<bos>, <eos>, ...) or special tokens of the vocabulary
        (<|im_end|>); one that the vocabulary lacks is spelled out like any text."""
        for piece in TAG.split(markup):
            if self._has(piece):
                self.ids([self._single(piece)], target=target)
            else:
                self.text(piece, target=target)

    def end(self, tag: str) -> None:
        """The end of what the model says, which it learns: `tag`, or <eos> where the vocabulary lacks it."""
        self.ids([self._single(tag if self._has(tag) else "<eos>")], target=True)

    def picture(self, data: bytes) -> None:
        """A picture: as many markers as it takes slots."""
        self.ids([self._tokenizer.id(IMAGE)] * self._slots(data), target=False)
        self._pictures.append(data)

    def ids(self, ids: Sequence[int], *, target: bool) -> None:
        """Ids as they are."""
        self._ids += ids
        self._is_target += [target] * len(ids)

    def add(self, other: Writer) -> None:
        """All that another writer holds."""
        self._ids += other._ids
        self._is_target += other._is_target
        self._pictures += other._pictures

    def sample(self, length: int) -> Sample:
        """What was written; what lies beyond `length` tokens is cut off.

        Raises:
          BadRecord: the cut would take a picture, or nothing is left to learn.
        """
        is_target = np.array(self._is_target[:length], bool)
        marker = self._tokenizer.roles.get(IMAGE)
        if marker is not None and marker in self._ids[length:]:
            raise BadRecord("", "too long", f"{len(self)} tokens, and its pictures do not fit into {length}")
        if not is_target[1:].any():  # the first token is predicted from nothing
            raise BadRecord("", "no target", "it has no token that a model could learn to say")
        ids = np.array(self._ids[:length], np.int32)
        return Sample(ids=ids, is_target=is_target, pictures=tuple(self._pictures))

    def _has(self, tag: str) -> bool:
        return tag in self._tokenizer.roles or bool(
            TAG.fullmatch(tag) and len(self._tokenizer.encode(tag)) == 1
        )

    def _single(self, tag: str) -> int:
        if tag in self._tokenizer.roles or not TAG.fullmatch(tag):
            return self._tokenizer.id(tag)
        return self._tokenizer.encode(tag)[0]


def blank(tokenizer: Tokenizer, *shape: int) -> dict[str, np.ndarray]:
    """Rows of padding: i32[*shape] each of what `write_row` fills, tokens, targets, segment, block_start and
    positions; the last size is L."""
    names = ("tokens", "targets", "segment", "block_start", "positions")
    rows = {name: np.zeros(shape, np.int32) for name in names}
    rows["tokens"][...] = tokenizer.roles.get("<pad>", 0)
    rows["targets"][...] = -1
    return rows


def write_row(row: Mapping[str, np.ndarray], samples: Sequence[Sample]) -> None:
    """Writes samples, one after the other, into a row of padding: i32[L] each.

    tokens; targets; segment, 1 for the first sample, 2 for the second, 0 for padding; block_start, 1
    (causal); positions, from 0 in each sample.
    """
    start = 0
    for number, sample in enumerate(samples, start=1):
        stop = start + len(sample)
        row["tokens"][start:stop] = sample.ids
        row["targets"][start : stop - 1] = np.where(sample.is_target, sample.ids, -1)[1:]
        row["segment"][start:stop] = number
        row["positions"][start:stop] = np.arange(len(sample))
        start = stop
    row["block_start"][:start] = 1


def lay_out(tokenizer: Tokenizer, samples: Sequence[Sample], length: int) -> dict[str, np.ndarray]:
    """One row of samples and padding, see `write_row`: i32[L] each."""
    row = blank(tokenizer, length)
    write_row(row, samples)
    return row


class Layouts:
    """How a record of each kind becomes a sample: one function per kind, chosen by the record itself."""

    def __init__(self, by_kind: dict[type, Callable[[AnyRecord], Sample]]):
        self._by_kind = by_kind

    def __call__(self, record: AnyRecord) -> Sample:
        """Raises BadRecord, with the record's id, where the record cannot be laid out."""
        kind = type(record)
        if kind not in self._by_kind:
            known = ", ".join(known.__name__ for known in self._by_kind)
            raise BadRecord(record.id, "no layout", f"a {kind.__name__} was found, not one of {known}")
        try:
            return self._by_kind[kind](record)
        except BadRecord as bad:
            bad.id = record.id
            raise
