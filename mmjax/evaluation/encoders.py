"""Embedding pictures and texts that are not records of a split: class names, drawn pictures, said captions.

Whatever the number of rows, one shape is compiled per tower. B rows of a batch, N rows in all, E embedding.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from mmjax.data.images import ImageSpec
from mmjax.data.templates import Template
from mmjax.data.tokenizer import Tokenizer
from mmjax.errors import UserError
from mmjax.evaluation.passes import ability, everywhere


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoders:
    """The two towers of a CLIP, from text and pictures to unit vectors.

    Attributes:
      system, params: anything with `encode_image` and `encode_text`.
      tokenizer, template, text_length: how a text becomes tokens. image_spec: how a file becomes a picture.
      batch_size: rows at a time; no figure depends on it.
    """

    system: Any
    params: Any
    tokenizer: Tokenizer
    template: str
    text_length: int
    image_spec: ImageSpec
    batch_size: int = 64

    @classmethod
    def of(
        cls, system: Any, params: Any, tokenizer: Tokenizer, config: Any, *, batch_size: int
    ) -> "Encoders":
        """Encoders that lay text and pictures out as `config`, a DataConfig, says."""
        return cls(
            system=system,
            params=params,
            tokenizer=tokenizer,
            template=config.template,
            text_length=config.text_length,
            image_spec=config.image_spec,
            batch_size=batch_size,
        )

    @classmethod
    def judge(cls, judge: Any, *, batch_size: int) -> "Encoders":
        """Encoders of a trained CLIP: anything with system, params, tokenizer and data_config."""
        return cls.of(judge.system, judge.params, judge.tokenizer, judge.data_config, batch_size=batch_size)

    def texts(self, texts: Sequence[str], *, truncate: bool = False) -> np.ndarray:
        """float32[N, E].

        Raises:
          UserError: a text is empty, or longer than `text_length` and not to be truncated (word by word).
        """
        template = Template(self.template)
        fit = (
            self._longest
            if truncate
            else functools.partial(template.prompt, self.tokenizer, self.text_length)
        )
        examples = (fit(str(text)) for text in texts)
        return self._embedded("encode_text", ((one["tokens"], one["segment"]) for one in examples))

    def pictures(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """u8[H, W, 3] each -> float32[N, E]; the pictures may come one by one from a generator."""
        return self._embedded("encode_image", ((picture[None],) for picture in pictures))

    def _longest(self, text: str) -> dict[str, np.ndarray]:
        """The example of as many of the first words as fit."""
        template, words = Template(self.template), text.split()
        for count in range(len(words), 1, -1):
            try:
                return template.prompt(self.tokenizer, self.text_length, " ".join(words[:count]))
            except UserError:
                continue
        return template.prompt(self.tokenizer, self.text_length, text)

    def _embedded(self, name: str, rows: Iterable[tuple[np.ndarray, ...]]) -> np.ndarray:
        run = jax.jit(ability(self.system, name), out_shardings=everywhere(self.params))
        rows, parts = iter(rows), []
        while part := list(itertools.islice(rows, self.batch_size)):
            arrays = (filled(np.stack(column), self.batch_size) for column in zip(*part, strict=True))
            parts.append(np.asarray(run(self.params, *arrays))[: len(part)])
        if not parts:
            raise UserError("there is nothing to embed: give at least one picture and one text.")
        return np.concatenate(parts)


def filled(rows: np.ndarray, size: int) -> np.ndarray:
    """[n, ...] -> [size, ...] by repeating the last row, so that one compiled shape serves all batches."""
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


def unit(vectors: np.ndarray) -> np.ndarray:
    """float[..., E] -> float64 vectors of length 1; a zero vector stays zero."""
    vectors = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
