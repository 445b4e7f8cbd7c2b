"""How far drawn pictures are from real ones, as sets: the Fréchet distance (FID) and CMMD.

Both compare clouds of feature vectors. With mean m and covariance S of each cloud

    FID  = |m1 - m2|^2 + Tr S1 + Tr S2 - 2 Tr sqrt(S1 S2)            (Heusel et al. 2017)
    CMMD = 1000 (mean k(x, x') + mean k(y, y') - 2 mean k(x, y)),    k(x, y) = exp(-|x - y|^2 / 2 sigma^2)

with sigma 10, over all pairs, x = x' included (the biased estimate; Jayasumana et al. 2024). What makes the
first one the published FID are the features: 2,048 numbers of Inception's pool3; CMMD's are the unit image
embeddings of CLIP ViT-L/14 at 336 pixels. The features are the caller's.

Tr sqrt(S1 S2) is the sum of the roots of the eigenvalues of sqrt(S1) S2 sqrt(S1), a symmetric matrix. The
public pytorch-fid takes a general matrix root with SciPy, and adds 1e-6 to both diagonals where that fails;
the symmetric form cannot fail, and eigenvalues that are zero but for rounding count as zero.

Axes: N, M rows, D numbers of a feature.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from mmjax.data.pipeline import Pipeline
from mmjax.errors import UserError
from mmjax.evaluation.encoders import Encoders
from mmjax.evaluation.generation import Generation

SIGMA, SCALE = 10.0, 1000.0
_BLOCK = 1024  # rows of the kernel at a time: memory stays at _BLOCK x N


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean float64[D] and scatter float64[D, D] (outer products about the mean, summed) of `count` rows."""

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, *batches: np.ndarray) -> Moments:
        """The moments of float[N, D] features, in one or several batches of any sizes."""
        return cls.over(batches)

    @classmethod
    def over(cls, batches: Iterable[np.ndarray]) -> Moments:
        """The moments of a stream of batches, of which only one is in memory at a time.

        Raises:
          UserError: fewer than two rows in all.
        """
        total = None
        for batch in batches:
            batch = np.asarray(batch, np.float64)
            mean = batch.mean(axis=0)
            part = cls(len(batch), mean, (batch - mean).T @ (batch - mean))
            total = part if total is None else total.merge(part)
        if total is None or total.count < 2:
            raise UserError("a covariance needs at least two pictures: raise `limit` or take another split.")
        return total

    def merge(self, other: Moments) -> Moments:
        """The moments of the rows of both (Chan et al. 1979): no difference of large sums is ever taken."""
        count, apart = self.count + other.count, other.mean - self.mean
        between = np.outer(apart, apart) * (self.count * other.count / count)
        return Moments(
            count, self.mean + apart * (other.count / count), self.scatter + other.scatter + between
        )

    @property
    def covariance(self) -> np.ndarray:
        """float64[D, D], with N - 1 below."""
        return self.scatter / (self.count - 1)


def frechet_distance(
    mean1: np.ndarray, covariance1: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray
) -> float:
    """The FID formula: means float[D], covariances float[D, D]."""
    apart = np.asarray(mean1, np.float64) - np.asarray(mean2, np.float64)
    values, vectors = np.linalg.eigh(np.asarray(covariance1, np.float64))
    root = (vectors * np.sqrt(_positive(values))) @ vectors.T
    product = root @ np.asarray(covariance2, np.float64) @ root
    crossed = np.sqrt(_positive(np.linalg.eigvalsh((product + product.T) / 2))).sum()
    return float(apart @ apart + np.trace(covariance1) + np.trace(covariance2) - 2 * crossed)


def _positive(eigenvalues: np.ndarray) -> np.ndarray:
    floor = np.max(eigenvalues, initial=0.0) * len(eigenvalues) * np.finfo(np.float64).eps
    return np.where(eigenvalues > floor, eigenvalues, 0.0)


def fid(one: Moments, other: Moments) -> float:
    """The Fréchet distance of two sets of pictures, from the moments of their features."""
    return frechet_distance(one.mean, one.covariance, other.mean, other.covariance)


