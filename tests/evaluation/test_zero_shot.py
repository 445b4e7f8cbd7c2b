import colours
import jax
import numpy as np
import pytest
from PIL import Image

from mmjax.errors import UserError
from mmjax.evaluation import zero_shot
from mmjax.evaluation.zero_shot import Folder, ZeroShot, class_vectors, score

KEY = jax.random.key(0)
CLASSES = 5


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return colours.pipeline(tmp_path_factory.mktemp("colours"))


@pytest.fixture
def folder(tmp_path):
    """Two pictures per colour, as .png and .JPG; class 4 has one more, in the colour of class 0."""
    for number in range(CLASSES):
        (tmp_path / f"n{number}").mkdir()
        for name, size in (("b.png", (8, 8)), ("a.JPG", (16, 12))):
            Image.new("RGB", size, tuple(map(int, colours.PALETTE[number]))).save(
                tmp_path / f"n{number}" / name
            )
    Image.new("RGB", (8, 8), tuple(map(int, colours.PALETTE[0]))).save(tmp_path / "n4" / "wrong.png")
    (tmp_path / "n4" / "notes.txt").write_text("no picture")
    names = [f"n{number} {colours.CAPTIONS[number]}" for number in range(CLASSES)]
    (tmp_path / "classes.txt").write_text("\n".join(names) + "\n\n")
    (tmp_path / "prompts.txt").write_text("{}\n")
    return tmp_path


def test_an_ensemble_is_the_unit_mean_of_unit_vectors():
    vectors = {"a x": [2, 0], "b x": [0, 5], "a y": [0, 1], "b y": [0, 3]}
    found = class_vectors(
        lambda texts: np.array([vectors[text] for text in texts]), ["x", "y"], ["a {}", "b {}"]
    )
    np.testing.assert_allclose(found, [[np.sqrt(0.5), np.sqrt(0.5)], [0, 1]], rtol=1e-12)


def test_scores_by_hand():
    found = score(np.array([[3.0, 0], [0, 1], [1, 1.1], [1, 0]]), np.eye(2), np.array([0, 0, 1, 0]), (1, 2))
    assert (found["count"], found["classes"]) == (4, 2)
    assert found["top_1"] == 0.75 and found["top_2"] == found["top_2_low"] == 1
    assert found["mean_per_class"] == pytest.approx((2 / 3 + 1) / 2)
    collapsed = score(np.ones((6, 3)), np.ones((4, 3)), np.arange(6) % 4, (1,))
    assert collapsed["top_1"] == 0.25  # ties are worth their expectation


def test_the_folder(folder):
    found = Folder.open(str(folder))
    assert found.classes == tuple(colours.CAPTIONS[:CLASSES])
    assert [path.name for path in found.paths[:2]] == ["a.JPG", "b.png"]
    assert list(found.labels) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4]


def test_a_system_that_knows_its_colours(folder, pipeline):
    params = colours.parameters(pipeline)
    found = [
        ZeroShot(directory=str(folder), templates=str(folder / "prompts.txt"), batch_size=size)(
            colours.Painter(), params, pipeline, key=KEY
        )
        for size in (3, 16)
    ]
    assert found[0] == found[1]
    assert (found[0]["count"], found[0]["classes"], found[0]["top_5"]) == (11, CLASSES, 1)
    assert found[0]["top_1"] == pytest.approx(10 / 11)
    assert found[0]["top_1_low"] < 10 / 11 < found[0]["top_1_high"] <= 1
    some = ZeroShot(directory=str(folder), templates=str(folder / "prompts.txt"), limit=10)
    assert some(colours.Painter(), params, pipeline, key=KEY)["top_1"] == 1


def test_prompts(folder):
    assert ZeroShot().prompts == ("a photo of a {}.",)
    assert len(set(ZeroShot(templates="seven").prompts)) == 7
    assert all("{}" in prompt for prompt in zero_shot.SEVEN)
    assert ZeroShot(templates=str(folder / "prompts.txt")).prompts == ("{}",)


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda root: (root / "classes.txt").unlink(), r"classes\.txt cannot be read"),
        (lambda root: (root / "classes.txt").write_text("\n"), r"classes\.txt is empty"),
        (lambda root: (root / "classes.txt").write_text("n9 x"), "names the folder 'n9'"),
        (lambda root: (root / "prompts.txt").write_text("a photo"), "the prompt 'a photo' without {}"),
        (lambda root: (root / "n1" / "b.png").write_bytes(b"x"), r"b\.png cannot be used"),
    ],
)
def test_mistakes_are_one_sentence(folder, pipeline, break_it, sentence):
    break_it(folder)
    evaluator = ZeroShot(directory=str(folder), templates=str(folder / "prompts.txt"))
    with pytest.raises(UserError, match=sentence) as caught:
        evaluator(colours.Painter(), colours.parameters(pipeline), pipeline, key=KEY)
    assert "\n" not in str(caught.value)
