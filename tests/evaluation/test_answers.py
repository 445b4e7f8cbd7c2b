import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mmjax import config as configs
from mmjax.data.pipeline import DataConfig, Pipeline, train_tokenizer
from mmjax.data.records import Conversation, Record, Turn
from mmjax.data.tokenizer import EOS
from mmjax.data.worlds import scenes
from mmjax.data.worlds.world import write
from mmjax.errors import UserError
from mmjax.evaluation.answers import Answers, Asked, TextOnly, is_right, questions, score

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def asked(kind: str, text: str, *answers: str) -> Asked:
    return Asked(0, kind, text, answers)


def record(number: int, colour: str) -> Conversation:
    """Two questions about a picture of one colour; one of them has the same answer for every picture."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), COLOURS[colour]).save(file, format="PNG")
    facts = [{"kind": "colour", "answers": [colour]}, {"kind": "yes/no", "answers": ["yes", "yeah"]}]
    turns = (
        Turn("user", "<image>which colour?"),
        Turn("assistant", colour),
        Turn("user", "is it square?"),
        Turn("assistant", "yes"),
    )
    return Conversation(id=str(number), images=(file.getvalue(),), turns=turns, facts={"questions": facts})


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Pipeline:
    directory = tmp_path_factory.mktemp("answers") / "world"
    names = tuple(COLOURS)
    training = [record(number, ("red", *names)[number % 4]) for number in range(40)]  # red is the commonest
    held_out = [record(number, names[number % 3]) for number in range(30)]
    write(directory, {"train": training, "held_out": held_out}, {})
    config = DataConfig(
        source=str(directory), image_size=16, text_length=32, vocabulary_size=512, augment=None
    )
    return Pipeline(config, train_tokenizer(config), split="held_out")


@dataclasses.dataclass(frozen=True)
class Looker:
    """Says the colour of the picture; to prompts that hold `square`, 'Yes.'"""

    ids: np.ndarray
    square: int

    @classmethod
    def of(cls, pipeline: Pipeline) -> "Looker":
        ids = np.zeros((4, 16), np.int32)
        for row, word in zip(ids, (*COLOURS, "Yes."), strict=True):
            said = [*pipeline.tokenizer.encode(word, special=False), EOS]
            row[: len(said)] = said
        others = pipeline.tokenizer.encode("which colour?\n", special=False)
        (square, *_) = (id for id in pipeline.tokenizer.encode("is it square?") if id not in others)
        return cls(ids, square)

    def caption(self, params, image, image_valid, tokens, segment, key, *, length, temperature=0.0):
        seen = jnp.argmax(image[:, 0].astype(jnp.float32).mean(axis=(1, 2)), axis=-1)
        about_shape = ((tokens == self.square) & (segment > 0)).any(axis=1)
        return jnp.asarray(self.ids)[jnp.where(about_shape, 3, seen), :length]


def test_figures_by_kind(pipeline):
    system = Looker.of(pipeline)
    figures = Answers(batch_size=7)(system, {}, pipeline, key=jax.random.key(0))
    assert figures["count"] == 60 and figures["count_colour"] == figures["count_yes_no"] == 30
    assert figures["accuracy"] == figures["accuracy_colour"] == figures["accuracy_yes_no"] == 1
    assert figures["text_only_colour"] == pytest.approx(1 / 3)  # always red
    assert figures["text_only_yes_no"] == figures["shuffled_yes_no"] == 1
    assert figures["shuffled_colour"] < 0.6
    assert figures["accuracy_colour_low"] == 1 > figures["text_only_colour_high"]
    other = Answers(batch_size=64)(system, {}, pipeline, key=jax.random.key(0))
    assert other == figures
    assert Answers(limit=4)(system, {}, pipeline, key=jax.random.key(0))["count"] == 8


def test_a_picture_is_never_shuffled_onto_itself(pipeline):
    own = np.repeat(np.arange(10), 2)
    others = Answers()._other_pictures(own, jax.random.key(1))
    assert (own != others).all() and (others[::2] == others[1::2]).all()
    assert sorted(others[::2]) == list(range(10))


def test_the_text_only_answerer_backs_off():
    seen = [asked("count", "how many dogs?", answer) for answer in ("two", "two", "one")]
    seen += [asked("count", "how many cats?", "one")] * 4 + [asked("colour", "colour?", "red")]
    text_only = TextOnly(seen)
    assert text_only.answer(asked("count", "how many dogs?")) == "two"
    assert text_only.answer(asked("count", "how many owls?")) == "one"
    assert text_only.answer(asked("place", "where?")) == ""
    tie = TextOnly([asked("a", "?", answer) for answer in ("b", "a")])
    assert tie.answer(asked("a", "?")) == "a"


def test_answers_are_compared_after_normalisation():
    assert is_right("Two.", ("2",)) and is_right("The cat", ("dog", "cat"))
    assert not is_right("", ("no",)) and not is_right("two cats", ("two",))


def test_score_counts_each_answerer():
    rows = [asked("a", "?", "x"), asked("a", "?", "y"), asked("b b", "?", "z")]
    figures = score(rows, accuracy=["x", "y", "no"], other=["x", "no", "z"])
    assert (figures["accuracy"], figures["other"]) == pytest.approx((2 / 3, 2 / 3))
    assert (figures["accuracy_a"], figures["accuracy_b_b"]) == (1, 0)
    assert (figures["other_a"], figures["other_b_b"]) == (0.5, 1)


def test_records_without_answers_hold_no_question():
    bare = dataclasses.replace(record(0, "red"), facts={})
    assert list(questions(bare, 0)) == []
    single = dataclasses.replace(record(0, "red"), facts={"kind": "colour", "answers": ["red"]})
    assert list(questions(single, 3)) == [Asked(3, "colour", "which colour?", ("red",))]


def test_a_split_without_questions_is_a_user_error(tmp_path):
    one = record(0, "red")
    captioned = Record(id="0", image=one.images[0], caption="a red square")
    write(tmp_path / "w", {"train": [captioned], "held_out": [captioned]}, {})
    config = DataConfig(source=str(tmp_path / "w"), image_size=16, vocabulary_size=512, augment=None)
    pipeline = Pipeline(config, train_tokenizer(config), split="held_out")
    with pytest.raises(UserError, match="holds no question with its answers"):
        Answers()(object(), {}, pipeline, key=jax.random.key(0))


def test_the_shipped_recipe_learns_exactly_the_answers(tmp_path):
    directory = scenes.build(tmp_path / "w", task="questions", turns=3, objects=34, count=8).directory
    config = configs.load("flamingo:scenes")
    config.data.source = directory
    experiment = configs.experiment(config)
    assert set(experiment.evaluators) == {"answers"} and experiment.system.stage == "all"
    tokenizer = train_tokenizer(experiment.data)
    pipeline = Pipeline(experiment.data, tokenizer)
    batch = next(pipeline.evaluate(8))
    assert batch["image"].shape == (8, 1, 64, 64, 3)
    for row in range(8):
        targets = batch["targets"][row]
        each = pipeline.record(row).facts["questions"]
        spoken = np.split(targets[targets >= 0], np.flatnonzero(targets[targets >= 0] == EOS) + 1)
        assert [tokenizer.decode(said).strip() for said in spoken if len(said)] == [
            one["answers"][0] for one in each
        ]
    assert configs.experiment(configs.load("clip:scenes")).system.vision.image_size == 64
