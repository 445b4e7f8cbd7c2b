"""Which source gives draw n of an endless mixture, without counting through the draws before it.

Draws are taken in blocks of 4096. Every block of a stage holds each source a fixed number of times, its
weight to 1/4096, in an order shuffled by (seed, first draw of the stage, number of the block). So the number
of draws of a source before any draw is a product plus a count within one block, and

* any draw is reached in constant time (and a few microseconds, the block being cached);
* sources are drawn evenly at any scale, where independent draws would wander off by the square root;
* a stage added at step s changes nothing before s, and after it every source goes on where it had come to.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence

import numpy as np

from mmjax.errors import UserError

BLOCK = 4096

Stage = tuple[int, tuple[float, ...]]  # first draw, weight of each source


class Mixture:
    """An endless sequence of draws from K sources.

    Raises:
      UserError: weights that are negative, all zero, or of the wrong number; stages out of order.
    """

    def __init__(self, stages: Sequence[Stage], seed: int):
        """`stages[0]` starts at draw 0; the others at ever later draws, with K weights each."""
        self._seed = seed
        self._starts = [start for start, _ in stages]
        if not self._starts or self._starts[0] or sorted(set(self._starts)) != self._starts:
            raise UserError("data.stages must start at ever later steps above 0: put them in order.")
        if len({len(weights) for _, weights in stages}) != 1:
            raise UserError("each of data.stages needs one weight for each source of data.mixture.")
        self._per_block = [_rounded(weights) for _, weights in stages]
        self._before = [np.zeros(len(stages[0][1]), np.int64)]  # draws of each source before each stage
        for number, start in enumerate(self._starts[1:]):
            self._before.append(self._counts(number, start - self._starts[number]))
        self._block = functools.lru_cache(maxsize=64)(self._block)

    def locate(self, draw: int) -> tuple[int, int]:
        """(source, how many times it was drawn before) of a draw."""
        stage = bisect.bisect_right(self._starts, draw) - 1
        block, at = divmod(draw - self._starts[stage], BLOCK)
        order, rank = self._block(stage, block)
        source = int(order[at])
        full = int(self._before[stage][source]) + block * int(self._per_block[stage][source])
        return source, full + int(rank[at])

    def _counts(self, stage: int, draws: int) -> np.ndarray:
        """Draws of each source up to `draws` draws into a stage."""
        block, rest = divmod(draws, BLOCK)
        partial = np.bincount(self._block(stage, block)[0][:rest], minlength=len(self._per_block[stage]))
        return self._before[stage] + block * self._per_block[stage] + partial

    def _block(self, stage: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        """The source of each draw of a block, and how many of its draws in the block came before."""
        counts = self._per_block[stage]
        order = np.repeat(np.arange(len(counts)), counts)
        np.random.default_rng([self._seed, self._starts[stage], block]).shuffle(order)
        rank = np.empty(BLOCK, np.int64)
        for source, count in enumerate(counts):
            rank[order == source] = np.arange(count)
        return order, rank


def _rounded(weights: Sequence[float]) -> np.ndarray:
    """Whole numbers in proportion to the weights that add up to BLOCK, at least 1 for a positive weight."""
    share = np.asarray(weights, np.float64)
    if not len(share) or not np.isfinite(share).all() or (share < 0).any() or not share.sum():
        raise UserError(f"the weights {tuple(weights)} of data.mixture must be positive numbers or 0.")
    exact = share / share.sum() * BLOCK
    counts = np.maximum(np.floor(exact), share > 0).astype(np.int64)
    if len(share) > BLOCK:
        raise UserError(f"data.mixture has {len(share)} sources: use at most {BLOCK}.")
    while counts.sum() > BLOCK:
        counts[np.argmax(counts)] -= 1
    largest = np.argsort(-(exact - counts), kind="stable")[: BLOCK - counts.sum()]
    counts[largest] += 1
    return counts


def derived_seed(seed: int, number: int) -> int:
    """The seed of one of several orders, of sources or epochs; those of neighbouring seeds share none."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
