"""CLIPScore (Hessel et al. 2021): how well a caption fits its picture, in the eyes of a CLIP.

    CLIPScore(c, v) = 2.5 max(cos(c, v), 0)
    RefCLIPScore(c, R, v) = harmonic mean of CLIPScore(c, v) and max(max_r cos(c, r), 0)

Every text goes in as 'A photo depicts' + caption; the published figures are of ViT-B/32. One that is too long
for the CLIP loses its last words. The public code does not cut the text-text cosine off at 0, as the paper
does (eq. 2); we follow the paper. They differ only where a caption is opposed to all its references.

Axes: N captions, K references of one, E embedding.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax.data.pipeline import Pipeline
from mmjax.errors import UserError
from mmjax.evaluation import statistics
from mmjax.evaluation.asking import field, read
from mmjax.evaluation.captions import Captions, Described
from mmjax.evaluation.encoders import Encoders, unit

PREFIX = "A photo depicts "
WEIGHT = 2.5


def clip_scores(pictures: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """float64[N], the CLIPScore of each caption. pictures, captions: float[N, E], of any length."""
    return WEIGHT * np.maximum((unit(pictures) * unit(captions)).sum(axis=-1), 0)


def ref_clip_scores(
    pictures: np.ndarray, captions: np.ndarray, references: Sequence[np.ndarray]
) -> np.ndarray:
    """float64[N], the RefCLIPScore of each caption. references: for each caption float[K, E]."""
    seen = clip_scores(pictures, captions)
    best = [np.max(unit(several) @ one) for one, several in zip(unit(captions), references, strict=True)]
    read = np.maximum(best, 0)
    return statistics.ratio(2 * seen * read, seen + read)


def score(
    pictures: np.ndarray, captions: np.ndarray, references: Sequence[np.ndarray] = ()
) -> dict[str, float]:
    """count, clip_score and, with references, ref_clip_score, with their intervals; arguments as above."""
    figures = {"count": len(captions), **statistics.mean("clip_score", clip_scores(pictures, captions))}
    if len(references):
        figures |= statistics.mean("ref_clip_score", ref_clip_scores(pictures, captions, references))
    return figures


def of_files(encoders: Encoders, images: str, candidates: str, references: str = "") -> dict[str, float]:
    """`score` of files in the layout of jmhessel/clipscore.

    Args:
      encoders: the CLIP that is asked; the published figures are of OpenAI's ViT-B/32.
      images: directory of the pictures; the name of a picture without its ending is its key.
      candidates: JSON, `{picture: caption}`. references: JSON, `{picture: [caption, ...]}`, or none.

    Raises:
      UserError: a file is missing, or a caption's picture or references are.
    """
    said, paths = read(candidates), {path.stem: path for path in Path(images).glob("*")}
    pictures = encoders.pictures(encoders.image_spec.load(field(paths, name, images)) for name in said)
    captions = _texts(encoders, said.values())
    known = read(references) if references else {}
    several = [_texts(encoders, field(known, name, references)) for name in said if known]
    return score(pictures, captions, several)


def _texts(encoders: Encoders, texts: Iterable[str]) -> np.ndarray:
    return encoders.texts([PREFIX + text for text in texts], truncate=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIPScore(Captions):
    """Both scores of greedy captions of a split, and the CLIPScore of what people wrote, as a yardstick.

    judge: a trained CLIP, see `Generation`. The other fields are those of `Captions`.
    """

    judge: Any = None

    def __call__(self, system: Any, params: Any, pipeline: Pipeline, *, key: jax.Array) -> dict[str, float]:
        """Raises UserError when the system writes no captions or there is no judge. Nothing is random."""
        if self.judge is None or isinstance(self.judge, str):
            raise UserError("CLIPScore asks a CLIP: give its checkpoint with --judge DIR.")
        described = self.describe(system, params, pipeline)
        return self.judged(described, pipeline)

    def judged(self, described: Described, pipeline: Pipeline) -> dict[str, float]:
        """count, clip_score, ref_clip_score and human_clip_score with their intervals."""
        encoders = Encoders.judge(self.judge, batch_size=self.batch_size)
        load = encoders.image_spec.load
        pictures = encoders.pictures(load(pipeline.record(int(index)).image) for index in described.index)
        said, references = _texts(encoders, described.said), _texts(encoders, described.references)
        return score(pictures, said, references[:, None]) | statistics.mean(
            "human_clip_score", clip_scores(pictures, references)
        )
