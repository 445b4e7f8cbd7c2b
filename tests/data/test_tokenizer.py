import pytest

from mmjax.data.tokenizer import BOS, EOS, IMAGE, IMAGE_QUERIES, IMAGE_QUERY, PAD, SPECIAL_TOKENS, Tokenizer
from mmjax.errors import UserError

CAPTIONS = [
    "woman medium-light skin tone",
    "man medium-dark skin tone",
    "red heart",
    "heart",
    "flag Türkiye",
] * 3
TEXTS = [
    "woman cook medium skin tone",
    "Straße, naïve café: 50 % “quoted”",
    "улыбающееся лицо",
    "笑っている顔",
    "وجه مبتسم",
    "웃는 얼굴",
    "צוחק 😀 👩🏽‍🚀",
    "  two  spaces \t and a tab\n",
    "literal <eos> and <image> in a caption",
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(CAPTIONS, 300)


def test_special_tokens_have_their_fixed_ids(tokenizer):
    assert (PAD, BOS, EOS, IMAGE, IMAGE_QUERY, IMAGE_QUERIES) == (0, 1, 2, 3, 4, 8)
    text = "<pad><bos><eos><image>" + "".join(f"<image_query_{i}>" for i in range(8))
    assert tokenizer.encode(text) == list(range(12)) == list(range(len(SPECIAL_TOKENS)))


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(tokenizer, text):
    ids = tokenizer.encode(text, special=False)
    assert tokenizer.decode(ids) == text
    assert min(ids) >= len(SPECIAL_TOKENS) and max(ids) < tokenizer.vocabulary_size


def test_captions_cannot_smuggle_in_special_tokens(tokenizer):
    assert EOS in tokenizer.encode("a<eos>b")
    assert EOS not in tokenizer.encode("a<eos>b", special=False)


def test_composed_and_decomposed_text_are_one(tokenizer):
    assert tokenizer.encode("Tu\u0308rkiye") == tokenizer.encode("T\u00fcrkiye")


def test_decode_stops_at_eos_and_drops_special_tokens(tokenizer):
    ids = [BOS, IMAGE, *tokenizer.encode("red heart"), IMAGE_QUERY, EOS, *tokenizer.encode("never"), PAD]
    assert tokenizer.decode(ids) == "red heart"
    assert tokenizer.decode([-1, tokenizer.vocabulary_size + 5, *tokenizer.encode("heart")]) == "heart"
    assert tokenizer.decode([]) == tokenizer.decode([EOS]) == ""


def test_training_learns_merges_and_repeats_exactly(tokenizer):
    assert len(tokenizer.encode("medium-light skin tone")) < len("medium-light skin tone")
    assert Tokenizer.train(CAPTIONS, 300).to_json() == tokenizer.to_json()
    assert tokenizer.vocabulary_size == 300


def test_json_round_trip(tokenizer):
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.to_json() == tokenizer.to_json()
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]


def test_user_errors(tokenizer):
    with pytest.raises(UserError, match=r"data\.vocabulary_size is 100: use at least 268"):
        Tokenizer.train(CAPTIONS, 100)
    with pytest.raises(UserError, match="cannot be read"):
        Tokenizer.from_json("{}")
    with pytest.raises(UserError, match="<eos>"):
        Tokenizer.from_json(tokenizer.to_json().replace("<eos>", "<end>"))
