import colours
import jax
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.evaluation.captions import Captions, another, score, shared_words, word_f1

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return colours.pipeline(tmp_path_factory.mktemp("colours"))


def test_word_f1_by_hand():
    f1 = lambda said, reference: word_f1(said.split(), reference.split())  # noqa: E731
    np.testing.assert_allclose(f1("a red cat", "red cat sleeping now"), 4 / 7)
    np.testing.assert_allclose(f1("the the the", "the cat"), 2 / 5)
    assert f1("", "cat") == f1("dog", "cat") == 0
    assert f1("cat red", "red cat") == 1


def test_scores_by_hand():
    references = ["man dark skin tone", "woman light skin tone"]
    figures = score(["Man  dark skin tone", "man skin tone"], references)
    assert shared_words(references) == {"skin", "tone"}
    assert figures["exact_match"] == 0.5  # case and white space do not matter
    np.testing.assert_allclose(figures["word_f1"], (1 + 4 / 7) / 2)
    np.testing.assert_allclose(figures["content_word_f1"], 0.5)


def test_words_that_say_nothing_earn_nothing():
    references = ["man dark skin tone", "woman light skin tone", "skin tone"]
    figures = score(["skin tone"] * 3, references)
    assert figures["word_f1"] > 0.7
    assert figures["content_word_f1"] == 0
    assert score(["cat", "cat"], ["cat", "cat"])["content_word_f1"] == 1  # one reference shares nothing away


def test_the_partner_is_always_another_record():
    for count in (2, 3, 50):
        partner = another(count, KEY)
        assert sorted(partner) == list(range(count))
        assert (partner != np.arange(count)).all()


def test_looking_pays_and_not_looking_does_not(pipeline):
    seeing = Captions(batch_size=16)(colours.Painter(), colours.parameters(pipeline), pipeline, key=KEY)
    assert seeing["count"] == colours.COUNT
    assert seeing["exact_match"] == seeing["word_f1"] == seeing["content_word_f1"] == 1
    assert seeing["shuffled_exact_match"] == seeing["shuffled_content_word_f1"] == 0
    np.testing.assert_allclose(seeing["shuffled_word_f1"], 0.5)  # 'colour' and 'number', in every caption

    blind = Captions(batch_size=16)(colours.Painter(), colours.parameters(pipeline, 0), pipeline, key=KEY)
    assert blind["word_f1"] == blind["shuffled_word_f1"] > 0
    assert blind["content_word_f1"] == 0


def test_the_batch_size_does_not_matter(pipeline):
    params = colours.parameters(pipeline, 12)
    small, large = (Captions(batch_size=b)(colours.Painter(), params, pipeline, key=KEY) for b in (7, 16))
    assert small == large


def test_a_system_that_cannot_write_is_told_apart(pipeline):
    with pytest.raises(UserError, match="cannot write captions"):
        Captions()(object(), {}, pipeline, key=KEY)
