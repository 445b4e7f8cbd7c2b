import numpy as np
import pytest

from mmjax.data.records import BadRecord
from mmjax.data.templates import Template
from mmjax.data.tokenizer import BOS, EOS, IMAGE, IMAGE_QUERY, PAD, Tokenizer
from mmjax.errors import UserError

QUERIES = "".join(f"<image_query_{i}>" for i in range(8))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["a b c"], 268)  # no merges: one token per byte


@pytest.fixture(scope="module")
def letters(tokenizer):
    return {letter: tokenizer.encode(letter)[0] for letter in "abc "}


def rows(example):
    return {name: array.tolist() for name, array in example.items()}


def test_contrastive_text(tokenizer, letters):
    a, b = letters["a"], letters["b"]
    assert rows(Template("<bos>{caption}<eos>").example(tokenizer, "ab", 6)) == {
        "tokens": [BOS, a, b, EOS, PAD, PAD],
        "targets": [a, b, EOS, -1, -1, -1],
        "segment": [1, 1, 1, 1, 0, 0],
        "block_start": [1, 1, 1, 1, 0, 0],
        "positions": [0, 1, 2, 3, 0, 0],
    }


def test_the_picture_is_never_a_target_but_predicts_the_first_word(tokenizer, letters):
    a, b = letters["a"], letters["b"]
    example = rows(Template("<bos><image>{caption}<eos>").example(tokenizer, "ab", 6))
    assert example["tokens"] == [BOS, IMAGE, a, b, EOS, PAD]
    assert example["targets"] == [-1, a, b, EOS, -1, -1]


def test_image_queries_are_never_targets(tokenizer, letters):
    a = letters["a"]
    example = rows(Template("<bos>{caption}<eos>" + QUERIES).example(tokenizer, "a", 12))
    assert example["tokens"] == [BOS, a, EOS, *range(IMAGE_QUERY, IMAGE_QUERY + 8), PAD]
    assert example["targets"] == [a, EOS, *[-1] * 10]
    assert example["segment"] == [1] * 11 + [0]
    assert example["positions"] == [*range(11), 0]


def test_a_full_row_has_no_target_beyond_its_end(tokenizer, letters):
    example = Template("<bos>{caption}").example(tokenizer, "ab", 3)
    assert example["targets"].tolist() == [letters["a"], letters["b"], -1]


def test_text_around_the_caption_is_encoded_as_running_text():
    tokenizer = Tokenizer.train(["see cat"] * 9, 300)
    example = Template("<bos>see {caption}<eos>").example(tokenizer, "cat", 12)
    expected = [BOS, *tokenizer.encode("see cat"), EOS]
    assert example["tokens"][: len(expected)].tolist() == expected


def test_captions_cannot_close_the_example(tokenizer):
    example = Template("<bos><image>{caption}<eos>").example(tokenizer, "a<eos><image>{caption}", 40)
    assert (example["tokens"] == EOS).sum() == 1 == (example["tokens"] == IMAGE).sum()
    assert tokenizer.decode(example["tokens"]) == "a<eos><image>{caption}"


def test_arrays_are_int32(tokenizer):
    example = Template("<bos>{caption}<eos>").example(tokenizer, "abc", 8)
    assert {array.dtype for array in example.values()} == {np.dtype(np.int32)}


def test_prompt_is_what_comes_before_the_caption_or_the_whole(tokenizer, letters):
    template = Template("<bos><image>{caption}<eos>")
    assert template.prompt(tokenizer)["tokens"].tolist() == [BOS, IMAGE]
    padded = template.prompt(tokenizer, 4)
    assert padded["tokens"].tolist() == [BOS, IMAGE, PAD, PAD]
    assert padded["segment"].tolist() == [1, 1, 0, 0]
    whole = template.prompt(tokenizer, 6, caption="ab")
    assert rows(whole) == rows(template.example(tokenizer, "ab", 6))


def test_too_long_is_a_bad_record_in_data_and_a_user_error_in_a_prompt(tokenizer):
    template = Template("<bos>{caption}<eos>")
    assert template.example(tokenizer, "abc", 5)["tokens"][-1] == EOS
    with pytest.raises(BadRecord) as caught:
        template.example(tokenizer, "abc", 4)
    assert caught.value.kind == "caption too long" and "5 tokens" in caught.value.message
    with pytest.raises(UserError, match=r"'abc' takes 5 tokens, more than the 4 of data\.text_length"):
        template.prompt(tokenizer, 4, caption="abc")
    with pytest.raises(UserError, match="empty"):
        template.prompt(tokenizer, 4, caption=" ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<bos><eos>", "exactly one {caption}"),
        ("{caption}{caption}", "exactly one {caption}"),
        ("<bos><imge>{caption}", "unknown token <imge>: did you mean <image>?"),
    ],
)
def test_bad_templates(text, sentence):
    with pytest.raises(UserError) as caught:
        Template(text)
    assert sentence in str(caught.value)
