import json

import jax
import numpy as np
import pytest
from answering import Oracle, pictures, pipeline  # noqa: F401

from mmjax.errors import UserError
from mmjax.evaluation import amber

LEXICON = amber.Lexicon(
    {"person": ["man", "people"], "man": [], "road": ["street"], "dog": ["puppy"], "sky": [], "cloud": []},
    safe=("sky",),
)


@pytest.mark.parametrize(
    ("chair", "f1", "expected"), [(7.8, 74.7, 83.45), (8.8, 81.7, 86.45), (4.6, 87.4, 91.4)]
)
def test_the_published_scores(chair, f1, expected):
    assert amber.amber_score(chair, f1) == pytest.approx(expected, abs=1e-9)


def test_nouns_are_words_of_the_vocabulary():
    assert LEXICON.nouns("Two puppies and a man's cat under clouds.") == ["puppy", "man", "cloud"]


def test_a_description_by_hand():
    nouns = LEXICON.nouns("A man on the street with a dog, under a sky with a cloud.")
    assert nouns == ["man", "street", "dog", "sky", "cloud"]
    row = amber.described(nouns, ["person", "road"], ["dog", "bird"], LEXICON)
    np.testing.assert_array_equal(row, [2, 5, 2, 2, 1, 2, 1])  # dog and cloud are wrong, dog was to be feared
    found = amber.generative(np.stack([row, [0, 5, 1, 2, 0, 2, 0]]))
    assert [found[name] for name in ("chair", "cover", "hal", "cog")] == [20, 75, 50, 25]
    assert amber.generative(row[None], reference_quirks=True)["hal"] == 100


def test_quirks_of_the_cover():
    row = lambda quirks: amber.described(  # noqa: E731
        ["man"], ["person", "man", "man"], [], LEXICON, reference_quirks=quirks
    )
    np.testing.assert_array_equal(row(False)[2:4], [2, 2])
    np.testing.assert_array_equal(row(True)[2:4], [1, 3])  # one object per noun; 'man' twice, never covered


def test_similar_words():
    alike = amber.Lexicon(LEXICON.associations, similar=lambda one, other: {one, other} == {"dog", "cloud"})
    row = lambda lexicon, quirks=False: amber.described(  # noqa: E731
        ["cloud"], ["dog"], ["cloud"], lexicon, reference_quirks=quirks
    )
    np.testing.assert_array_equal(row(LEXICON), [1, 1, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(row(alike), [0, 1, 1, 1, 0, 1, 0])
    np.testing.assert_array_equal(row(alike, True), [0, 1, 1, 1, 1, 1, 0])  # and still marked as feared


def test_no_is_the_positive_class():
    said = ["No.", "no", "Yes", "Yes, it is", "Maybe", "No"]
    truths = ["no", "yes", "yes", "no", "no", "no"]
    found = amber.discriminative(amber.answered(said, truths))
    assert found["accuracy"] == 50
    assert found["precision"] == pytest.approx(200 / 3)  # three times no, twice rightly
    assert found["recall"] == 50  # of four
    assert found["f1"] == pytest.approx(100 * 4 / 7)
    quirks = amber.discriminative(amber.answered(said, truths, reference_quirks=True), reference_quirks=True)
    # only 'Yes' and the last 'No' are words of the reference: 2 of 6, 1 of 1, 1 of 4
    assert (quirks["accuracy"], quirks["precision"], quirks["recall"]) == (33.3, 99.9, 25.0)
    assert quirks["f1"] == round(100 * 2 * 0.999 * 0.25 / (0.999 + 0.25 + 0.0001), 1)
    existence = amber.discriminative(
        amber.answered(["No"], ["no"], reference_quirks=True), reference_quirks=True, name="existence"
    )
    assert existence["f1_existence"] == round(100 * 2 * 0.999**2 / (2 * 0.999 + 0.001), 1)


@pytest.mark.parametrize(
    ("answer", "expected"), [("Yes!", "yes"), ("no, never", "no"), ("Nothing", ""), ("I see", ""), ("", "")]
)
def test_answers(answer, expected):
    assert amber.parse(answer) == expected


def _release(directory, bright):
    kinds = ["generative", "discriminative-hallucination", "discriminative-attribute-state", "relation"]
    annotations, queries = [], []
    for number in range(len(bright)):
        one = {"id": number + 1, "type": kinds[number % 4]}
        one |= (
            {"truth": ["person"], "hallu": ["dog"]}
            if number % 4 == 0
            else {"truth": ["no", "yes"][number % 2]}
        )
        annotations.append(one)
        queries.append({"id": number + 1, "image": f"{number}.png", "query": "What is in the image?"})
    (directory / "query").mkdir()
    (directory / "query" / "query_all.json").write_text(json.dumps(queries))
    (directory / "annotations.json").write_text(json.dumps(annotations))
    (directory / "relation.json").write_text(json.dumps(LEXICON.associations))
    (directory / "safe_words.txt").write_text("sky\nlight\n")


def test_a_system_on_the_release(tmp_path, pipeline):  # noqa: F811
    bright = pictures(tmp_path, 16)
    _release(tmp_path, bright)
    system = Oracle.of(pipeline, ("no dog", "yes man"))
    found = [
        amber.AMBER(data=str(tmp_path), images=str(tmp_path), batch_size=size)(
            system, {}, pipeline, key=jax.random.key(0)
        )
        for size in (5, 16)
    ]
    assert found[0] == found[1]
    described, asked = bright[::4], [n for n in range(16) if n % 4]
    right = [bright[n] == (n % 2 == 1) for n in asked]
    assert found[0]["count"] == 16
    assert found[0]["chair"] == found[0]["cog"] == 100 * np.mean(~described)
    assert found[0]["accuracy"] == pytest.approx(100 * np.mean(right))
    assert found[0]["accuracy_attribute"] == found[0]["accuracy_state"]
    assert found[0]["amber_score"] == (100 - found[0]["chair"] + found[0]["f1"]) / 2
    with pytest.raises(UserError, match=r"query_all\.json cannot be read"):
        amber.AMBER(data="none")(system, {}, pipeline, key=jax.random.key(0))
