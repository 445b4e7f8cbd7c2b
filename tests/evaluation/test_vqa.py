import json

import jax
import numpy as np
import pytest
from answering import Oracle, pictures, pipeline  # noqa: F401

from mmjax.errors import UserError
from mmjax.evaluation import vqa

KEY = jax.random.key(0)


@pytest.mark.parametrize(("matches", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_accuracy_by_how_many_people_agree(matches, expected):
    people = ["red"] * matches + ["blue"] * (10 - matches)
    np.testing.assert_allclose(vqa.accuracy("red", people), expected, atol=1e-12)


def test_accuracy_is_the_mean_over_leaving_each_person_out():
    rng = np.random.default_rng(0)
    for _ in range(30):
        people = list(rng.choice(["x", "y", "z"], 10))
        left = [sum(p == "x" for p in people[:n] + people[n + 1 :]) for n in range(10)]
        assert vqa.accuracy("x", people) == pytest.approx(np.mean([min(1, m / 3) for m in left]), abs=1e-12)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The two-storey house.", "2 storey house"),
        ("1,000 people", "1000 people"),
        ("red, white", "red white"),
        ("red,white", "red white"),
        ("$3.50", "$3.50"),
        ("5 p.m.", "5 pm"),
        ("none", "0"),
        ("Ten\n", "10"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("its", "its"),
        ("an apple a day", "apple day"),
        ("yes!", "yes"),
        ("b/w", "b w"),
        ("(maybe) no", "maybe no"),
    ],
)
def test_normalisation(answer, expected):
    assert vqa.normalize(answer) == expected


def test_the_quirk_of_unanimous_people():
    assert vqa.accuracy("Two", ["two"] * 10) == 1
    assert vqa.accuracy("Two", ["two"] * 10, reference_quirks=True) == 0
    for quirks in (False, True):
        assert vqa.accuracy("Two", ["two"] * 9 + ["2"], reference_quirks=quirks) == 1
    many = "." * 40 + "x"
    assert vqa.normalize(many) == "x"
    assert vqa.normalize(many, reference_quirks=True) == "." * 8 + "x"


def test_types_of_answers_have_figures_of_their_own():
    found = vqa.score([1, 0, 0.3, 0.6], ["yes/no", "yes/no", "other", "number"])
    assert found["count"] == 4 and found["accuracy"] == pytest.approx(0.475)
    assert found["accuracy_yes_no"] == 0.5 and found["count_yes_no"] == 2
    assert found["accuracy_number_low"] == found["accuracy_number"] == 0.6
    assert 0 <= found["accuracy_low"] < 0.475 < found["accuracy_high"] <= 1


def test_a_system_on_the_public_files(tmp_path, pipeline):  # noqa: F811
    shades = pictures(tmp_path, 7)
    asked = [{"image_id": n, "question": "Is it bright?", "question_id": 100 + n} for n in range(7)]
    answers = [["yes"] * 3 + ["no"] * 7 if n % 2 else ["Yes!"] * 5 + ["a yes"] * 5 for n in range(7)]
    known = [
        {
            "question_id": 100 + n,
            "answer_type": "yes/no",
            "answers": [{"answer": one, "answer_id": k} for k, one in enumerate(answers[n])],
        }
        for n in range(7)
    ]
    files = {"questions": {"questions": asked}, "annotations": {"annotations": known[::-1]}}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    expected = [
        vqa.accuracy("yes" if bright else "no", people)
        for bright, people in zip(shades, answers, strict=True)
    ]
    found = []
    for batch_size in (3, 16):
        evaluator = vqa.VQA(
            images=str(tmp_path), image_name="{:d}.png", batch_size=batch_size,
            **{name: str(tmp_path / f"{name}.json") for name in files},
        )  # fmt: skip
        found.append(evaluator(Oracle.of(pipeline), {}, pipeline, key=KEY))
    assert found[0] == found[1]
    assert found[0]["count"] == 7 and 0 < np.mean(expected) < 1
    assert found[0]["accuracy"] == pytest.approx(np.mean(expected), abs=1e-12)
    with pytest.raises(UserError, match=r"none\.json cannot be read"):
        vqa.VQA(questions="none.json")(Oracle.of(pipeline), {}, pipeline, key=KEY)
