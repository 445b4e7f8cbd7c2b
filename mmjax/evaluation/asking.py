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

from mmjax.data.pipeline import Pipeline
from mmjax.data.templates import Template
from mmjax.errors import UserError
from mmjax.evaluation.encoders import filled
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
    """

    images: str = ""
    template: str = "<bos><image>Question: {caption} Short answer:"
    length: int = 16
    batch_size: int = 32
    limit: int | None = None

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
        template, tokenizer = Template(self.template), pipeline.tokenizer
        longest = max(len(template.prompt(tokenizer, None, one.text)["tokens"]) for one in questions)

        @functools.partial(jax.jit, out_shardings=everywhere(params))
        def write(params, image, tokens, segment):
            greedy = jax.random.key(0)  # never read: temperature is 0
            valid = np.ones(image.shape[:2], bool)
            return caption(params, image, valid, tokens, segment, greedy, length=self.length)

        said = []
        for start in range(0, len(questions), self.batch_size):
            part = questions[start : start + self.batch_size]
            prompts = [template.prompt(tokenizer, longest, one.text) for one in part]
            rows = (
                np.stack([self._picture(pipeline, one)[None] for one in part]),
                np.stack([prompt["tokens"] for prompt in prompts]),
                np.stack([prompt["segment"] for prompt in prompts]),
            )
            ids = write(params, *(filled(array, self.batch_size) for array in rows))
            said += [tokenizer.decode(row) for row in np.asarray(ids)[: len(part)]]
        return said

    def _picture(self, pipeline: Pipeline, question: Question) -> np.ndarray:
        return pipeline.config.image_spec.load(Path(self.images) / question.image)


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
