"""Tokenizers that come with published models."""

import json

import numpy as np
import pytest

from mmjax.data import tokenizer_files
from mmjax.data.templates import Template
from mmjax.data.tokenizer import CLEANINGS, Tokenizer, clean_as_openai_clip
from mmjax.errors import UserError

LETTERS = "acdefhlnorstx<|>!"
CLIP_TOKENS = [
    *sorted(set(LETTERS)),
    *(letter + "</w>" for letter in sorted(set(LETTERS))),
    "ca",
    "cat</w>",
    "'",
    "'</w>",
    "'s</w>",
    "<|startoftext|>",
    "<|endoftext|>",
]
MERGES = "#version: 0.2\nc a\nca t</w>\n' s</w>\n"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    (folder / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(CLIP_TOKENS)}))
    (folder / "merges.txt").write_text(MERGES)
    return folder


def test_clip_byte_pairs(clip):
    """Lower case, spaces collapsed, contractions apart, the end of a word marked: worked out by hand."""
    tokenizer = tokenizer_files.load(clip)
    tokens = [CLIP_TOKENS[id] for id in tokenizer.encode("  The CAT's\n  hat")]
    assert tokens == ["t", "h", "e</w>", "cat</w>", "'s</w>", "h", "a", "t</w>"]
    assert tokenizer.decode(tokenizer.encode("The  CAT's hat")) == "the cat 's hat"
    start, end = (CLIP_TOKENS.index(token) for token in ("<|startoftext|>", "<|endoftext|>"))
    assert tokenizer.roles == {"<bos>": start, "<eos>": end}
    cat, hat = CLIP_TOKENS.index("cat</w>"), tokenizer.encode("hat")
    np.testing.assert_array_equal(tokenizer.row("cat", 6), [start, cat, end, 0, 0, 0])
    np.testing.assert_array_equal(tokenizer.row("cat hat", 5), [start, cat, *hat[:2], end])  # cut to fit
    assert tokenizer.decode(tokenizer.row("cat", 6)) == "cat"


def test_text_cannot_smuggle_in_the_end_of_a_text(clip):
    tokenizer = tokenizer_files.load(clip)
    end = tokenizer.roles["<eos>"]
    assert end in tokenizer.encode("cat<|endoftext|>cat")
    assert end not in tokenizer.encode("cat<|endoftext|>cat", special=False)
    assert list(tokenizer.row("<|endoftext|>", 30)).count(end) == 1


def test_roles_come_from_the_files_beside(clip, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((clip / name).read_bytes())
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "a", "eos_token": "x"}))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"pad_token": {"content": "!"}, "bos_token": None, "model_max_length": 77})
    )
    tokenizer = tokenizer_files.load(tmp_path)
    at = CLIP_TOKENS.index
    assert tokenizer.roles == {"<pad>": at("!"), "<bos>": at("<|startoftext|>"), "<eos>": at("x")}
    assert tokenizer_files.describe(tokenizer) == {
        "pad_token": "!",
        "bos_token": "<|startoftext|>",
        "eos_token": "x",
    }


def test_a_foreign_tokenizer_survives_the_checkpoint_and_the_layout(clip, tmp_path):
    tokenizer = tokenizer_files.load(clip)
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.roles == tokenizer.roles and again.to_json() == tokenizer.to_json()
    (tmp_path / "tokenizer.json").write_text(tokenizer.backend_json)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer_files.describe(tokenizer)))
    written = tokenizer_files.load(tmp_path)
    assert written.roles == tokenizer.roles and written.encode("the cat") == tokenizer.encode("the cat")


def test_templates_ask_for_roles(clip, tmp_path):
    tokenizer = tokenizer_files.load(clip)
    end = tokenizer.roles["<eos>"]
    padded = Tokenizer(tokenizer.backend_json, {**tokenizer.roles, "<pad>": end})  # as CLIP itself pads
    example = Template("<bos>{caption}<eos>").example(padded, "cat", 5)
    start, cat = tokenizer.roles["<bos>"], CLIP_TOKENS.index("cat</w>")
    np.testing.assert_array_equal(example["tokens"], [start, cat, end, end, end])
    np.testing.assert_array_equal(example["targets"], [cat, end, -1, -1, -1])  # the padding is not said
    np.testing.assert_array_equal(example["segment"], [1, 1, 1, 0, 0])
    with pytest.raises(UserError, match="no <image>, only <bos>, <eos>"):
        Template("<bos><image>{caption}<eos>").example(tokenizer, "cat", 5)
    with pytest.raises(UserError, match="has no tokenizer"):
        Template("<bos>{caption}<eos>").example(Tokenizer.absent(), "cat", 5)
    assert Tokenizer.from_json(Tokenizer.absent().to_json()).vocabulary_size == 0


def test_files_that_are_missing_or_damaged(clip, tmp_path):
    assert tokenizer_files.load(tmp_path) is None
    (tmp_path / "vocab.json").write_bytes((clip / "vocab.json").read_bytes())
    with pytest.raises(UserError, match=r"merges\.txt cannot be read"):
        tokenizer_files.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read"):
        tokenizer_files.load(tmp_path)


def test_openai_clip_orders_its_vocabulary_by_bytes_and_merges():
    tokenizer = tokenizer_files.openai_clip('"bpe_simple_vocab_16e6.txt#version: 0.2\ni n\nt h\nth e</w>\n')
    assert tokenizer.vocabulary_size == 2 * 256 + 3 + 2
    assert tokenizer.encode("!") == [256]  # the first printable byte, at the end of a word
    assert tokenizer.encode("the") == [514] and tokenizer.encode("in") == [ord("i") - 33, 256 + ord("n") - 33]
    assert tokenizer.roles == {"<pad>": 0, "<bos>": 515, "<eos>": 516}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Tom &amp;amp; Jerry", "tom & jerry"),
        ("\u201cA\u201d \u2019s", '"a" \'s'),
        ("\ufb01sh \uff21\u3000x", "fish a x"),
        ("  a \t\n b\x07 ", "a b"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_cleaning_of_openai_clip(text, clean):
    assert clean_as_openai_clip(text) == clean


@pytest.mark.parametrize(
    ("told", "cleaned"),
    [("SiglipTokenizer", "a cats nap"), ("GemmaTokenizer", "a  cat's, nap!"), (None, "a  cat's, nap!")],
)
def test_text_is_cleaned_as_the_class_of_the_tokenizer_does(clip, tmp_path, told, cleaned):
    for file in clip.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.dumps({"tokenizer_class": told} if told else {})
    (tmp_path / "tokenizer_config.json").write_text(config)
    tokenizer = tokenizer_files.load(tmp_path, cleaning="lower_case")
    assert CLEANINGS[tokenizer.cleaning]("A  cat's, Nap!") == cleaned
    assert Tokenizer.from_json(tokenizer.to_json()).cleaning == tokenizer.cleaning
