"""Templates lay a caption out as the tokens, targets and mask integers of one example.

L tokens. A template is text with special tokens and one `{caption}`:

    <bos>{caption}<eos>                                     contrastive text
    <bos><image>{caption}<eos>                              a caption of the picture before it
    <bos>{caption}<eos><image_query_0>...<image_query_7>    a picture asked for by its caption

Targets are aligned: `targets[i]` is the id that position i should predict, -1 where there is no loss. What
a model could not, or need not, say is never a target: padding, <bos>, <image> and the image queries.
"""

from __future__ import annotations

import dataclasses
import difflib
import re

import numpy as np

from mmjax.data.records import BadRecord
from mmjax.data.tokenizer import IMAGE, SPECIAL_TOKENS, Tokenizer
from mmjax.errors import UserError

CAPTION = "{caption}"
_TAG = re.compile(r"(<\w+>)")


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
        for tag in _TAG.findall(self.text):
            if tag not in SPECIAL_TOKENS:
                near = difflib.get_close_matches(tag, SPECIAL_TOKENS, n=1, cutoff=0.0)[0]
                raise UserError(f"template {self.text!r} has the unknown token {tag}: did you mean {near}?")

    @property
    def images(self) -> int:
        """How many <image> slots an example reserves."""
        return self.text.count(SPECIAL_TOKENS[IMAGE])

    def example(self, tokenizer: Tokenizer, caption: str, length: int) -> dict[str, np.ndarray]:
        """One padded example.

        Returns:
          i32[L] each: tokens, targets, segment (1, and 0 = padding), block_start (1: causal), positions.

        Raises:
          BadRecord: the example has more than `length` tokens (its id is left empty).
        """
        ids = self._ids(tokenizer, self.text, caption)
        if len(ids) > length:
            raise BadRecord("", "caption too long", f"{len(ids)} tokens with its template, room for {length}")
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
        for piece in _TAG.split(text):
            if piece in SPECIAL_TOKENS:
                ids.append(tokenizer.id(piece))
            elif piece:
                # The caption goes into its run of text before encoding, so that a space before it merges
                # with its first word as in running text.
                ids += tokenizer.encode(piece.replace(CAPTION, caption), special=False)
        return ids


def _laid_out(tokenizer: Tokenizer, ids: list[int], length: int) -> dict[str, np.ndarray]:
    roles = tokenizer.roles
    used = np.arange(length) < len(ids)
    tokens = np.full(length, roles.get("<pad>", 0), np.int32)
    tokens[: len(ids)] = ids
    following, is_text = np.roll(tokens, -1), np.roll(used, -1)
    is_text[-1:] = False
    # In some vocabularies padding and the end of a text are one token: the position tells them apart.
    silent = [id for role, id in roles.items() if role != "<eos>" and id != roles.get("<eos>")]
    said = is_text & ~np.isin(following, silent)
    return {
        "tokens": tokens,
        "targets": np.where(said, following, np.int32(-1)),
        "segment": used.astype(np.int32),
        "block_start": used.astype(np.int32),
        "positions": np.where(used, np.arange(length), 0).astype(np.int32),
    }
