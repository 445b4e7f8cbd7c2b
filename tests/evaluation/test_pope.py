import json

import jax
import numpy as np
import pytest
from answering import Oracle, pictures, pipeline  # noqa: F401

from mmjax.errors import UserError
from mmjax.evaluation import pope

KEY = jax.random.key(0)
IMAGES = [
    ("a.jpg", ["person", "dog", "umbrella"]),
    ("b.jpg", ["person", "dog", "ball"]),
    ("c.jpg", ["person", "car", "bus", "dog"]),
    ("d.jpg", ["cat", "sofa", "lamp"]),
    ("e.jpg", ["person", "cat"]),
]


def test_metrics_of_counts():
    found = pope.metrics(
        np.array([1409, 247, 1253, 91])
    )  # true and false positives, true and false negatives
    expected = dict(accuracy=0.8873333, precision=0.8508454, recall=0.9393333, f1=0.8929024, yes_share=0.552)
    assert {name: round(float(value), 7) for name, value in found.items()} == expected
    always = pope.metrics(np.array([1500, 1500, 0, 0]))
    np.testing.assert_allclose(list(always.values()), [0.5, 0.5, 1, 2 / 3, 1], atol=1e-12)
    never = pope.metrics(np.array([0, 0, 1500, 1500]))
    np.testing.assert_allclose(list(never.values()), [0.5, 0, 0, 0, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("No, there is none.", "no"),
        ("There is not a dog. Yes.", "no"),
        ("There is no dog", "no"),
        ("Yes, there is. No doubt.", "yes"),
        ("Not at all", "yes"),  # only 'No', 'not' and 'no' count in the published parser
        ("nothing", "yes"),
        ("no.", "no"),
        ("NO", "yes"),
        ("", "yes"),
    ],
)
def test_the_published_parser(answer, expected):
    assert pope.parse(answer) == expected


def test_questions():
    assert pope.question("dog") == "Is there a dog in the image?"
    assert pope.question("umbrella") == "Is there an umbrella in the image?"


@pytest.mark.parametrize("strategy", pope.STRATEGIES)
def test_probes_are_balanced_and_true(strategy):
    probes = pope.probes(IMAGES, strategy)
    held = dict(IMAGES)
    assert len(probes) == 4 * 6  # the last picture holds too few objects
    assert all((probe.object in held[probe.image]) == (probe.label == "yes") for probe in probes)
    assert len({(probe.image, probe.object) for probe in probes}) == len(probes)
    assert pope.probes(IMAGES[::-1], strategy)[-6:] == probes[:6]  # the order of the pictures does not matter


def test_popular_and_adversarial_probes_by_hand():
    absent = lambda strategy, image: [  # noqa: E731
        probe.object
        for probe in pope.probes(IMAGES, strategy)
        if probe.image == image and probe.label == "no"
    ]
    assert absent("popular", "d.jpg") == ["person", "dog", "ball"]  # 4 pictures, 3, then by the alphabet
    # a.jpg: with 'person' most often goes dog (held), then ball, bus, car, cat once each; with 'dog' the same
    # without those asked; with 'umbrella' nothing absent, so one at random
    assert absent("adversarial", "a.jpg")[:2] == ["ball", "bus"]
    random = {tuple(p.object for p in pope.probes(IMAGES, "random", seed=seed)[1:6:2]) for seed in range(8)}
    assert len(random) > 4


def test_mistakes():
    with pytest.raises(UserError, match="popular"):
        pope.probes(IMAGES, "rare")
    with pytest.raises(UserError, match=r"a\.jpg leaves 0 objects"):
        pope.probes(IMAGES[:1], "random")


def test_order_and_intervals():
    rng = np.random.default_rng(0)
    said, labels = rng.choice(["Yes.", "No."], 80), rng.choice(["yes", "no"], 80)
    order = rng.permutation(80)
    one, other = pope.score(said, labels), pope.score(said[order], labels[order])
    assert one == other and one["count"] == 80
    for name in ("accuracy", "precision", "recall", "f1", "yes_share"):
        assert 0 < one[f"{name}_low"] < one[name] < one[f"{name}_high"] < 1


def test_a_system_on_a_question_file(tmp_path, pipeline):  # noqa: F811
    bright = pictures(tmp_path, 9)
    labels = ["yes" if one else "no" for one in bright]
    labels[0] = {"yes": "no", "no": "yes"}[labels[0]]
    file = tmp_path / "questions.json"
    lines = [
        json.dumps({"image": f"{n}.png", "text": pope.question("dog" * (1 + n % 3)), "label": label})
        for n, label in enumerate(labels)
    ]
    file.write_text("\n".join(lines) + "\n")
    found = [
        pope.POPE(questions=str(file), images=str(tmp_path), batch_size=size)(
            Oracle.of(pipeline, ("no, not one", "yes")), {}, pipeline, key=KEY
        )
        for size in (2, 9)
    ]
    assert found[0] == found[1]
    assert found[0]["count"] == 9 and found[0]["accuracy"] == pytest.approx(8 / 9)
    file.write_text("\n".join([*lines[:2], "{"]))
    with pytest.raises(UserError, match="line 3 is not JSON"):
        pope.POPE(questions=str(file))(Oracle.of(pipeline), {}, pipeline, key=KEY)
    file.write_text('{"image": "0.png", "text": "?"}')
    with pytest.raises(UserError, match="without the field 'label'"):
        pope.POPE(questions=str(file))(Oracle.of(pipeline), {}, pipeline, key=KEY)
