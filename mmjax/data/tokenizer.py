"""A byte-level BPE tokenizer trained on the captions at hand, wrapping `tokenizers`.

Every text has tokens (256 byte tokens are always there), so there is no unknown token. The special tokens
come first and their ids never change, whatever the captions: models and templates rely on that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from mmjax.errors import UserError

IMAGE_QUERIES = 8
SPECIAL_TOKENS = (
    "<pad>",
    "<bos>",
    "<eos>",
    "<image>",
    *(f"<image_query_{i}>" for i in range(IMAGE_QUERIES)),
)
PAD, BOS, EOS, IMAGE, IMAGE_QUERY = range(5)  # IMAGE_QUERY is the first of IMAGE_QUERIES ids
_SMALLEST = len(SPECIAL_TOKENS) + 256


class Tokenizer:
    """Text to ids and back. Immutable, safe to share between threads."""

    def __init__(self, json: str):
        self._json = json
        self._special = tokenizers.Tokenizer.from_str(json)
        # A second copy, because the switch is state of the object: captions are data and must not be able
        # to smuggle in an <eos> or an <image>.
        self._plain = tokenizers.Tokenizer.from_str(json)
        self._plain.encode_special_tokens = True

    @classmethod
    def train(cls, captions: Iterable[str], vocabulary_size: int) -> Tokenizer:
        """Learns merges from captions; a pure function of them.

        The vocabulary ends up smaller than `vocabulary_size` when the captions run out of pairs to merge.

        Raises:
          UserError: `vocabulary_size` has no room for the special and byte tokens.
        """
        if vocabulary_size < _SMALLEST:
            raise UserError(f"data.vocabulary_size is {vocabulary_size}: use at least {_SMALLEST}.")
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(captions, trainer)
        return cls(tokenizer.to_str())

    @classmethod
    def from_json(cls, json: str) -> Tokenizer:
        """Reads what `to_json` wrote.

        Raises:
          UserError: not a tokenizer, or one with other special tokens.
        """
        try:
            tokenizer = cls(json)
        except Exception as error:  # `tokenizers` raises bare Exceptions
            raise UserError(
                f"the tokenizer cannot be read ({error}): give a mmjax tokenizer.json."
            ) from error
        for id, token in enumerate(SPECIAL_TOKENS):
            if tokenizer._special.token_to_id(token) != id:
                raise UserError(f"the tokenizer lacks {token} at id {id}: give one that mmjax trained.")
        return tokenizer

    def to_json(self) -> str:
        """The whole tokenizer as the JSON of `tokenizers`."""
        return self._json

    @property
    def vocabulary_size(self) -> int:
        """Number of ids; every id is below it."""
        return self._special.get_vocab_size()

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Text to ids. Nothing is added; `special=False` treats "<bos>" and the like as ordinary text."""
        return (self._special if special else self._plain).encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text: up to the first <eos>, other special tokens (and -1) dropped."""
        ids = [int(id) for id in ids]
        if EOS in ids:
            ids = ids[: ids.index(EOS)]
        ids = [id for id in ids if len(SPECIAL_TOKENS) <= id < self.vocabulary_size]
        return self._special.decode(ids)
