import json

import jax
import numpy as np
import pytest
from answering import Oracle, pictures, pipeline  # noqa: F401

from mmjax.errors import UserError
from mmjax.evaluation import chair

SYNONYMS = """person, man, woman, people, passenger, child
dog, puppy
tie, bow tie
chair, seat, stool
dining table, table, desk
toilet
traffic light, stop light
wine glass
cat, kitten
airplane, jet"""


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("chair") / "synonyms.txt"
    path.write_text(SYNONYMS)
    return chair.Vocabulary.load(str(path))


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Two men and a dog in bow ties.", "person dog tie"),
        ("A passenger jet and a passenger", "airplane person"),
        ("a baby cat near two stop lights", "cat,traffic light"),
        ("the seat of the toilet", "toilet"),
        ("a toilet seat; a stool", "toilet chair"),
        ("puppies, dogs and women at desks", "dog dog person,dining table"),
        ("home plate and wine glasses", "wine glass"),
        ("categories of hotdogs", ""),
        ("", ""),
    ],
)
def test_mentions(vocabulary, caption, expected):
    names = [name for part in expected.split(",") for name in ([part] if part in MULTI else part.split())]
    assert vocabulary.mentions(caption) == names


MULTI = {"traffic light", "dining table", "wine glass"}


def test_singulars():
    pairs = {"women": "woman", "cherries": "cherry", "glass": "glass", "buses": "bus", "knives": "knife",
             "boxes": "box", "policemen": "policeman", "bus": "bus", "skis": "skis", "tomatoes": "tomato",
             "ties": "tie", "horses": "horse"}  # fmt: skip
    assert {plural: chair.singular(plural) for plural in pairs} == pairs


def test_scores_by_hand(vocabulary):
    held = [vocabulary.objects(["person"], ["a man and his puppy"]), vocabulary.objects(["cat", "desk"])]
    assert held == [{"person", "dog"}, {"cat", "dining table"}]
    said = ["a man, a woman, a dog and a cat", "a kitten"]
    found = chair.score([vocabulary.mentions(one) for one in said], held)
    assert found["count"] == 2
    assert found["chair_i"] == 1 / 5  # of four and one mentions: over all captions together
    assert found["chair_s"] == 1 / 2
    assert found["recall"] == 3 / 4
    assert chair.score([[]], [{"cat"}])["chair_i"] == 0


def test_the_order_of_the_captions_does_not_matter(vocabulary):
    rng = np.random.default_rng(0)
    names = sorted(set(vocabulary.names.values()))
    said = [list(rng.choice(names, rng.integers(0, 5))) for _ in range(40)]
    held = [set(rng.choice(names, 3)) for _ in range(40)]
    order = rng.permutation(40)
    one = chair.score(said, held)
    assert one == chair.score([said[n] for n in order], [held[n] for n in order])
    assert 0 < one["chair_i_low"] < one["chair_i"] < one["chair_i_high"] < 1


def test_a_system_that_describes(tmp_path, pipeline):  # noqa: F811
    bright = pictures(tmp_path, 6)
    lines = [
        json.dumps({"image": f"{n}.png", "objects": ["dog"], "captions": ["a cat"] if n % 2 else []})
        for n in range(6)
    ]
    (tmp_path / "objects.json").write_text("\n".join(lines))
    (tmp_path / "synonyms.txt").write_text(SYNONYMS)
    evaluators = [
        chair.CHAIR(
            images=str(tmp_path), annotations=str(tmp_path / "objects.json"),
            synonyms=str(tmp_path / "synonyms.txt"), batch_size=size,
        )
        for size in (4, 6)
    ]  # fmt: skip
    system = Oracle.of(pipeline, ("a dog", "two kittens"))
    found = [one(system, {}, pipeline, key=jax.random.key(0)) for one in evaluators]
    assert found[0] == found[1]
    assert found[0]["chair_s"] == found[0]["chair_i"] == np.mean(bright & (np.arange(6) % 2 == 0)) > 0
    with pytest.raises(UserError, match="synonyms cannot be read from ''"):
        chair.CHAIR()(system, {}, pipeline, key=jax.random.key(0))
