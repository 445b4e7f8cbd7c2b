"""Demonstrations before a question: what a model is shown when it is asked with a few shots.

    <bos><image>Question: what is it? Short answer: a cat<eos>
    <image>Question: what colour is it? Short answer:

A demonstration is the question's own template with an answer behind it and the end token, on which the model
then stops. Which ones come first is drawn for every question, or follows from its picture: the most similar
ones, the nearest last (RICES; Yang et al. 2022, Flamingo appendix A.2). With no shots a model still has to be
told the form of an answer: `blind` demonstrations then appear without their pictures (Flamingo, section 3.3).
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mmjax.data.templates import Template
from mmjax.data.tokenizer import Tokenizer
from mmjax.errors import UserError
from mmjax.evaluation.encoders import Encoders, unit


@dataclasses.dataclass(frozen=True)
class Demonstration:
    """A picture, as a path, a question about it and its answer."""

    image: Path
    question: str
    answer: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shots:
    """Which demonstrations are shown, and how.

    Attributes:
      count: demonstrations with their pictures. blind: text-only ones where `count` is 0.
      examples: a file of `{"image": ..., "question": ..., "answer": ...}`, a JSON list or one object a line.
      images: directory of their pictures.
      similar: the most similar pictures, by the evaluator's judge, in place of a draw.
      seed: of the draws; that of a question depends on its number and on no batch.
      between: stands between a prompt and its answer. end: the token behind an answer.
      until: what a model says counts up to the first match of this pattern; "" for all of it.
    """

    count: int = 4
    blind: int = 2
    examples: str = ""
    images: str = ""
    similar: bool = False
    seed: int = 0
    between: str = " "
    end: str = "<eos>"
    until: str = ""

    def choose(
        self, pool: Sequence[Demonstration], pictures: Sequence[Path], encoders: Encoders | None = None
    ) -> list[list[Demonstration]]:
        """For each question, given its picture, what is shown before it. Its own picture never is.

        Raises:
          UserError: the pool is too small, or similar ones are wanted and there is nothing to embed pictures.
        """
        wanted, images = self.count or self.blind, np.array([str(one.image) for one in pool])
        similarity = self._similarity(pool, pictures, encoders) if self.similar else None
        chosen = []
        for number, picture in enumerate(pictures):
            others = np.flatnonzero(images != str(picture))
            if len(others) < wanted:
                raise UserError(
                    f"{self.examples} has no {wanted} demonstrations of other pictures: add some."
                )
            if similarity is None:
                draw = np.random.default_rng((self.seed, number)).choice(others, wanted, replace=False)
            else:
                nearest = np.argsort(-similarity(number)[others], kind="stable")[:wanted]
                draw = others[nearest[::-1]]
            chosen.append([pool[place] for place in draw])
        return chosen

    def prompt(
        self, tokenizer: Tokenizer, template: str, shown: Sequence[Demonstration], question: str
    ) -> np.ndarray:
        """The ids of the demonstrations and the question behind them, int32[P]."""
        ids = []
        for one in shown:
            text = template if self.count else template.replace("<image>", "")
            ids += [*_ids(tokenizer, text, one.question)]
            ids += tokenizer.encode(self.between + one.answer, special=False)
            ids += [tokenizer.id(self.end)]
            template = template.removeprefix("<bos>")
        return np.array([*ids, *_ids(tokenizer, template, question)], np.int32)

    def pictures(self, shown: Sequence[Demonstration], own: Path) -> list[Path]:
        """The pictures of a prompt in the order of their markers, the question's own last."""
        return [*(one.image for one in shown if self.count), own]

    def cut(self, said: str) -> str:
        """The answer in what a model said."""
        return (re.split(self.until, said, maxsplit=1)[0] if self.until else said).strip()

    def _similarity(self, pool, pictures, encoders: Encoders | None) -> Callable[[int], np.ndarray]:
        """Of each question, the cosines of its picture and those of the pool: float64[pool]."""
        if encoders is None:
            raise UserError(
                "similar demonstrations are found by a CLIP: give its checkpoint with --judge DIR."
            )
        shown = [one.image for one in pool]
        paths = list(dict.fromkeys([*shown, *pictures]))
        vectors = unit(encoders.pictures(map(encoders.image_spec.load, paths)))
        place = {path: number for number, path in enumerate(paths)}
        of_pool = vectors[[place[path] for path in shown]]
        return lambda number: of_pool @ vectors[place[pictures[number]]]


def demonstrations(records: Sequence, shots: Shots, field: Callable) -> list[Demonstration]:
    """The pool of a file's records; `field(record, name, file)` reads a field or says that it is missing."""
    read = [[field(one, name, shots.examples) for name in ("image", "question", "answer")] for one in records]
    return [Demonstration(Path(shots.images) / image, question, answer) for image, question, answer in read]


def _ids(tokenizer: Tokenizer, template: str, question: str) -> np.ndarray:
    return Template(template).prompt(tokenizer, None, question)["tokens"]
