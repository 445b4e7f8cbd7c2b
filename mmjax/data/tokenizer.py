"""Text to ids and back, wrapping `tokenizers`: our own byte-level BPE, or that of a published model.

Ours is trained on the captions at hand. Every text has tokens (256 byte tokens are always there), so there is
no unknown token; the special tokens come first and their ids never change, whatever the captions.

A published model brings its own vocabulary and its own special tokens. What they are for is told by `roles`:
'<pad>', '<bos>' and the like -> id. Templates and models ask for roles and never for a token's text.
"""

from __future__ import annotations

import functools
import html
import json as json_module
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
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
    """Text to ids and back. Immutable, safe to share between threads.

    Attributes:
      roles: id of '<pad>', '<bos>', '<eos>', '<image>', ... as far as the tokenizer has them.
      cleaning: name of what is done to a text before `tokenizers` sees it (`CLEANINGS`); "" for nothing.
    """

    def __init__(self, json: str, roles: Mapping[str, int] | None = None, cleaning: str = ""):
        ours = {token: id for id, token in enumerate(SPECIAL_TOKENS)}
        self.roles = ours if roles is None else dict(roles)
        self.cleaning = cleaning
        self._is_ours = roles is None
        self._clean = CLEANINGS[cleaning]
        self._json = json
        self._special = tokenizers.Tokenizer.from_str(json)
        # A second copy, because the switch is state of the object: captions are data and must not be able
        # to smuggle in an <eos> or an <image>.
        self._plain = tokenizers.Tokenizer.from_str(json)
        self._plain.encode_special_tokens = True

    def __reduce__(self):  # what `tokenizers` pickles lacks the switch
        return Tokenizer, (self._json, None if self._is_ours else self.roles, self.cleaning)

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
    def absent(cls) -> Tokenizer:
        """Stands for the tokenizer of a model that came without one; it has no roles, and says so."""
        return cls(tokenizers.Tokenizer(models.BPE()).to_str(), {})

    @classmethod
    def from_json(cls, json: str) -> Tokenizer:
        """Reads what `to_json` wrote.

        Raises:
          UserError: not a tokenizer, or one with other special tokens.
        """
        try:
            content = json_module.loads(json)
            if "roles" in content:
                inner = json_module.dumps(content["tokenizer"], ensure_ascii=False)
                return cls(inner, content["roles"], content["cleaning"])
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
        """The whole tokenizer: the JSON of `tokenizers`, with the roles around it where they are not ours."""
        if self._is_ours:
            return self._json
        content = {
            "tokenizer": json_module.loads(self._json),
            "roles": self.roles,
            "cleaning": self.cleaning,
        }
        return json_module.dumps(content, ensure_ascii=False)

    @property
    def backend_json(self) -> str:
        """The JSON of `tokenizers` alone, which the Hugging Face layout calls tokenizer.json."""
        return self._json

    @functools.cached_property
    def vocabulary_size(self) -> int:
        """One more than the largest id."""
        return 1 + max(self._special.get_vocab().values(), default=-1)

    @functools.cached_property
    def silent(self) -> frozenset[int]:
        """The special tokens that no text says: all but <eos>, also where padding is the same token."""
        end = self.roles.get("<eos>")
        return frozenset(id for id in self.roles.values() if id != end)

    def id(self, role: str) -> int:
        """The id of the special token with this role.

        Raises:
          UserError: the tokenizer has none.
        """
        if not self.roles:
            raise UserError("the checkpoint has no tokenizer: convert it again beside its tokenizer files.")
        if role not in self.roles:
            known = ", ".join(self.roles)
            raise UserError(f"the tokenizer has no {role}, only {known}: take it out of data.template.")
        return self.roles[role]

    def token(self, id: int) -> str:
        """The token with this id, as the vocabulary spells it."""
        return self._special.id_to_token(id)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Text to ids. Nothing is added; `special=False` treats "<bos>" and the like as ordinary text."""
        backend = self._special if special else self._plain
        return backend.encode(self._clean(text), add_special_tokens=False).ids

    def row(self, text: str, length: int) -> np.ndarray:
        """i32[length]: <bos>, the text cut to fit, <eos>, padding; as published models are fed.

        A role that the tokenizer lacks is left out; without <pad>, rows are filled up with 0.
        """
        first, last = ([self.roles[role]] if role in self.roles else [] for role in ("<bos>", "<eos>"))
        ids = self.encode(text, special=False)[: length - len(first) - len(last)]
        row = np.full(length, self.roles.get("<pad>", 0), np.int32)
        row[: len(first) + len(ids) + len(last)] = first + ids + last
        return row

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text: up to the first <eos>, other special tokens (and -1) dropped."""
        ids = [int(id) for id in ids]
        if self.roles.get("<eos>") in ids:
            ids = ids[: ids.index(self.roles["<eos>"])]
        dropped = set(self.roles.values())
        text = self._special.decode(
            [id for id in ids if 0 <= id < self.vocabulary_size and id not in dropped]
        )
        suffix = getattr(self._special.model, "end_of_word_suffix", None)
        return text.replace(suffix, " ").strip() if suffix else text


_NARROW = re.compile("[\uff01-\uffef\u3000]+")
_LIGATURES = re.compile("[\ufb00-\ufb06\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]")
_QUOTES = str.maketrans(
    dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'") | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')
)

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _compatible(match: re.Match) -> str:
    return unicodedata.normalize("NFKC", match[0])


def clean_as_openai_clip(text: str) -> str:
    """What OpenAI's CLIP and OpenCLIP do to a text (`basic_clean`, `whitespace_clean`, `lower`).

    They call `ftfy.fix_text`; of that, the repair of wrongly decoded text is left out, which has no short
    definition. transformers leaves out all of it: there "&amp;" is five characters.
    """
    text = html.unescape(text)
    text = _NARROW.sub(_compatible, _LIGATURES.sub(_compatible, text)).translate(_QUOTES)
    text = unicodedata.normalize("NFC", _CONTROL.sub("", text))
    return " ".join(html.unescape(html.unescape(text)).split()).lower()


def clean_as_siglip(text: str) -> str:
    """What SigLIP was trained on (`canonicalize_text` of big_vision): lower case, no ASCII punctuation."""
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


CLEANINGS: dict[str, Callable[[str], str]] = {
    "": str,
    "lower_case": str.lower,  # SigLIP 2
    "openai_clip": clean_as_openai_clip,
    "siglip": clean_as_siglip,
}
