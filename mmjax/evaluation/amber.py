"""AMBER (Wang et al. 2023): hallucination in descriptions, and in answers to yes-or-no questions.

Descriptions. Of the nouns of a response that belong to AMBER's vocabulary, a noun is right where it names an
object of the picture, or goes with one (`relation.json`: 'street' with 'road'), or is a safe word:

    CHAIR  wrong nouns / nouns            Cover  objects of the picture named / objects
    Hal    responses with a wrong noun    Cog    listed likely hallucinations named / listed ones

Questions. As every existence question is to be answered 'no', the positive class of precision, recall and F1
is 'no' (POPE's is 'yes'). All figures are in percent; score = (100 - CHAIR + F1) / 2.

`reference_quirks` does as inference.py and metrics.txt do; by default we do without:
- every denominator starts at .001, F1 has .0001 in its own (existence: .001), and figures are rounded to one
  decimal, precision and recall before they enter F1;
- an answer counts only where it is exactly 'Yes' or 'No' (default: its first word, in any case);
- a noun covers one object only, the first that it goes with, even if it is the very name of another one; of
  an object that is listed twice only the first is ever covered; and a noun is marked as a likely
  hallucination even when it turns out to be similar to an object of the picture.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax.data.pipeline import Pipeline
from mmjax.errors import UserError
from mmjax.evaluation import statistics
from mmjax.evaluation.asking import Asking, Question, field, read, records
from mmjax.evaluation.chair import singular

Similar = Callable[[str, str], bool]

# What the types of annotations.json are called in the figures; the released file has both names of the last.
KINDS = {
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "state",
    "discriminative-attribute-number": "number",
    "discriminative-attribute-action": "action",
    "discriminative-relation": "relation",
    "relation": "relation",
}
ATTRIBUTES = ("state", "number", "action")

_START = 0.001  # the reference's counters begin here (metrics.txt)


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """AMBER's words: for each object the words that go with it, and the words that are never wrong.

    similar: whether two different words mean the same; the reference asks spaCy for a similarity above .8.
    """

    associations: Mapping[str, Sequence[str]]
    safe: Collection[str] = ()
    similar: Similar | None = None

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """The vocabulary."""
        return frozenset(self.associations).union(*self.associations.values())

    def nouns(self, response: str) -> list[str]:
        """The words of a response, as they stand or made singular, that belong to the vocabulary.

        The reference keeps the words that NLTK tags as nouns, so that a verb such as 'plants' is none there.
        """
        found = re.findall(r"[a-z][a-z-]*", response.lower())
        found = (word if word in self.words else singular(word) for word in found)
        return [word for word in found if word in self.words]

    def matches(
        self, noun: str, objects: Sequence[str], *, similar: bool = False, first: bool = False
    ) -> set[int]:
        """Which of the objects, by number, a noun names or goes with.

        similar: also by similarity. first: only the first of them, in the order of the reference: the words
        that go with any object come before the objects.
        """
        pairs = [(n, word) for n, object in enumerate(objects) for word in self.associations.get(object, ())]
        pairs += enumerate(objects)
        alike = (similar and self.similar) or str.__eq__
        found = (number for number, word in pairs if word == noun or alike(noun, word))
        return set(itertools.islice(found, 1 if first else None))


def described(
    nouns: Sequence[str],
    truth: Sequence[str],
    likely: Sequence[str],
    lexicon: Lexicon,
    *,
    reference_quirks: bool = False,
) -> np.ndarray:
    """float64[7] of one response: wrong nouns, nouns, covered, objects, likely ones named, listed, any wrong.

    nouns: from `Lexicon.nouns`. truth: the objects of the picture. likely: its listed hallucinations.
    """
    wrong, covered, marked = 0, set(), set()
    if not reference_quirks:
        truth, likely = list(dict.fromkeys(truth)), list(dict.fromkeys(likely))
    for noun in nouns:
        if noun in lexicon.safe:
            continue
        if named := lexicon.matches(noun, truth, first=reference_quirks):
            covered |= named
            continue
        right = lexicon.matches(noun, truth, similar=True, first=reference_quirks)
        if reference_quirks or not right:
            marked |= lexicon.matches(noun, likely, first=reference_quirks)
            marked |= lexicon.matches(noun, likely, similar=True, first=reference_quirks)
        covered |= right
        wrong += not right
    return np.array(
        [wrong, len(nouns), len(covered), len(truth), len(marked), len(likely), wrong > 0], np.float64
    )


def generative(rows: np.ndarray, *, reference_quirks: bool = False) -> dict[str, float]:
    """chair, cover, hal and cog in percent, with their intervals. rows: float[N, 7] from `described`."""
    wholes = {"chair": rows[:, 1], "cover": rows[:, 3], "hal": np.ones(len(rows)), "cog": rows[:, 5]}
    figures = {}
    for (name, whole), column in zip(wholes.items(), (0, 2, 6, 4), strict=True):
        shares = statistics.share(name, rows[:, column], whole)
        figures |= {key: 100 * value for key, value in shares.items()}
        if reference_quirks:
            figures[name] = _rounded(rows[:, column].sum(), whole.sum())
    if reference_quirks:  # the reference counts the responses without a wrong noun
        figures["hal"] = round(100 - 100 * float((1 - rows[:, 6]).sum()) / (len(rows) + _START), 1)
    return figures


def _rounded(part: float, whole: float) -> float:
    return round(100 * float(part) / (float(whole) + _START), 1)


def parse(answer: str, *, reference_quirks: bool = False) -> str:
    """'yes', 'no' or '' where the answer is neither."""
    if reference_quirks:
        return {"Yes": "yes", "No": "no"}.get(answer, "")
    word = re.match(r"\W*(yes|no)\b", answer, re.IGNORECASE)
    return word[1].lower() if word else ""


def answered(said: Sequence[str], truths: Sequence[str], *, reference_quirks: bool = False) -> np.ndarray:
    """float64[N, 5] per question: right, said no and right, should be no, said no, 1.

    said: free text. truths: 'yes' or 'no'.
    """
    table = np.ones((len(said), 5))
    for row, answer, truth in zip(table, said, truths, strict=True):
        one = parse(answer, reference_quirks=reference_quirks)
        row[:4] = one == truth, one == truth == "no", truth == "no", one == "no"
    return table


def metrics(sums: np.ndarray) -> dict[str, np.ndarray]:
    """accuracy, precision, recall, f1 in percent, 'no' positive, of sums float[..., 5] of `answered`."""
    right, both, should, no, count = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    return {
        "accuracy": 100 * statistics.ratio(right, count),
        "precision": 100 * statistics.ratio(both, no),
        "recall": 100 * statistics.ratio(both, should),
        "f1": 100 * statistics.ratio(2 * both, no + should),
    }


def _with_quirks(sums: np.ndarray, epsilon: float) -> dict[str, float]:
    right, both, should, no, count = sums
    accuracy, precision, recall = (_rounded(*p) for p in ((right, count), (both, no), (both, should)))
    f1 = 2 * (precision / 100) * (recall / 100) / (precision / 100 + recall / 100 + epsilon)
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": round(100 * f1, 1)}


def discriminative(rows: np.ndarray, *, reference_quirks: bool = False, name: str = "") -> dict[str, float]:
    """accuracy, precision, recall and f1 in percent, with their intervals; `<metric>_<name>` with a name.

    rows: float[N, 5] from `answered`.
    """
    ending = f"_{name}" if name else ""
    found = statistics.figures(
        rows, lambda sums: {metric + ending: value for metric, value in metrics(sums).items()}
    )
    if reference_quirks:
        exact = _with_quirks(rows.sum(axis=0), 0.001 if name == "existence" else 0.0001)
        found |= {metric + ending: value for metric, value in exact.items()}
    return found


def amber_score(chair: float, f1: float) -> float:
    """(100 - CHAIR + F1) / 2, both in percent."""
    return (100 - chair + f1) / 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class AMBER(Asking):
    """All figures of AMBER.

    Attributes:
      data: the directory `data` of the release: annotations.json, relation.json, safe_words.txt, query/.
    """

    data: str = ""
    template: str = "<bos><image>{caption}"
    length: int = 64
    reference_quirks: bool = False

    def __call__(self, system: Any, params: Any, pipeline: Pipeline, *, key: jax.Array) -> dict[str, float]:
        """Raises UserError when the system does not write, or a file is missing. Nothing here is random."""
        asked = records(f"{self.data}/query/query_all.json")[: self.limit]
        questions = [
            Question(field(one, "image", self.data), field(one, "query", self.data)) for one in asked
        ]
        said = self.answers(system, params, pipeline, questions)
        return self.score({field(one, "id", self.data): text for one, text in zip(asked, said, strict=True)})

    def score(self, responses: Mapping[int, str]) -> dict[str, float]:
        """The figures of responses by the number of their query."""
        annotations = {one["id"]: one for one in records(f"{self.data}/annotations.json")}
        lexicon = Lexicon(read(f"{self.data}/relation.json"), self._safe_words())
        quirks, rows, table = self.reference_quirks, [], {}
        for number, response in sorted(responses.items()):
            one = field(annotations, number, self.data)
            if one["type"] == "generative":
                nouns = lexicon.nouns(response)
                rows.append(described(nouns, one["truth"], one["hallu"], lexicon, reference_quirks=quirks))
            else:
                answer = answered([response], [one["truth"]], reference_quirks=quirks)
                table.setdefault(KINDS.get(one["type"], "relation"), []).append(answer)
        return self._figures(np.array(rows), {kind: np.concatenate(some) for kind, some in table.items()})

    def _figures(self, rows: np.ndarray, table: Mapping[str, np.ndarray]) -> dict[str, float]:
        quirks = self.reference_quirks
        figures = {"count": len(rows) + sum(map(len, table.values()))}
        if len(rows):
            figures |= generative(rows, reference_quirks=quirks)
        if attributes := [table[kind] for kind in ATTRIBUTES if kind in table]:
            table = {**table, "attribute": np.concatenate(attributes)}
        for name, some in sorted(table.items()):
            figures |= discriminative(some, reference_quirks=quirks, name=name)
        if whole := [some for kind, some in table.items() if kind != "attribute"]:
            figures |= discriminative(np.concatenate(whole), reference_quirks=quirks)
        if len(rows) and whole:
            figures["amber_score"] = amber_score(figures["chair"], figures["f1"])
        return figures

    def _safe_words(self) -> frozenset[str]:
        path = Path(self.data) / "safe_words.txt"
        try:
            return frozenset(path.read_text(encoding="utf-8").split("\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: give the directory `data` of AMBER.") from error

    @property
    def sources(self) -> tuple[str, ...]:
        """What the figures rest on, beside the system."""
        return self.data, self.images
