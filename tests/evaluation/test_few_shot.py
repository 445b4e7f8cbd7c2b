"""Few-shot prompts: their ids and pictures, which demonstrations they hold, and that an answer needs them."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from answering import pipeline  # noqa: F401
from flax import linen as nn
from PIL import Image

from mmjax import config as configs
from mmjax.data.images import ImageSpec
from mmjax.data.pipeline import Pipeline, train_tokenizer
from mmjax.data.tokenizer import EOS, IMAGE
from mmjax.errors import UserError
from mmjax.evaluation import provenance
from mmjax.evaluation.asking import Asking, Question
from mmjax.evaluation.encoders import Encoders
from mmjax.evaluation.few_shot import Demonstration, Shots
from mmjax.evaluation.vqa import VQA

WORDS = ("ab", "cd", "ef", "gh", "kl", "mn", "op")
LIGHT = tuple(20 + 20 * n + 2 * n * n for n in range(7))  # of picture n: nearest to n is n - 1
TEMPLATE = "<bos><image>Question: {caption} Short answer:"


class Learner:
    """Knows its prompt only: says the last token of the demonstration with the most similar picture."""

    def caption(self, params, image, image_valid, tokens, segment, key, *, length, temperature=0.0):
        light = image.astype(jnp.float32).mean(axis=(2, 3, 4))
        nearest = jnp.argmin(jnp.abs(light[:, :-1] - light[:, -1:]), axis=1)
        ends = jnp.cumsum((tokens == EOS) & (segment > 0), axis=1)
        at = jnp.argmax(ends > nearest[:, None], axis=1) - 1
        said = jnp.take_along_axis(tokens, at[:, None], axis=1)
        return jnp.pad(jnp.concatenate([said, jnp.full_like(said, EOS)], axis=1), ((0, 0), (0, length - 2)))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Grey pictures 0.png .. 6.png, of which each has a word of its own, and examples.json that tells it."""
    folder = tmp_path_factory.mktemp("shots")
    for number in range(len(WORDS)):
        Image.new("RGB", (12, 9), (LIGHT[number],) * 3).save(folder / f"{number}.png")
    examples = [dict(image=f"{n}.png", question="Which?", answer=word) for n, word in enumerate(WORDS)]
    (folder / "examples.json").write_text(json.dumps(examples))
    return folder


def shots(files, **fields):
    return Shots(examples=str(files / "examples.json"), images=str(files), **fields)


def pool(files):
    return [Demonstration(files / f"{n}.png", "Which?", word) for n, word in enumerate(WORDS)]


def judge(pipeline):  # noqa: F811
    """Tells pictures by their light: its features turn with it."""

    def encode_image(params, image):
        angle = image[:, 0].astype(jnp.float32).mean(axis=(1, 2, 3)) / 100
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)

    return SimpleNamespace(
        system=SimpleNamespace(encode_image=encode_image),
        params={},
        tokenizer=pipeline.tokenizer,
        data_config=pipeline.config,
    )


@pytest.mark.parametrize("similar", [False, True])
def test_answers_come_from_the_demonstrations_whatever_the_batch(similar, files, pipeline):  # noqa: F811
    questions = [Question(f"{n}.png", "Which " + "one " * (n % 3) + "is it?") for n in range(7)]
    few = shots(files, count=3, similar=similar)
    fields = dict(images=str(files), shots=few, judge=judge(pipeline))
    asked = [Asking(batch_size=size, **fields) for size in (1, 3, 20)]
    said = [one.answers(Learner(), {}, pipeline, questions) for one in asked]
    assert said[0] == said[1] == said[2]
    for number, (answer, shown) in enumerate(zip(said[0], asked[0]._shown(paths(files)), strict=True)):
        known = [int(one.image.stem) for one in shown]
        distances = [abs(LIGHT[one] - LIGHT[number]) for one in known]
        nearest = known[distances.index(min(distances))]
        tail = pipeline.tokenizer.encode(" " + WORDS[nearest], special=False)[-1:]
        assert answer == pipeline.tokenizer.decode([*tail, EOS]).strip()
        assert number not in known and len(set(known)) == 3
        if similar:  # the nearest last
            assert distances == sorted(distances, reverse=True) and known[-1] == (number - 1 if number else 1)


def paths(files):
    return [files / f"{n}.png" for n in range(7)]


def test_a_prompt_is_examples_of_the_template_and_then_the_question(files, pipeline):  # noqa: F811
    tokenizer, few = pipeline.tokenizer, shots(files, count=2)
    shown = [pool(files)[3], dataclasses.replace(pool(files)[1], question="Is <image> a word?")]
    ids = few.prompt(tokenizer, TEMPLATE, shown, "What?").tolist()

    def text(string):
        return tokenizer.encode(string, special=False)

    start, image, end = (tokenizer.id(role) for role in ("<bos>", "<image>", "<eos>"))
    assert ids == [
        *(start, image, *text("Question: Which? Short answer:"), *text(" gh"), end),
        *(image, *text("Question: Is <image> a word? Short answer:"), *text(" cd"), end),
        *(image, *text("Question: What? Short answer:")),
    ]
    assert ids.count(IMAGE) == 3
    own = Path("own.png")
    assert few.pictures(shown, own) == [files / "3.png", files / "1.png", own]


