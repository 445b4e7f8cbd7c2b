"""Tokenizers of published models, from the files that come with their weights.

tokenizer.json is what `tokenizers` reads. Older releases have vocab.json and merges.txt in its place: a
byte-level BPE as in GPT-2 or, where tokens end in '</w>', as in CLIP. What the special tokens are for is said
by tokenizer_config.json or special_tokens_map.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from mmjax.data.tokenizer import Tokenizer
from mmjax.errors import UserError

FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "tokenizer.model",
    "chat_template.jinja",
)
_ROLES = {"<pad>": "pad_token", "<bos>": "bos_token", "<eos>": "eos_token", "<image>": "image_token"}
# What the Python classes of transformers do to a text, and no tokenizer.json says.
_CLEANINGS = {"SiglipTokenizer": "siglip", "Siglip2Tokenizer": "lower_case"}
_WORD_END = "</w>"
_CLIP_TOKENS = {"<bos>": "<|startoftext|>", "<eos>": "<|endoftext|>"}
_CLIP_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def load(directory: Path, *, cleaning: str = "") -> Tokenizer | None:
    """The tokenizer in a directory of a published model; None where there is none that can be read here.

    Args:
      cleaning: what is done to a text first (`tokenizer.CLEANINGS`) where the files name no class that knows.

    Raises:
      UserError: a file is damaged; names it.
    """
    file = directory / "tokenizer.json"
    try:
        if file.exists():
            backend = tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))
        elif (file := directory / "vocab.json").exists():
            vocabulary = json.loads(file.read_bytes())
            file = directory / "merges.txt"
            backend = byte_pairs(vocabulary, _merges(file.read_text(encoding="utf-8")))
        else:
            return None
    except Exception as error:  # `tokenizers` raises bare Exceptions
        raise UserError(f"{file} cannot be read ({error}): download it again.") from error
    # How many tokens a text is cut or padded to is for the caller to say.
    backend.no_truncation()
    backend.no_padding()
    told = _told(directory)
    cleaning = _CLEANINGS.get(str(told.get("tokenizer_class")).removesuffix("Fast"), cleaning)
    return Tokenizer(backend.to_str(), _roles(told, backend), cleaning)


def describe(tokenizer: Tokenizer) -> dict[str, str]:
    """The content of tokenizer_config.json: what the special tokens are for."""
    return {_ROLES[role]: tokenizer.token(id) for role, id in tokenizer.roles.items() if role in _ROLES}


def byte_pairs(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> tokenizers.Tokenizer:
    """CLIP's BPE where tokens end in '</w>' (lower case, white space collapsed), else GPT-2's."""
    if not any(token.endswith(_WORD_END) for token in vocabulary):
        backend = tokenizers.Tokenizer(models.BPE(dict(vocabulary), list(merges)))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        return backend
    model = models.BPE(
        dict(vocabulary), list(merges), unk_token=_CLIP_TOKENS["<eos>"], end_of_word_suffix=_WORD_END
    )
    backend = tokenizers.Tokenizer(model)
    spaces = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    pieces = pre_tokenizers.Split(tokenizers.Regex(_CLIP_PIECES), behavior="removed", invert=True)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pieces, bytes_])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([token for token in _CLIP_TOKENS.values() if token in vocabulary])
    return backend


def openai_clip(merges: str, *, size: int = 49408) -> Tokenizer:
    """CLIP's tokenizer with OpenAI's own cleaning, from the text of its bpe_simple_vocab_16e6.txt.

    The vocabulary is the 256 bytes, the same at the end of a word, a token for each merge, and two special
    tokens. Rows are padded with 0, which is '!' and never read, since it follows the end of the text.
    """
    pairs = _merges(merges)[: size - 2 * 256 - len(_CLIP_TOKENS)]
    alphabet = [token for token, _ in sorted(_byte_characters().items(), key=lambda item: item[1])]
    tokens = [*alphabet, *(c + _WORD_END for c in alphabet), *map("".join, pairs), *_CLIP_TOKENS.values()]
    backend = byte_pairs({token: id for id, token in enumerate(tokens)}, pairs)
    roles = {role: backend.token_to_id(token) for role, token in _CLIP_TOKENS.items()}
    return Tokenizer(backend.to_str(), {"<pad>": 0, **roles}, "openai_clip")


def _byte_characters() -> dict[str, int]:
    """The printable character that stands for each byte -> its place among the first tokens.

    GPT-2's `bytes_to_unicode`: bytes that print stand for themselves and come first; the others follow.
    """
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    characters = [*map(chr, printable), *(chr(256 + n) for n in range(len(others)))]
    return {character: place for place, character in enumerate(characters)}


def _merges(text: str) -> list[tuple[str, str]]:
    """The pairs of merges.txt, whose first line may be a version."""
    pairs = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and not (line.startswith("#version") or line.startswith('"bpe_simple_vocab')):
            pairs.append((words[0], words[1]))
    return pairs


def _told(directory: Path) -> dict[str, Any]:
    """What the files beside a tokenizer say about it."""
    told: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        file = directory / name
        if file.exists():
            try:
                told |= {k: v for k, v in json.loads(file.read_bytes()).items() if v is not None}
            except (ValueError, AttributeError) as error:
                raise UserError(f"{file} cannot be read ({error}): download it again.") from error
    return told


def _roles(told: Mapping[str, Any], backend: tokenizers.Tokenizer) -> dict[str, int]:
    roles = {}
    for role, key in _ROLES.items():
        token = told.get(key, _CLIP_TOKENS.get(role, role))
        token = token.get("content") if isinstance(token, Mapping) else token
        id = backend.token_to_id(token) if isinstance(token, str) else None
        if id is not None:
            roles[role] = id
    return roles
