"""Templates lay a caption out as the tokens, targets and mask integers of one example.

L tokens. A template is text with special tokens and one `{caption}`:

    <bos>{caption}<eos>                                     contrastive text
    <bos><image>{caption}<eos>                              a caption of the picture before it
    <bos>{caption}<eos><image_query_0>...<image_query_7>    a picture asked for by its caption

All of it is learned but what no model says: <bos>, <image> and the image queries.
"""

from __future__ import annotations

import dataclasses
import difflib

import numpy as np

from mmjax.data.layouts import TAG, Sample, Slots, lay_out, one_slot
from mmjax.data.records import BadRecord, Record
from mmjax.data.tokenizer import IMAGE, SPECIAL_TOKENS, Tokenizer
from mmjax.errors import UserError

CAPTION = "{caption}"


@dataclasses.dataclass(frozen=True)
class Template:
    """The layout of one example.

    Raises:
      UserError: not exactly one `{caption}`, or a `<tag>` that is no special token.
    """

    text: str

    def __post_init__(self):
        if self.text.count(CAPTION) != 1:
            raise UserError(f"template {self.text!r} needs exactly one {CAPTION}.")
        for tag in TAG.findall(self.text):
            if tag not in SPECIAL_TOKENS:
                near = difflib.get_close_matches(tag, SPECIAL_TOKENS, n=1, cutoff=0.0)[0]
                raise UserError(f"template {self.text!r} has the unknown token {tag}: did you mean {near}?")

    @property
    def images(self) -> int:
        """How many <image> slots an example reserves."""
        return self.text.count(SPECIAL_TOKENS[IMAGE])

    def sample(self, tokenizer: Tokenizer, record: Record, length: int, slots: Slots = one_slot) -> Sample:
        """A captioned picture as a sample; the picture belongs to it whether or not there is an <image>.

        Raises:
          BadRecord: more than `length` tokens, or nothing to learn.
        """
        ids = np.array(self._ids(tokenizer, self.text, record.caption), np.int32)
        marker = tokenizer.roles.get(SPECIAL_TOKENS[IMAGE])
        if self.images and (count := slots(record.image)) != 1:
            ids = np.repeat(ids, np.where(ids == marker, count, 1))
        _check_length(len(ids), length)
        is_target = _said(tokenizer, ids)
        if not is_target[1:].any():
            raise BadRecord("", "no target", "its caption has no token that a model could learn to say")
        return Sample(ids=ids, is_target=is_target, pictures=(record.image,))

    def example(self, tokenizer: Tokenizer, caption: str, length: int) -> dict[str, np.ndarray]:
        """One padded example.

        Returns:
          i32[L] each: tokens, targets, segment (1, and 0 = padding), block_start (1: causal), positions.

        Raises:
          BadRecord: the example has more than `length` tokens (its id is left empty).
        """
        ids = self._ids(tokenizer, self.text, caption)
        _check_length(len(ids), length)
        return _laid_out(tokenizer, ids, length)

    def prompt(
        self, tokenizer: Tokenizer, length: int | None = None, caption: str | None = None
    ) -> dict[str, np.ndarray]:
        """What a model is given to start from: all that comes before `{caption}`, or, with a caption, the
        whole example.

        Returns:
          As `example`, padded to `length` if there is one.

        Raises:
          UserError: empty text, or more tokens than `length`.
        """
        if caption is not None and not caption.strip():
            raise UserError("the text is empty: write what the picture should show.")
        text = self.text if caption is not None else self.text.partition(CAPTION)[0]
        ids = self._ids(tokenizer, text, caption or "")
        length = len(ids) if length is None else length
        if len(ids) > length:
            raise UserError(
                f"the text {(caption or text)[:40]!r} takes {len(ids)} tokens, more than the {length} of "
                "data.text_length: shorten it."
            )
        return _laid_out(tokenizer, ids, length)

    def _ids(self, tokenizer: Tokenizer, text: str, caption: str) -> list[int]:
        ids = []
        for piece in TAG.split(text):
            if piece in SPECIAL_TOKENS:
                ids.append(tokenizer.id(piece))
            elif piece:
                # The caption goes into its run of text before encoding, so that a space before it merges
                # with its first word as in running text.
                ids += tokenizer.encode(piece.replace(CAPTION, caption), special=False)
        return ids


def _check_length(count: int, length: int) -> None:
    if count > length:
        raise BadRecord("", "caption too long", f"{count} tokens with its template, room for {length}")


def _said(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    return np.array([id not in tokenizer.silent for id in ids.tolist()], bool)


def _laid_out(tokenizer: Tokenizer, ids: list[int], length: int) -> dict[str, np.ndarray]:
    ids = np.array(ids, np.int32)
    return lay_out(tokenizer, [Sample(ids=ids, is_target=_said(tokenizer, ids))], length)
