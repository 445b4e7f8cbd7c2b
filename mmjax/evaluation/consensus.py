"""Captions against several references: CIDEr-D, BLEU and ROUGE-L with coco-caption's conventions.

A caption is a list of words (`ptb.words` gives those of the published figures). N captions, n words of an
n-gram. For CIDEr-D (Vedantam et al. 2015, eq. 4-8) let g(c) count the n-grams of a caption, f the number of
records with a reference that holds an n-gram, and w = g log(N / max(1, f)). Then for each n in 1..4

    sim(c, r) = exp(-(|c| - |r|)^2 / 2 sigma^2)  sum min(w(c), w(r)) w(r) / (||w(c)|| ||w(r)||)

averaged over references and n, times 10, so the best value is 10 (tables print it times 100: 1.2 as 120).
The clipping `min` and the length penalty are what makes it CIDEr-D. With one record all idf are
log 1 = 0, and so is the score.

BLEU (Papineni et al. 2002) is the corpus figure: n-gram counts and lengths are summed over all records; of
the reference lengths the closest one counts, the shorter of two. ROUGE-L takes the best precision and the
best recall over the references apart, even of two different references, and F with beta 1.2.
"""

import collections
import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmjax.data.pipeline import Pipeline
from mmjax.evaluation import ptb, statistics
from mmjax.evaluation.asking import Asking, Question, field, read
from mmjax.evaluation.captions import Captions, Described, another

Words = Sequence[str]
Counts = Mapping[tuple[str, ...], float]

ORDER = 4
_TINY, _SMALL = 1e-15, 1e-9  # coco-caption's: BLEU is 0 rather than undefined where nothing matches


def ngrams(said: Words, n: int) -> collections.Counter:
    """How often each run of n words occurs."""
    return collections.Counter(zip(*(said[start:] for start in range(n)), strict=False))


def cider_d(
    said: Sequence[Words], references: Sequence[Sequence[Words]], *, sigma: float = 6.0
) -> np.ndarray:
    """float64[N], the CIDEr-D of each caption; their mean is the figure. idf is that of these references.

    Source: coco-caption, pycocoevalcap/cider/cider_scorer.py.
    """
    scores = np.zeros(len(said))
    for n in range(1, ORDER + 1):
        counts = [[ngrams(one, n) for one in several] for several in references]
        found = collections.Counter(gram for several in counts for gram in set().union(*several))

        def weighed(grams, found=found):
            return {gram: times * math.log(len(said) / max(1, found[gram])) for gram, times in grams.items()}

        for record, (one, several) in enumerate(zip(said, references, strict=True)):
            candidate = weighed(ngrams(one, n))
            for reference, grams in zip(several, counts[record], strict=True):
                penalty = math.exp(-((len(one) - len(reference)) ** 2) / (2 * sigma**2))
                scores[record] += penalty * _clipped_cosine(candidate, weighed(grams)) / len(several)
    return 10 * scores / ORDER


def _clipped_cosine(said: Counts, reference: Counts) -> float:
    norms = math.sqrt(math.fsum(w * w for w in said.values()) * math.fsum(w * w for w in reference.values()))
    shared = math.fsum(min(said[gram], weight) * weight for gram, weight in reference.items() if gram in said)
    return shared / norms if norms else 0.0


def bleu_rows(said: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """float64[N, 10]: words said, words of the closest reference, then for n = 1..4 right and all n-grams."""
    rows = np.zeros((len(said), 2 + 2 * ORDER))
    for row, one, several in zip(rows, said, references, strict=True):
        row[:2] = len(one), min((abs(len(r) - len(one)), len(r)) for r in several)[1]
        for n in range(1, ORDER + 1):
            most = collections.Counter()
            for reference in several:
                most |= ngrams(reference, n)
            row[2 * n] = sum((ngrams(one, n) & most).values())
            row[2 * n + 1] = max(len(one) - n + 1, 0)
    return rows


def bleu(sums: np.ndarray, n: int) -> np.ndarray:
    """Corpus BLEU-n of sums of `bleu_rows`, float64[..., 10] -> float64[...], in 0..1."""
    right, made = sums[..., 2 : 2 * n + 2 : 2], sums[..., 3 : 2 * n + 2 : 2]
    precision = np.prod((right + _TINY) / (made + _SMALL), axis=-1) ** (1 / n)
    lengths = (sums[..., 0] + _TINY) / (sums[..., 1] + _SMALL)
    return precision * np.exp(np.minimum(0, 1 - 1 / lengths))


def rouge_l(said: Sequence[Words], references: Sequence[Sequence[Words]], *, beta: float = 1.2) -> np.ndarray:
    """float64[N], the ROUGE-L of each caption, in 0..1; their mean is the figure."""
    return np.array([_rouge(*pair, beta) for pair in zip(said, references, strict=True)])


def _rouge(said: Words, references: Sequence[Words], beta: float) -> float:
    common = [longest_common(said, reference) for reference in references]
    precision = max(common) / max(len(said), 1)
    recall = max(length / max(len(r), 1) for length, r in zip(common, references, strict=True))
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision) if precision else 0.0