def cmmd(one: np.ndarray, other: np.ndarray, *, sigma: float = SIGMA) -> float:
    """The distance of two sets of features float[N, D] and float[M, D]; the published ones are unit vectors.

    Source: google-research, cmmd/distance.py.
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    within = _kernel(one, one, sigma) + _kernel(other, other, sigma)
    return float(SCALE * (within - 2 * _kernel(one, other, sigma)))


def _kernel(one: np.ndarray, other: np.ndarray, sigma: float) -> float:
    total, squares = 0.0, np.square(other).sum(axis=1)
    for start in range(0, len(one), _BLOCK):
        rows = one[start : start + _BLOCK]
        distance = np.square(rows).sum(axis=1)[:, None] + squares - 2 * rows @ other.T
        total += np.exp(-np.maximum(distance, 0) / (2 * sigma**2)).sum()
    return total / (len(one) * len(other))


def with_intervals(one: np.ndarray, other: np.ndarray, *, resamples: int, seed: int = 0) -> dict[str, float]:
    """frechet_distance and cmmd of features float[N, D] and float[M, D], with `_low` and `_high` ends.

    Both sets are drawn anew, with replacement. Repeated pictures push either distance up, so the quantiles of
    the draws would not hold the figure itself; their standard deviation around it gives the 95% interval.
    """

    def distances(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
        return {"frechet_distance": fid(Moments.of(one), Moments.of(other)), "cmmd": cmmd(one, other)}

    figures, rng = distances(one, other), np.random.default_rng(seed)
    if not resamples:
        return figures
    again = [
        distances(*(rows[rng.integers(len(rows), size=len(rows))] for rows in (one, other)))
        for _ in range(resamples)
    ]
    for name, value in list(figures.items()):
        half = 1.96 * float(np.std([draw[name] for draw in again], ddof=1))
        figures |= {f"{name}_low": value - half, f"{name}_high": value + half}
    return figures


def _mixed(rows: np.ndarray) -> np.ndarray:
    """In a random order that depends on the rows alone, so that no figure depends on that of the records."""
    return np.random.default_rng(0).permutation(rows[np.lexsort(rows.T[::-1])])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageQuality(Generation):
    """Draws every caption of a split and compares the drawn pictures with the real ones, as two sets.

    The fields are those of `Generation`, and:
      features: u8[N, H, W, 3] -> float[N, D]; in a config `{"call": "module.function"}`. None for the unit
        image embeddings of the judge, which then must be another CLIP than the system's own.

    resamples: bootstrap draws behind the intervals, each as costly as the figure itself; 0 for no intervals.

    `frechet_distance` is comparable with published FIDs only on Inception's features, and both figures only
    at equal numbers of pictures: `count` is part of the result. `real_` figures compare the two halves of the
    real pictures: what a perfect system could reach, if it drew half as many.
    """

    features: Any = None
    resamples: int = 20

    def __call__(self, system: Any, params: Any, pipeline: Pipeline, *, key: jax.Array) -> dict[str, float]:
        """Raises UserError when the system does not draw, or neither features nor a judge are given."""
        if self.features is None:
            self.check_judge(params, pipeline)
        result = self.draw(system, params, pipeline, key=key)
        return self.compare(result.drawn, result.real)

    def compare(self, drawn: np.ndarray, real: np.ndarray) -> dict[str, float]:
        """count, frechet_distance, cmmd; the latter two between halves of the real pictures; intervals."""
        see = self.features or self._seen
        drawn, real = (_mixed(np.asarray(see(pictures))) for pictures in (drawn, real))
        pairs = {"": (drawn, real), "real_": (real[::2], real[1::2])}
        figures = {"count": len(drawn)}
        for name, (one, other) in pairs.items():
            found = with_intervals(one, other, resamples=self.resamples)
            figures |= {f"{name}{metric}": value for metric, value in found.items()}
        return figures

    def _seen(self, pictures: np.ndarray) -> np.ndarray:
        return Encoders.judge(self.judge, batch_size=self.batch_size).pictures(pictures)
