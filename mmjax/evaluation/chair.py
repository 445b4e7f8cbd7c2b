"""CHAIR (Rohrbach et al. 2018): how many of the objects that a caption names are not in its picture?

    CHAIRi = mentions of absent objects / mentions of objects         (over all captions together)
    CHAIRs = captions with a mention of an absent object / captions

Which words name which object is the caller's vocabulary, one list of synonyms per object. What a picture
holds is the union of its annotated objects and of those that its reference captions name.

The public script (utils/chair.py) makes words singular with the package `pattern`, and knows a fixed list of
expressions of two words. Here words are looked up as they stand, then by plain rules for the singular
(`singular`), and every expression of the vocabulary counts as one word, the longest first.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax.data.pipeline import Pipeline
from mmjax.errors import UserError
from mmjax.evaluation import statistics
from mmjax.evaluation.asking import Asking, Question, field, records

_ANIMALS = (
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "animal",
    "cub",
)

# The script's rules for COCO: what an expression stands for, '' for no object of COCO. 'passenger jet' holds
# no passenger, 'home plate' nothing to eat from.
COCO_PHRASES = {
    **{f"{age} {animal}": animal for age in ("baby", "adult") for animal in _ANIMALS},
    **{f"passenger {vehicle}": vehicle for vehicle in ("jet", "train")},
    "bow tie": "tie",
    "toilet seat": "toilet",
    "home plate": "",
    "train track": "",
}
COCO_UNLESS = {"seat": "toilet"}  # 'the seat of the toilet' is no chair

_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth": "tooth",
    "geese": "goose", "mice": "mouse", "knives": "knife", "wives": "wife", "buses": "bus", "leaves": "leaf",
    "loaves": "loaf", "shelves": "shelf", "wolves": "wolf", "calves": "calf", "halves": "half", "dice": "die",
}  # fmt: skip
_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_NO_PLURAL = ("ss", "us", "is", "sheep", "series", "skis", "scissors")


def singular(word: str) -> str:
    """The singular of an English noun by rule: women -> woman, cherries -> cherry, glass -> glass."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("men") and len(word) > 5:  # policemen
        return word[:-2] + "an"
    if not word.endswith("s") or word.endswith(_NO_PLURAL) or len(word) < 4:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zzes", "toes")):
        return word[:-2]
    return word[:-1]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Which words name which object.

    Attributes:
      synonyms: one list per object; the first is the object's name.
      phrases: expressions that stand for one word, or with '' for no object.
      unless: words that name nothing in a caption that also holds the word they map to.
    """

    synonyms: Sequence[Sequence[str]]
    phrases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unless: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, path: str) -> "Vocabulary":
        """The public file: a line per object, synonyms parted by commas, with the rules for COCO."""
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"the synonyms cannot be read from {path!r}: give a text file.") from error
        synonyms = [[word.strip() for word in line.split(",")] for line in lines if line.strip()]
        return cls(synonyms, COCO_PHRASES, COCO_UNLESS)

    @functools.cached_property
    def names(self) -> Mapping[str, str]:
        """word or expression -> name of its object."""
        return {word.lower(): several[0] for several in self.synonyms for word in several}

    @functools.cached_property
    def _expressions(self) -> re.Pattern:
        """Any expression of two words or more, the longest first; its last word may be a plural."""
        several = sorted(
            {*self.phrases, *(name for name in self.names if " " in name)}, key=len, reverse=True
        )
        return re.compile(rf"(?<= )({'|'.join(map(re.escape, several)) or '(?!)'})(?:es|s)?(?= )")

    def mentions(self, caption: str) -> list[str]:
        """The names of the objects of a caption, in order, repeated mentions repeated.

        Example, for a bow tie that counts as a tie: 'Two men and a dog in bow ties' -> person, dog, tie.
        """
        text = " " + " ".join(_WORD.findall(caption.lower())) + " "
        words, place = [], 0
        for found in self._expressions.finditer(text):
            words += [*text[place : found.start()].split(), self.phrases.get(found[1], found[1])]
            place = found.end()
        words += text[place:].split()
        words = [word if word in self.names else singular(word) for word in words]
        present = set(words)
        return [
            self.names[word] for word in words if word in self.names and self.unless.get(word) not in present
        ]

    def objects(self, annotated: Sequence[str], captions: Sequence[str] = ()) -> Set[str]:
        """What a picture holds: its annotated objects by name, and those that reference captions mention."""
        named = {self.names.get(object.lower(), object) for object in annotated}
        return named.union(*(self.mentions(caption) for caption in captions))


def rows(mentions: Sequence[Sequence[str]], objects: Sequence[Set[str]]) -> np.ndarray:
    """float64[N, 5] per caption: absent mentions, mentions, any absent (0 or 1), named objects, objects."""
    table = np.zeros((len(mentions), 5))
    for row, named, held in zip(table, mentions, objects, strict=True):
        absent = sum(name not in held for name in named)
        row[:] = absent, len(named), absent > 0, len(held.intersection(named)), len(held)
    return table


def score(mentions: Sequence[Sequence[str]], objects: Sequence[Set[str]]) -> dict[str, float]:
    """count, chair_i, chair_s, recall (of the objects of all pictures) and their intervals, in 0..1.

    mentions: what each caption names, from `Vocabulary.mentions`. objects: what each picture holds.
    """
    table = rows(mentions, objects)
    return {
        "count": len(table),
        **statistics.share("chair_i", table[:, 0], table[:, 1]),
        **statistics.mean("chair_s", table[:, 2]),
        **statistics.share("recall", table[:, 3], table[:, 4]),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class CHAIR(Asking):
    """CHAIR of the descriptions that a system writes.

    Attributes:
      annotations: a line of JSON per picture, `{"image": file, "objects": [...], "captions": [...]}`, where
        the captions may be missing.
      synonyms: a line per object, see `Vocabulary.load`. prompt: how the description is asked for.
    """

    annotations: str = ""
    synonyms: str = ""
    prompt: str = "Describe this image."
    template: str = "<bos><image>{caption}"
    length: int = 64

    def __call__(self, system: Any, params: Any, pipeline: Pipeline, *, key: jax.Array) -> dict[str, float]:
        """Raises UserError when the system does not write, or a file is missing. Nothing here is random."""
        vocabulary = Vocabulary.load(self.synonyms)
        entries = records(self.annotations)[: self.limit]
        asked = [Question(field(one, "image", self.annotations), self.prompt) for one in entries]
        held = [
            vocabulary.objects(field(one, "objects", self.annotations), one.get("captions", ()))
            for one in entries
        ]
        said = self.answers(system, params, pipeline, asked)
        return score([vocabulary.mentions(one) for one in said], held)

    @property
    def sources(self) -> tuple[str, ...]:
        """What the figures rest on, beside the system."""
        return self.annotations, self.synonyms, self.images