def test_no_shots_are_text_without_pictures(files, pipeline):  # noqa: F811
    few = shots(files, count=0)
    (shown,) = few.choose(pool(files), [files / "0.png"])
    ids = few.prompt(pipeline.tokenizer, TEMPLATE, shown, "What?")
    assert len(shown) == 2 and (ids == IMAGE).sum() == 1 and (ids == EOS).sum() == 2
    assert few.pictures(shown, files / "0.png") == [files / "0.png"]


def test_draws_follow_the_seed_and_the_number_of_the_question(files):
    draw = shots(files, count=2, seed=1).choose(pool(files), paths(files))
    assert draw == shots(files, count=2, seed=1).choose(pool(files), paths(files))
    assert draw[:3] == shots(files, count=2, seed=1).choose(pool(files), paths(files)[:3])
    assert draw != shots(files, count=2, seed=2).choose(pool(files), paths(files))
    assert len({tuple(one.answer for one in shown) for shown in draw}) > 3


def test_what_is_said_counts_up_to_a_pattern():
    assert Shots(until=r"Question|\n").cut(" a cat\nQuestion: Which?") == "a cat"
    assert Shots().cut(" a cat ") == "a cat"


def test_what_cannot_be_is_one_sentence(files, pipeline, tmp_path):  # noqa: F811
    def ask(few):
        asking = Asking(images=str(files), shots=few, batch_size=1)
        return asking.answers(Learner(), {}, pipeline, [Question("0.png", "Which?")])

    with pytest.raises(UserError, match=r"examples\.json has no 7 demonstrations of other pictures"):
        ask(shots(files, count=7))
    with pytest.raises(UserError, match="found by a CLIP: give its checkpoint with --judge"):
        ask(shots(files, similar=True))
    (tmp_path / "e.json").write_text('{"image": "0.png", "question": "Which?"}')
    with pytest.raises(UserError, match=r"e\.json has a record without the field 'answer'"):
        ask(Shots(examples=str(tmp_path / "e.json"), images=str(files)))
    with pytest.raises(UserError, match=r"nothing\.json cannot be read"):
        ask(Shots(examples=str(tmp_path / "nothing.json")))


def test_a_benchmark_takes_shots_and_its_figures_name_the_file(files, pipeline, tmp_path):  # noqa: F811
    asked = [dict(question_id=n, image_id=n, question="Which?") for n in range(7)]
    (tmp_path / "q.json").write_text(json.dumps(dict(questions=asked)))
    fields = dict(questions=str(tmp_path / "q.json"), annotations=str(tmp_path / "a.json"), images=str(files))
    vqa = VQA(**fields, image_name="{}.png", shots=shots(files, count=1, similar=True), judge=judge(pipeline))
    nearest = [1, *range(6)]
    spoken = [pipeline.tokenizer.encode(" " + WORDS[n], special=False)[-1:] for n in nearest]
    said = [pipeline.tokenizer.decode([*tail, EOS]).strip() for tail in spoken]
    marked = [dict(question_id=n, answers=[dict(answer=one)] * 10) for n, one in enumerate(said)]
    (tmp_path / "a.json").write_text(json.dumps(dict(annotations=marked)))
    assert vqa(Learner(), {}, pipeline, key=jax.random.key(0))["accuracy"] == 1.0
    assert provenance.files(vqa)["examples.json"]["count"] == 1


def test_pictures_are_embedded_once(files, pipeline):  # noqa: F811
    calls = []

    class Counting(ImageSpec):
        def load(self, path):
            calls.append(path)
            return ImageSpec.load(self, path)

    encoders = Encoders.judge(judge(pipeline), batch_size=4)
    encoders = dataclasses.replace(encoders, image_spec=Counting(size=pipeline.config.image_size))
    shots(files, count=1, similar=True).choose(pool(files) * 2, paths(files), encoders)
    assert len(calls) == len(set(calls)) == 7


def test_a_flamingo_on_the_tiny_world(tiny_world, tmp_path):
    """Three captioned drawings before each, through a whole system with random weights."""
    config = configs.load("flamingo:tiny")
    config.data.source = tiny_world
    config.training.initialize = ()
    experiment = configs.experiment(config)
    data = Pipeline(experiment.data, train_tokenizer(experiment.data), split="train")
    members = [data.record(number) for number in range(8)]
    for number, one in enumerate(members):
        (tmp_path / f"{number}.png").write_bytes(one.image)
    examples = [
        dict(image=f"{n}.png", question="What is it?", answer=one.caption) for n, one in enumerate(members)
    ]
    (tmp_path / "examples.json").write_text("\n".join(map(json.dumps, examples)))
    system = dataclasses.replace(experiment.system, eos_token=-1)  # never ends
    shapes = nn.meta.unbox(jax.eval_shape(system.init, jax.random.key(0)))
    random = np.random.default_rng(0)

    def leaf(path, shape):  # a large token table says the same word again and again
        scale = 0.1 if path[-1].key == "table" else 0.7
        return np.float32(path[-1].key == "scale") + scale * random.standard_normal(shape.shape, np.float32)

    params = jax.tree_util.tree_map_with_path(leaf, shapes)
    asking = Asking(images=str(tmp_path), shots=shots(tmp_path, count=3), length=4, batch_size=4)
    said = asking.answers(system, params, data, [Question("0.png", "What is it?")] * 5)
    assert len(said) == 5 and len(set(said)) > 1  # what differs is what was shown before
