"""Questions about pictures in files, put to a system that writes: what the file-based benchmarks share.

Greedy answers, in the order of the questions, whatever the batch size. B rows of a batch, P prompt tokens.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax.data.layouts import Sample, lay_out
from mmjax.data.pipeline import Pipeline
from mmjax.data.tokenizer import Tokenizer
from mmjax.errors import UserError
from mmjax.evaluation.encoders import Encoders, filled
from mmjax.evaluation.few_shot import Demonstration, Shots, demonstrations
from mmjax.evaluation.passes import ability, everywhere


@dataclasses.dataclass(frozen=True)
class Question:
    """A picture, as a file name, and the text that goes with it."""

    image: str
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asking:
    """How to ask: the fields that all question evaluators share.

    Attributes:
      images: directory of the pictures.
      template: layout of the prompt; the question takes the place of `{caption}`.
      length: most tokens of an answer. batch_size: questions at a time. limit: only the first so many.
      shots: demonstrations before each question; None for none. judge: a trained CLIP that finds similar
        ones, see `Generation`.
    """

    images: str = ""
    template: str = "<bos><image>Question: {caption} Short answer:"
    length: int = 16
    batch_size: int = 32
    limit: int | None = None
    shots: Shots | None = None
    judge: Any = None

    def answers(
        self, system: Any, params: Any, pipeline: Pipeline, questions: Sequence[Question]
    ) -> list[str]:
        """What the system says to each question.

        Raises:
          UserError: the system does not write, there is no question, or a picture cannot be read.
        """
        caption = ability(system, "caption")
        if not questions:
            raise UserError(f"there is no question about the pictures in {self.images}: check the files.")
        tokenizer, load = pipeline.tokenizer, pipeline.config.image_spec.load
        shots = self.shots or Shots(count=0, blind=0)
        pictures = [Path(self.images) / one.image for one in questions]
        shown = self._shown(pictures) if self.shots else [()] * len(questions)
        prompts = [
            shots.prompt(tokenizer, self.template, before, one.text)
            for before, one in zip(shown, questions, strict=True)
        ]
        longest = max(map(len, prompts))

        @functools.partial(jax.jit, out_shardings=everywhere(params))
        def write(params, image, tokens, segment):
            greedy = jax.random.key(0)  # never read: temperature is 0
            valid = np.ones(image.shape[:2], bool)
            return caption(params, image, valid, tokens, segment, greedy, length=self.length)

        said = []
        for start in range(0, len(questions), self.batch_size):
            part = range(start, min(start + self.batch_size, len(questions)))
            padded = [_padded(tokenizer, prompts[one], longest) for one in part]
            seen = [np.stack([load(p) for p in shots.pictures(shown[one], pictures[one])]) for one in part]
            rows = np.stack(seen), *map(np.stack, zip(*padded, strict=True))
            ids = write(params, *(filled(array, self.batch_size) for array in rows))
            said += [shots.cut(tokenizer.decode(row)) for row in np.asarray(ids)[: len(part)]]
        return said

    def _shown(self, pictures: Sequence[Path]) -> list[list[Demonstration]]:
        """What is shown before each question, given its picture."""
        is_loaded = self.judge is not None and not isinstance(self.judge, str)
        encoders = Encoders.judge(self.judge, batch_size=self.batch_size) if is_loaded else None
        pool = demonstrations(records(self.shots.examples), self.shots, field)
        return self.shots.choose(pool, pictures, encoders)


def _padded(tokenizer: Tokenizer, ids: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and segments, int32[length] each."""
    row = lay_out(tokenizer, [Sample(ids=ids, is_target=np.zeros(len(ids), bool))], length)
    return row["tokens"], row["segment"]


def read(path: str) -> Any:
    """The content of a JSON file.

    Raises:
      UserError: the file is missing or not JSON.
    """
    return _parsed(_text(path), path, "")


def records(path: str) -> list[Any]:
    """The entries of a file that holds one JSON list, or one JSON object per line.

    Raises:
      UserError: the file is missing or neither.
    """
    text = _text(path)
    if text.lstrip().startswith("["):
        return _parsed(text, path, "")
    lines = enumerate(text.splitlines(), 1)
    return [_parsed(line, path, f", line {number}") for number, line in lines if line.strip()]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"{path or 'the file of questions'} cannot be read ({reason}).") from error


def _parsed(text: str, path: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}{where} is not JSON ({error}): mend the file.") from error


def field(record: Any, name: str, path: str) -> Any:
    """`record[name]`; a UserError names the field and the file where it is missing."""
    if not isinstance(record, Mapping) or name not in record:
        raise UserError(f"{path} has a record without the field {name!r}: is it a file of this benchmark?")
    return record[name]
