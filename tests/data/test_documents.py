import pytest
from pictures import noise

from mmjax import config as configs
from mmjax.cli import train
from mmjax.data.documents import DocumentLayout
from mmjax.data.records import BadRecord, Conversation, Document, Turn
from mmjax.data.tokenizer import BOS, EOS, IMAGE, Tokenizer
from mmjax.data.worlds.world import write
from mmjax.errors import UserError

A, B, C = (noise(i) for i in range(3))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["a b c"], 268)  # no merges: one token per byte


def document(*parts, similarity=(), id="d"):
    return Document(id=id, parts=parts, similarity=similarity)


def shown(tokenizer, sample):
    """The text of a sample, with what is learned in [brackets]."""
    names = {BOS: "<bos>", EOS: "<eos>", IMAGE: "<image>"}
    text, inside = "", False
    for id, target in zip(sample.ids.tolist(), sample.is_target.tolist(), strict=True):
        text += ("[" if target else "]") * (target != inside) + (names.get(id) or tokenizer.decode([id]))
        inside = target
    return text + "]" * inside


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ({}, "<bos>Intro<image>[One more<eos>]<image>[Two<eos>]"),
        ({"images": "after"}, "<bos>Intro[One more]<image>[<eos>Two]<image>[<eos>]"),
        ({"learn_without_picture": True}, "<bos>[Intro<eos>]<image>[One more<eos>]<image>[Two<eos>]"),
    ],
)
def test_layouts(tokenizer, layout, expected):
    record = document("Intro", A, "One", "more", B, " Two ")
    sample = DocumentLayout(**layout).sample(tokenizer, record, 99)
    assert shown(tokenizer, sample) == expected
    assert sample.pictures == (A, B)


def test_a_picture_unlike_its_text_goes_and_its_text_stays(tokenizer):
    record = document(A, "one", B, "two", C, "three", similarity=(0.3, 0.1, 0.24))
    sample = DocumentLayout(min_similarity=0.24).sample(tokenizer, record, 99)
    assert shown(tokenizer, sample) == "<bos><image>[one two<eos>]<image>[three<eos>]"
    assert sample.pictures == (A, C)
    unknown = DocumentLayout(min_similarity=0.24).sample(tokenizer, document(A, "one"), 99)
    assert unknown.pictures == (A,)


def test_where_the_pictures_stand_is_drawn_once_per_document(tokenizer):
    layout = DocumentLayout(images="random")

    def first(number):
        return layout.sample(tokenizer, document(A, "xy", id=f"d{number}"), 99).ids[1] == IMAGE

    drawn = [first(number) for number in range(200)]
    assert drawn == [first(number) for number in range(200)]
    assert 70 < sum(drawn) < 130


def test_chunks_beyond_the_length_or_the_number_of_pictures_are_dropped(tokenizer):
    record = document(A, "one", B, "two", C, "three")
    sample = DocumentLayout().sample(tokenizer, record, 99, max_images=2)
    assert shown(tokenizer, sample) == "<bos><image>[one<eos>]<image>[two<eos>]" and len(sample.pictures) == 2
    assert shown(tokenizer, DocumentLayout().sample(tokenizer, record, 8)) == "<bos><image>[one<eos>]"
    assert shown(tokenizer, DocumentLayout().sample(tokenizer, record, 4)) == "<bos><image>[on]"


@pytest.mark.parametrize(
    ("parts", "length", "kind"),
    [(("only text",), 99, "no target"), ((A,), 2, "no target"), (("long text", A, "x"), 6, "too long")],
)
def test_documents_that_cannot_be_used(tokenizer, parts, length, kind):
    with pytest.raises(BadRecord) as caught:
        DocumentLayout().sample(tokenizer, document(*parts), length)
    assert caught.value.kind == kind


def test_text_alone_is_learned_where_the_layout_says_so(tokenizer):
    layout = DocumentLayout(learn_without_picture=True)
    assert shown(tokenizer, layout.sample(tokenizer, document("some", "text"), 99)) == "<bos>[some text<eos>]"


def test_user_errors():
    with pytest.raises(UserError, match="use one of before, after, random"):
        DocumentLayout(images="left")


def test_flamingo_trains_on_documents_and_conversations_of_several_pictures(tmp_path):
    """Through the public command: a mixture of both kinds, packed, several pictures a row."""
    tall = [document(A, f"item {i}", B, f"and {i}", id=f"d{i}") for i in range(12)]
    turns = (
        Turn("user", "<image><image>how many?"),
        Turn("assistant", "two"),
        Turn("user", "so?"),
        Turn("assistant", "yes"),
    )
    talks = [Conversation(id=f"c{i}", images=(A, C), turns=turns) for i in range(9)]
    sources = [
        write(tmp_path / name, {"train": records, "test": records[:4]}, {}).directory
        for name, records in (("documents", tall), ("talks", talks))
    ]
    overrides = dict(
        mixture=((sources[0], 2.0), (sources[1], 1.0)),
        source="",
        images=6,
        image_size=16,
        text_length=96,
        pack=True,
        index_directory="",
        chat="short_answer",
        vocabulary_size=400,
    )
    config = configs.load("flamingo:tiny")
    config.data.update(overrides)
    config.training.update(dict(steps=3, batch_size=4, log_every=1, initialize=(), checkpoint_every=0))
    config.model.vision.image_size = 16
    config.model.language.context_length = 96
    config.evaluators = {}
    trained = train.run(config, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert trained.step == 3 and len(lines) >= 3 and all("loss" in line for line in lines[:3])
