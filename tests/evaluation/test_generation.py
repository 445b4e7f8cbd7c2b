import dataclasses
import types

import colours
import jax
import numpy as np
import pytest
from PIL import Image

from mmjax.errors import UserError
from mmjax.evaluation.generation import Generation, contains
from mmjax.evaluation.grid import beside, save, tiled

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return colours.pipeline(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def judge(pipeline):
    """Another CLIP: it knows the same colours, slightly off."""
    params = jax.tree.map(lambda leaf: leaf * 0.99, colours.parameters(pipeline)["clip"])
    return types.SimpleNamespace(
        system=colours.Painter(), params=params, tokenizer=pipeline.tokenizer, data_config=pipeline.config
    )


def test_right_pictures_are_recognised_and_wrong_ones_are_not(pipeline, judge):
    evaluator = Generation(judge=judge, batch_size=16, steps=1)
    right = evaluator(colours.Painter(), colours.parameters(pipeline), pipeline, key=KEY)
    assert right["count"] == colours.COUNT
    assert right["recall_at_1"] == right["real_recall_at_1"] == 1
    np.testing.assert_allclose(right["chance_at_5"], 5 / colours.COUNT)
    wrong = evaluator(colours.Painter(), colours.parameters(pipeline, 0), pipeline, key=KEY)  # all black
    assert wrong["recall_at_1"] <= 1 / colours.COUNT
    assert wrong["real_recall_at_1"] == 1


def test_neither_batch_size_nor_limit_changes_a_picture(pipeline, judge):
    painter, params = colours.Painter(noise=0.3), colours.parameters(pipeline)
    drawn = [
        Generation(judge=judge, batch_size=b, steps=1, limit=limit).draw(painter, params, pipeline, key=KEY)
        for b, limit in ((7, None), (16, None), (4, 10))
    ]
    np.testing.assert_array_equal(drawn[0].drawn, drawn[1].drawn)
    np.testing.assert_array_equal(drawn[0].drawn[:10], drawn[2].drawn)
    assert len(drawn[2].captions) == 10
    black = Generation(judge=judge, steps=1).draw(painter, colours.parameters(pipeline, 0), pipeline, key=KEY)
    assert (black.drawn[0] != black.drawn[1]).mean() > 0.3  # each record has noise of its own


def test_the_judge_must_be_another_clip(pipeline, judge):
    params = colours.parameters(pipeline)
    same = types.SimpleNamespace(**{**vars(judge), "params": params["clip"]})
    with pytest.raises(UserError, match="conditions the decoder"):
        Generation(judge=same)(colours.Painter(), params, pipeline, key=KEY)
    for missing in (None, "runs/judge"):
        with pytest.raises(UserError, match="--judge DIR"):
            Generation(judge=missing)(colours.Painter(), params, pipeline, key=KEY)
    small = dataclasses.replace(pipeline.config, image_size=4)
    other = types.SimpleNamespace(**{**vars(judge), "data_config": small})
    with pytest.raises(UserError, match="equal sizes"):
        Generation(judge=other)(colours.Painter(), params, pipeline, key=KEY)


def test_contains_finds_equal_subtrees_only():
    part = {"a": np.arange(3), "b": {"c": np.ones(2)}}
    assert contains({"x": {"y": part}, "z": np.zeros(1)}, {"a": np.arange(3), "b": {"c": np.ones(2)}})
    assert not contains({"x": part}, {"a": np.arange(3), "b": {"c": np.array([1, 1.1])}})
    assert not contains({"x": part}, {"a": np.arange(3)})


def test_grids_hold_every_picture(tmp_path):
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 6, 6, 3), np.uint8)
    whole = tiled(pictures, columns=3)
    assert whole.shape == (2 * 10 + 4, 3 * 10 + 4, 3)
    assert whole[4, 4, 0] == 0 and whole[4, 14, 0] == 1 and whole[14, 14, 0] == 4 and whole[14, 24, 0] == 255
    both = beside(pictures, 100 + pictures, columns=3)
    assert both[4, 4, 0] == 0 and both[4, whole.shape[1] + 16 + 4, 0] == 100
    save(both, tmp_path / "grid.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "grid.png")), both)
    for path in (tmp_path / "none" / "grid.png", tmp_path / "grid.unknown"):
        with pytest.raises(UserError, match="cannot be saved as"):
            save(both, path)


def test_the_grid_is_saved_on_request(pipeline, judge, tmp_path):
    path = tmp_path / "grid.png"
    Generation(judge=judge, limit=3, grid=str(path))(
        colours.Painter(), colours.parameters(pipeline), pipeline, key=KEY
    )
    assert path.is_file()
