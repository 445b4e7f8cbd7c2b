import itertools

import colours
import jax
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.evaluation.retrieval import Retrieval, chances, hits, recalls

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return colours.pipeline(tmp_path_factory.mktemp("colours"))


def test_two_pictures_with_two_captions_each():
    similarity = np.array([[0.9, 0.8, 0.7, 0.1], [0.4, 0.3, 0.2, 0.1]])
    right = np.array([[0, 0, 1, 0], [0, 0, 1, 1]], bool)
    np.testing.assert_array_equal(hits(similarity, right, (1, 2, 3)), [[0, 0, 1], [0, 0, 1]])


def test_ties_are_worth_their_expectation_over_all_orders():
    """Against brute force: the mean over every order in which the tied candidates can be sorted."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        similarity = rng.integers(0, 3, (1, 6)).astype(float)
        right = rng.random((1, 6)) < 0.4
        right[0, rng.integers(6)] = True
        orders = [
            order
            for order in itertools.permutations(range(6))
            if all(similarity[0, a] >= similarity[0, b] for a, b in itertools.pairwise(order))
        ]
        for k, value in zip((1, 2, 4), hits(similarity, right, (1, 2, 4))[0], strict=True):
            expected = np.mean([right[0, list(order[:k])].any() for order in orders])
            np.testing.assert_allclose(value, expected, atol=1e-12)


def test_a_collapsed_or_broken_model_gets_chance():
    labels = np.arange(50)
    for constant in (np.zeros((50, 3)), np.full((50, 3), np.nan)):
        found = recalls(constant, constant, labels, labels, (1, 5, 10))
        np.testing.assert_allclose(found, [0.02, 0.1, 0.2])


def test_any_caption_with_the_right_text_counts():
    labels = np.array(["cat", "dog", "cat"], object)
    image, text = np.eye(3), np.eye(3)[[2, 1, 0]]  # each 'cat' prefers the caption of the other 'cat'
    np.testing.assert_allclose(recalls(image, text, labels, labels, (1,)), [1.0])
    np.testing.assert_allclose(recalls(image, text, np.arange(3), np.arange(3), (1,)), [1 / 3])
    np.testing.assert_allclose(chances(labels, (1,)), [(2 / 3 + 1 / 3 + 2 / 3) / 3])


def test_more_candidates_than_a_block_holds(monkeypatch):
    rng = np.random.default_rng(1)
    queries, candidates, labels = rng.normal(size=(30, 4)), rng.normal(size=(30, 4)), rng.integers(0, 9, 30)
    whole = recalls(queries, candidates, labels, labels, (1, 5))
    monkeypatch.setattr("mmjax.evaluation.retrieval._BLOCK", 7)
    np.testing.assert_allclose(recalls(queries, candidates, labels, labels, (1, 5)), whole)


def test_a_system_that_knows_the_world_and_one_that_knows_half(pipeline):
    everything = Retrieval(batch_size=16)(colours.Painter(), colours.parameters(pipeline), pipeline, key=KEY)
    assert everything["count"] == colours.COUNT  # the broken picture and the padding rows are not counted
    assert everything["image_to_text_recall_at_1"] == everything["text_to_image_recall_at_5"] == 1.0
    np.testing.assert_allclose(everything["chance_at_5"], 5 / colours.COUNT)
    half = Retrieval(batch_size=16)(colours.Painter(), colours.parameters(pipeline, 12), pipeline, key=KEY)
    assert 12 / 23 <= half["image_to_text_recall_at_1"] < 0.7


def test_the_batch_size_does_not_matter(pipeline):
    params = colours.parameters(pipeline, 12)
    small, large = (Retrieval(batch_size=b)(colours.Painter(), params, pipeline, key=KEY) for b in (7, 16))
    assert small == large


def test_a_system_without_text_is_told_apart(pipeline):
    class Blind:
        pass

    with pytest.raises(UserError, match="a Blind cannot embed pictures"):
        Retrieval()(Blind(), {}, pipeline, key=KEY)
