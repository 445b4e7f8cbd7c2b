"""Figures with 95% intervals, from one row of numbers per record.

Every metric here is a function of sums over records: a mean (sum / count), a ratio of two sums, F1 or corpus
BLEU from several. The bootstrap draws N records with replacement, `resamples` times, and takes the quantiles
of the metric over the draws (Efron and Tibshirani 1993, ch. 13: the percentile interval). Rows are sorted
first, so that the interval, like the figure, does not depend on the order of the records.

Axes: N records, K numbers of a record, R draws.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

LEVEL, RESAMPLES = 0.95, 1000
_BLOCK = 1 << 22  # draws x records held in memory at a time


def draws(rows: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """float64[R, K]: the sums of the rows float[N, K] of each draw of N records with replacement."""
    rows = np.asarray(rows, np.float64)
    rows = rows[np.lexsort(rows.T[::-1])]
    count, rng = len(rows), np.random.default_rng(seed)
    step, sums = max(1, _BLOCK // count), []
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        chosen = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(chosen.ravel(), minlength=size * count).reshape(size, count)
        sums.append(times @ rows)
    return np.concatenate(sums)


def ends(values: np.ndarray, *, level: float = LEVEL) -> tuple[float, float]:
    """The quantiles (1 - level) / 2 and (1 + level) / 2 of the values of all draws, float[R]."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def figures(rows: np.ndarray, metrics: Callable[[np.ndarray], Mapping[str, np.ndarray]]) -> dict[str, float]:
    """`name`, `name_low` and `name_high` for every metric: its value and the ends of its 95% interval.

    Args:
      rows: float[N, K], what each record adds to the sums; at least one record.
      metrics: sums float64[R, K] -> {name: float64[R]}.
    """
    exact = metrics(np.sum(rows, axis=0, dtype=np.float64)[None])
    spread = metrics(draws(rows))
    result = {}
    for name, value in exact.items():
        low, high = ends(spread[name])
        result |= {name: float(value[0]), f"{name}_low": low, f"{name}_high": high}
    return result


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom in float64, 0 where the bottom is 0: a share of nothing."""
    top, bottom = np.broadcast_arrays(np.asarray(top, np.float64), np.asarray(bottom, np.float64))
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)


def share(name: str, parts: Sequence[float], wholes: Sequence[float]) -> dict[str, float]:
    """{name, name_low, name_high} of sum(parts) / sum(wholes); both float[N], one entry per record."""
    rows = np.stack([np.asarray(parts, np.float64), np.asarray(wholes, np.float64)], axis=1)
    return figures(rows, lambda sums: {name: ratio(sums[:, 0], sums[:, 1])})


def mean(name: str, values: Sequence[float]) -> dict[str, float]:
    """{name, name_low, name_high} of the mean of one number per record, float[N]."""
    return share(name, values, np.ones(len(values)))
