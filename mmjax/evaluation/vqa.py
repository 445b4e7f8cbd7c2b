"""VQA accuracy: an answer is right to the extent that people gave it.

With ten people's answers, an answer that m of them gave scores min(1, m / 3), averaged over the ten ways to
leave one person out: 0, .3, .6, .9, 1 for m = 0, 1, 2, 3, 4 and more (Antol et al. 2015). Before comparing,
both sides are normalised as the official script does: punctuation, number words, articles, contractions.

`reference_quirks`: the official script (vqaEval.py) normalises nothing where all people agree word for word,
so that 'Two' is wrong where all ten wrote 'two', and it removes only the first 32 periods. By default every
answer is normalised in full.
"""

import collections
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mmjax.data.pipeline import Pipeline
from mmjax.evaluation import statistics
from mmjax.evaluation.asking import Asking, Question, field, read

_NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_ARTICLES = frozenset(("a", "an", "the"))
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_PERIOD = re.compile(
    r"\.(?!\d)"
)  # the script means to keep any period beside a digit; only one before counts

# An apostrophe that was left out is put back where exactly one is missing. The words are those of the script;
# it leaves alone what would be another word without ('well', 'were', 'its', 'id', 'ill', 'wed', 'shed').
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've
why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
you've
"""


def _without_one(word: str) -> list[str]:
    return [word[:place] + word[place + 1 :] for place, letter in enumerate(word) if letter == "'"]


_RESTORED = {short: word for word in _CONTRACTIONS.split() for short in _without_one(word)}
_RESTORED["somebody'd"] = "somebodyd"  # the script's entry the wrong way round; both sides pass through it


def normalize(answer: str, *, reference_quirks: bool = False) -> str:
    """An answer as the official script compares it.

    A mark of punctuation is dropped where the answer has it next to a space, or has a comma between digits
    anywhere; else it becomes a space. A period is dropped unless a digit follows.

    Example: 'The two-storey house.' -> '2 storey house'; '1,000 people' -> '1000 people'.
    """
    text = " ".join(answer.split("\n")).replace("\t", " ").strip()
    plain, thousands = text, _THOUSANDS.search(text)
    for mark in _PUNCTUATION:
        drop = thousands or f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if drop else " ")
    plain = _PERIOD.sub("", plain, count=32 if reference_quirks else 0)
    words = (_NUMBERS.get(word, word) for word in plain.lower().split())
    return " ".join(_RESTORED.get(word, word) for word in words if word not in _ARTICLES)


def accuracy(answer: str, people: Sequence[str], *, reference_quirks: bool = False) -> float:
    """The share in 0..1 to which `answer` is right, given what people answered (ten in VQA).

    Source: VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py.
    """
    people, answer = [_stripped(one) for one in people], _stripped(answer)
    if not reference_quirks or len(set(people)) > 1:
        people = [normalize(one, reference_quirks=reference_quirks) for one in people]
        answer = normalize(answer, reference_quirks=reference_quirks)
    same = sum(one == answer for one in people)
    return float(np.mean([min(1.0, (same - (one == answer)) / 3) for one in people]))


def _stripped(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def score(accuracies: Sequence[float], kinds: Sequence[str] = ()) -> dict[str, float]:
    """count and accuracy with its interval; with a kind per question also `accuracy_<kind>`, `count_<kind>`.

    kinds: 'yes/no', 'number', 'other' in VQA; '/' and spaces become '_' in the names.
    """
    figures = {"count": len(accuracies), **statistics.mean("accuracy", accuracies)}
    by_kind = collections.defaultdict(list)
    for kind, value in zip(kinds, accuracies, strict=False):
        by_kind[re.sub(r"\W+", "_", kind)].append(value)
    for kind, values in sorted(by_kind.items()):
        figures |= {f"count_{kind}": len(values), **statistics.mean(f"accuracy_{kind}", values)}
    return figures


@dataclasses.dataclass(frozen=True, kw_only=True)
class VQA(Asking):
    """Accuracy on the public question and annotation files of VQA, by type of answer.

    Attributes:
      questions: the `..._questions.json`. annotations: the `..._annotations.json`.
      image_name: file name of a picture, from its number.
    """

    questions: str = ""
    annotations: str = ""
    image_name: str = "COCO_val2014_{:012d}.jpg"
    reference_quirks: bool = False

    def __call__(self, system: Any, params: Any, pipeline: Pipeline, *, key: jax.Array) -> dict[str, float]:
        """Raises UserError when the system does not write, or a file is missing. Nothing here is random."""
        asked = field(read(self.questions), "questions", self.questions)[: self.limit]
        known = {
            field(one, "question_id", self.annotations): one
            for one in field(read(self.annotations), "annotations", self.annotations)
        }
        questions, annotations = [], []
        for one in asked:
            image = self.image_name.format(field(one, "image_id", self.questions))
            questions.append(Question(image, field(one, "question", self.questions)))
            annotations.append(field(known, field(one, "question_id", self.questions), self.annotations))
        said = self.answers(system, params, pipeline, questions)
        accuracies = [
            accuracy(
                answer,
                [person["answer"] for person in one["answers"]],
                reference_quirks=self.reference_quirks,
            )
            for answer, one in zip(said, annotations, strict=True)
        ]
        return score(accuracies, [one.get("answer_type", "other") for one in annotations])

    @property
    def sources(self) -> tuple[str, ...]:
        """What the figures rest on, beside the system."""
        return self.questions, self.annotations, self.images
