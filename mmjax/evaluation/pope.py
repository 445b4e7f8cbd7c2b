"""POPE (Li et al. 2023): is the system's yes or no about an object in the picture right?

Per picture as many questions about objects that are there as about objects that are not. What is not there is
drawn at random, or is what the most pictures hold (popular), or what most often keeps company with the object
asked about before it (adversarial). 'Yes' is the positive class.

The answer is the first sentence; it is a no where one of the words 'No', 'not' and 'no' is in it, and a yes
otherwise, 'Not at all' and 'nothing' included: that is the published parser (evaluate.py), and the published
figures are its figures.

The public generator replaces every 'a' of the template by 'an' before a vowel ('Is there an umbrella in the
imange?'); its released questions read correctly, and so do ours.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mmjax.data.pipeline import Pipeline
from mmjax.errors import UserError
from mmjax.evaluation import statistics
from mmjax.evaluation.asking import Asking, Question, field, records

STRATEGIES = ("random", "popular", "adversarial")


@dataclasses.dataclass(frozen=True)
class Probe:
    """A question and its answer: image is a file name, label is 'yes' or 'no'."""

    image: str
    object: str
    label: str

    @property
    def text(self) -> str:
        """The question in words."""
        return question(self.object)


def question(object: str, template: str = "Is there a {} in the image?") -> str:
    """The question about an object; the article before `{}` becomes 'an' before a vowel."""
    if object[:1].lower() in tuple("aeiou"):
        template = template.replace(" a {}", " an {}")
    return template.format(object)


def parse(answer: str) -> str:
    """'no' or 'yes'. Example: 'No, there is none.' -> no; 'There is not one' -> no; 'Not at all' -> yes."""
    words = answer.partition(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def rows(said: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """float64[N, 4]: one 1 per record, at true positive, false positive, true negative or false negative.

    said and labels: 'yes' or 'no' each.
    """
    place = {("yes", "yes"): 0, ("yes", "no"): 1, ("no", "no"): 2, ("no", "yes"): 3}
    return np.eye(4)[[place[pair] for pair in zip(said, labels, strict=True)]]


def metrics(counts: np.ndarray) -> dict[str, np.ndarray]:
    """accuracy, precision, recall, f1 and yes_share of (TP, FP, TN, FN), float[..., 4] -> float64[...] each.

    0 where a figure has nothing to divide by, such as the precision of a system that never says yes.
    """
    positive, wrong, negative, missed = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    total = positive + wrong + negative + missed
    return {
        "accuracy": statistics.ratio(positive + negative, total),
        "precision": statistics.ratio(positive, positive + wrong),
        "recall": statistics.ratio(positive, positive + missed),
        "f1": statistics.ratio(2 * positive, 2 * positive + wrong + missed),
        "yes_share": statistics.ratio(positive + wrong, total),
    }


def score(said: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """count, and the metrics of free-text answers with their intervals. labels: 'yes' or 'no'."""
    table = rows([parse(answer) for answer in said], labels)
    return {"count": len(table), **statistics.figures(table, metrics)}


def probes(
    images: Sequence[tuple[str, Sequence[str]]], strategy: str, *, each: int = 3, seed: int = 0
) -> list[Probe]:
    """`each` questions with yes and as many with no for every picture that holds at least `each` objects.

    Args:
      images: (file name, its objects, the most important ones first). All of them count as statistics.
      strategy: one of STRATEGIES.
      seed: of what is drawn at random. Every picture has a generator of its own, derived from its name, so
        that its questions do not depend on the order of the pictures; ties go by the alphabet.

    Raises:
      UserError: an unknown strategy, or a picture that leaves too few objects to ask for.
    """
    if strategy not in STRATEGIES:
        raise UserError(f"the strategy of the probes is {strategy!r}: use one of {', '.join(STRATEGIES)}.")
    frequency = collections.Counter(object for _, held in images for object in set(held))
    company = collections.defaultdict(collections.Counter)
    for _, held in images:
        for object in set(held):
            company[object].update(set(held) - {object})
    popular = _ranked(frequency)
    result = []
    for image, held in images:
        present = list(dict.fromkeys(held))[:each]
        if len(present) < each:
            continue
        rng = np.random.default_rng([seed, *image.encode()])
        absent = [object for object in sorted(frequency) if object not in held]
        if len(absent) < each:
            raise UserError(
                f"picture {image} leaves {len(absent)} objects that it does not hold: add others."
            )
        shuffled, asked = list(rng.permutation(absent)), set(held)
        for object in present:
            order = {"random": [], "popular": popular, "adversarial": _ranked(company[object])}[strategy]
            other = str(next(one for one in [*order, *shuffled] if one not in asked))
            asked.add(other)
            result += [Probe(image, object, "yes"), Probe(image, other, "no")]
    return result


def _ranked(counter: collections.Counter) -> list[str]:
    return sorted(counter, key=lambda object: (-counter[object], object))


@dataclasses.dataclass(frozen=True, kw_only=True)
class POPE(Asking):
    """The POPE figures on a public question file: one `{"image", "text", "label"}` a line."""

    questions: str = ""

    def __call__(self, system: Any, params: Any, pipeline: Pipeline, *, key: jax.Array) -> dict[str, float]:
        """Raises UserError when the system does not write, or a file is missing. Nothing here is random."""
        asked, labels = [], []
        for one in records(self.questions)[: self.limit]:
            asked.append(Question(*(field(one, name, self.questions) for name in ("image", "text"))))
            labels.append(field(one, "label", self.questions))
        if wrong := set(labels) - {"yes", "no"}:
            raise UserError(f"{self.questions} has the label {min(wrong)!r}: labels are 'yes' or 'no'.")
        return score(self.answers(system, params, pipeline, asked), labels)

    @property
    def sources(self) -> tuple[str, ...]:
        """What the figures rest on, beside the system."""
        return self.questions, self.images