def longest_common(one: Words, other: Words) -> int:
    """Length of the longest common subsequence."""
    before = [0] * (len(other) + 1)
    for word in one:
        here = [0]
        for place, candidate in enumerate(other):
            here.append(before[place] + 1 if word == candidate else max(before[place + 1], here[-1]))
        before = here
    return before[-1]


def score(said: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """count, cider, bleu_1..bleu_4 and rouge_l of captions, each with its interval.

    Args:
      said: N captions. references: for each one or more captions that people wrote. Both as plain text.
    """
    said = [ptb.words(caption) for caption in said]
    references = [[ptb.words(caption) for caption in several] for several in references]
    rows = bleu_rows(said, references)
    return {
        "count": len(said),
        **statistics.mean("cider", cider_d(said, references)),
        **statistics.figures(rows, lambda sums: {f"bleu_{n}": bleu(sums, n) for n in range(1, ORDER + 1)}),
        **statistics.mean("rouge_l", rouge_l(said, references)),
    }


def of_files(candidates: str, references: str) -> dict[str, float]:
    """`score` of two JSON files in the layout of jmhessel/clipscore, `{picture: caption}` and
    `{picture: [caption, ...]}`; a UserError names a picture that has no references.
    """
    said, known = read(candidates), read(references)
    return score(list(said.values()), [_several(field(known, name, references)) for name in said])


@dataclasses.dataclass(frozen=True, kw_only=True)
class COCOCaptions(Asking):
    """`score` of the captions that a system writes for pictures in files, against COCO's annotations.

    Attributes:
      annotations: a `captions_*.json` of COCO. prompt: what comes before the caption; it may not be empty.
    """

    annotations: str = ""
    prompt: str = "A photo of"
    template: str = "<bos><image>{caption}"
    length: int = 32

    def __call__(self, system: Any, params: Any, pipeline: Pipeline, *, key: jax.Array) -> dict[str, float]:
        """Raises UserError when the system does not write, or a file is missing. Nothing here is random."""
        content, references = read(self.annotations), collections.defaultdict(list)
        for one in field(content, "annotations", self.annotations):
            references[field(one, "image_id", self.annotations)].append(one["caption"])
        images = [one for one in field(content, "images", self.annotations) if one["id"] in references]
        images = images[: self.limit]
        said = self.answers(system, params, pipeline, [Question(i["file_name"], self.prompt) for i in images])
        return score(said, [references[one["id"]] for one in images])

    @property
    def sources(self) -> tuple[str, ...]:
        """What the figures rest on, beside the system."""
        return self.annotations, self.images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Consensus(Captions):
    """Greedy captions of a split against its captions: cider, bleu_1..4, rouge_l, and `shuffled_cider`.

    The fields are those of `Captions`. Records that show the same picture (equal bytes) are one picture with
    several references, as in COCO, and it counts once.
    """

    def __call__(self, system: Any, params: Any, pipeline: Pipeline, *, key: jax.Array) -> dict[str, float]:
        """Raises UserError when the system writes no captions. The key chooses the shuffled partners."""
        return self.score(gathered(self.describe(system, params, pipeline), pipeline), key=key)

    def score(self, described: Described, *, key: jax.Array) -> dict[str, float]:
        """The figures and, as control, the CIDEr of every caption under another picture's references."""
        references = [_several(one) for one in described.references]
        partner = another(len(described.said), key)
        shuffled = [ptb.words(described.said[other]) for other in partner]
        control = cider_d(shuffled, [[ptb.words(r) for r in several] for several in references])
        return score(described.said, references) | {"shuffled_cider": float(np.mean(control))}


def _several(references: str | Sequence[str]) -> Sequence[str]:
    return (references,) if isinstance(references, str) else references


def gathered(described: Described, pipeline: Pipeline) -> Described:
    """One entry per picture, with the references of all its records."""
    first, references = {}, collections.defaultdict(list)
    for place, index in enumerate(described.index):
        picture = hashlib.sha256(pipeline.record(int(index)).image).digest()
        first.setdefault(picture, place)
        references[picture].append(described.references[place])
    places = list(first.values())
    return Described(
        described.index[places], [described.said[place] for place in places], list(references.values())
    )
