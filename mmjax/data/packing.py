"""Packing: several documents in one row, so that few positions are spent on padding.

The hard part is not the bin packing. Rows are to be a pure function of (seed, step), reachable without what
came before, on any number of processes; but packing a shuffled stream is stateful: where row r begins depends
on the lengths of all documents before it. The way out is to pack first and shuffle later. Which documents
share a row has no effect on any of them, since no token attends to another document; so the rows can be made
once, from an index of lengths (`lengths`), by a rule that knows no seed. A packed row then is to the rest of
the pipeline what a record is without packing: shuffled anew every epoch, cut among processes, mixed with
others. The price: two documents that share a row share it in every epoch.

Best fit decreasing, in windows of a fixed pseudo-random order: a document goes to the fullest row that it
still fits into. Windows keep a row's documents independent of their place in the file.
"""

from __future__ import annotations

import dataclasses

import numpy as np

WINDOW = 16_384  # documents packed together; more fills no better


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packed:
    """Rows of documents: row r holds `members[starts[r] : starts[r + 1]]`.

    Attributes:
      members: i64[N], numbers of documents. starts: i64[R + 1].
      fill: share of the positions that hold a document's token.
    """

    members: np.ndarray
    starts: np.ndarray
    fill: float

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.members[self.starts[row] : self.starts[row + 1]]

    @property
    def most(self) -> int:
        """Documents of the row that has most of them."""
        return int(np.diff(self.starts).max(initial=0))


def pack(lengths: np.ndarray, pictures: np.ndarray, *, length: int, images: int) -> Packed:
    """Packs documents into rows of `length` tokens and at most `images` pictures.

    Args:
      lengths: i64[N], tokens of each document; one of 0, or that fits into no row, is left out.
      pictures: i64[N], pictures of each document.
    """
    usable = np.flatnonzero((lengths > 0) & (lengths <= length) & (pictures <= images))
    order = np.random.default_rng(0).permutation(usable)
    rows: list[list[int]] = []
    for start in range(0, len(order), WINDOW):
        window = np.sort(order[start : start + WINDOW])
        window = window[np.argsort(-lengths[window], kind="stable")]
        rows += _best_fit(window.tolist(), lengths, pictures, length, images)
    members = np.array([document for row in rows for document in row], np.int64)
    starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Packed(
        members=members, starts=starts, fill=float(lengths[members].sum() / max(len(rows) * length, 1))
    )


def _best_fit(
    documents: list[int], lengths: np.ndarray, pictures: np.ndarray, length: int, images: int
) -> list[list[int]]:
    """Rows are kept by what is left in them: `open[p][s]` have room for p pictures and s tokens.

    Bit s of `levels[p]` says that `open[p][s]` has any, so that the fullest row is one bit operation away.
    """
    rows: list[list[int]] = []
    open: list[dict[int, list[int]]] = [{} for _ in range(images + 1)]
    levels = [0] * (images + 1)
    for document, tokens, count in zip(
        documents, lengths[documents].tolist(), pictures[documents].tolist(), strict=True
    ):
        best, room = length + 1, -1
        for p in range(count, images + 1):
            fitting = levels[p] >> tokens
            if fitting and (space := tokens + (fitting & -fitting).bit_length() - 1) < best:
                best, room = space, p
        if room < 0:
            best, room, row = length, images, len(rows)
            rows.append([])
        else:
            row = open[room][best].pop()
            if not open[room][best]:
                levels[room] &= ~(1 << best)
        rows[row].append(document)
        open[room - count].setdefault(best - tokens, []).append(row)
        levels[room - count] |= 1 << (best - tokens)
    return rows
