"""Retrieval: does a picture find its caption among all captions, and a caption its picture?

Recall at k is the share of queries with a right candidate among their k most similar. Overlooking two things
makes it unfair. Captions repeat, so every candidate with the right text is right. And scores tie (a collapsed
model gives every pair the same one), so a tie counts as its expectation under random order:

    g wrong candidates score higher than the best right one; t wrong and c right ones share its score.
    P(hit within k) = 1 - C(t, m) / C(t + c, m),    m = min(max(k - g, 0), t + c)

so a constant model gets chance exactly, whatever the order of the data.

Axes: Q queries, C candidates, K cut-offs, N records, E embedding.
"""

import dataclasses

import jax
import numpy as np

from mmjax.data.pipeline import Pipeline
from mmjax.evaluation import statistics
from mmjax.evaluation.passes import ability, over

_BLOCK = 1024  # queries scored at a time: memory stays at _BLOCK x N


def hits(similarity: np.ndarray, right: np.ndarray, cutoffs: tuple[int, ...]) -> np.ndarray:
    """float64[Q, K]: probability that a right candidate is among the first k.

    similarity: float[Q, C], NaN counting as the worst. right: bool[Q, C], at least one per row.

    Example: two pictures, four captions, two for each.
      similarity = [[.9, .8, .7, .1], [.4, .3, .2, .1]]; right = [[0, 0, 1, 0], [0, 0, 1, 1]]
      cutoffs (1, 2, 3) -> [[0, 0, 1], [0, 0, 1]]
    """
    similarity = np.where(np.isnan(similarity), -np.inf, similarity)
    best = np.max(similarity, axis=1, where=right, initial=-np.inf, keepdims=True)
    above = ((similarity > best) & ~right).sum(axis=1)
    tied = ((similarity == best) & ~right).sum(axis=1)
    shared = ((similarity == best) & right).sum(axis=1)
    columns = [1 - _all_wrong(tied, shared, np.maximum(k - above, 0)) for k in cutoffs]
    return np.stack(columns, axis=1)


def _all_wrong(tied: np.ndarray, shared: np.ndarray, places: np.ndarray) -> np.ndarray:
    """C(tied, places) / C(tied + shared, places): all of the first `places` of a random order are wrong."""
    result = np.ones(len(tied))
    for taken in range(int(min(places.max(initial=0), tied.max(initial=0) + 1))):
        wrong = np.maximum(tied - taken, 0) / np.maximum(tied + shared - taken, 1)
        result = np.where(taken < places, result * wrong, result)
    return result


def found(
    queries: np.ndarray,
    candidates: np.ndarray,
    query_labels: np.ndarray,
    candidate_labels: np.ndarray,
    cutoffs: tuple[int, ...],
) -> np.ndarray:
    """float64[Q, K]: `hits` of every query; a candidate is right when its label is the query's.

    queries: float[Q, E], candidates: float[C, E]; labels: [Q] and [C] of anything comparable.
    """
    blocks = []
    for start in range(0, len(queries), _BLOCK):
        rows = slice(start, start + _BLOCK)
        right = query_labels[rows, None] == candidate_labels[None]
        blocks.append(hits(queries[rows] @ candidates.T, right, cutoffs))
    return np.concatenate(blocks)


def recalls(
    queries: np.ndarray,
    candidates: np.ndarray,
    query_labels: np.ndarray,
    candidate_labels: np.ndarray,
    cutoffs: tuple[int, ...],
) -> np.ndarray:
    """float64[K]: recall at each cut-off; the arguments are those of `found`."""
    return found(queries, candidates, query_labels, candidate_labels, cutoffs).mean(axis=0)


def chances(labels: np.ndarray, cutoffs: tuple[int, ...]) -> np.ndarray:
    """float64[K]: the recall of a model that knows nothing, with the labels as queries and candidates."""
    return recalls(np.zeros((len(labels), 1)), np.zeros((len(labels), 1)), labels, labels, cutoffs)


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A split as unit vectors: index i32[N], image and text float32[N, E], captions str[N]."""

    index: np.ndarray
    image: np.ndarray
    text: np.ndarray
    captions: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Recall both ways over a split, and chance: `image_to_text_recall_at_1`, `chance_at_1`, ..."""

    batch_size: int = 64
    cutoffs: tuple[int, ...] = (1, 5, 10)

    def __call__(self, system, params, pipeline: Pipeline, *, key: jax.Array) -> dict[str, float]:
        """Raises UserError when the system does not embed both pictures and text. Nothing here is random."""
        return self.score(self.embed(system, params, pipeline))

    def embed(self, system, params, pipeline: Pipeline) -> Embedded:
        """Both embeddings of every good record."""
        image, text = ability(system, "encode_image"), ability(system, "encode_text")

        def encode(params, batch):
            return image(params, batch["image"]), text(params, batch["tokens"], batch["segment"])

        names = ("image", "tokens", "segment")
        index, (images, texts) = over(pipeline, encode, params, batch_size=self.batch_size, names=names)
        return Embedded(index, images, texts, np.array(pipeline.captions, object)[index])

    def score(self, embedded: Embedded) -> dict[str, float]:
        """The figures, the recalls with their intervals; `count` is the number of records."""
        labels = embedded.captions
        directions = {
            "image_to_text": (embedded.image, embedded.text),
            "text_to_image": (embedded.text, embedded.image),
        }
        figures = {"count": len(labels)}
        for name, (queries, candidates) in directions.items():
            each = found(queries, candidates, labels, labels, self.cutoffs)
            for k, column in zip(self.cutoffs, each.T, strict=True):
                figures |= statistics.mean(f"{name}_recall_at_{k}", column)
        chance = chances(labels, self.cutoffs)
        return figures | {
            f"chance_at_{k}": float(value) for k, value in zip(self.cutoffs, chance, strict=True)
        }
