import json
import types

import colours
import jax
import numpy as np
import pytest
from PIL import Image

from mmjax.errors import UserError
from mmjax.evaluation import clipscore
from mmjax.evaluation.captions import Described
from mmjax.evaluation.clipscore import CLIPScore, clip_scores, ref_clip_scores
from mmjax.evaluation.encoders import Encoders

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return colours.pipeline(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def judge(pipeline):
    """Text embeddings depend on the words 'A photo depicts' being there: it says which texts it was given."""

    class Reader(colours.Painter):
        def encode_text(self, params, tokens, segment):
            return self._unit(((tokens * segment)[:, :, None] % np.array([7, 11, 13])).mean(axis=1) / 13)

    return types.SimpleNamespace(
        system=Reader(), params={}, tokenizer=pipeline.tokenizer, data_config=pipeline.config
    )


def test_scores_by_hand():
    pictures = np.array([[2.0, 0], [1, 0], [1, 0]])
    captions = np.array([[1.0, 0], [1, 1], [-1, 1]])
    np.testing.assert_allclose(clip_scores(pictures, captions), [2.5, 2.5 / np.sqrt(2), 0], rtol=1e-12)
    references = [np.array([[0, 1.0], [3, 4]]), np.array([[1.0, 1]]), np.array([[-1.0, 1]])]
    expected = [2 * 2.5 * 0.6 / 3.1, 2 * (2.5 / np.sqrt(2)) / (2.5 / np.sqrt(2) + 1), 0]
    np.testing.assert_allclose(ref_clip_scores(pictures, captions, references), expected, rtol=1e-12)
    opposed = ref_clip_scores(pictures[:1], captions[:1], [np.array([[-1.0, 0]])])
    np.testing.assert_array_equal(opposed, [0])  # the paper's formula; the public code would divide 5 by -1.5


def test_a_system_and_the_people_it_repeats(pipeline, judge):
    found = [
        CLIPScore(judge=judge, batch_size=size)(
            colours.Painter(), colours.parameters(pipeline, 12), pipeline, key=KEY
        )
        for size in (7, 16)
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[0]["count"] == colours.COUNT
    assert found[0]["clip_score_low"] < found[0]["clip_score"] < found[0]["clip_score_high"]
    assert 0 < found[0]["human_clip_score"] < 2.5
    with pytest.raises(UserError, match="--judge DIR"):
        CLIPScore()(colours.Painter(), colours.parameters(pipeline), pipeline, key=KEY)


def test_the_prefix_goes_before_every_text(pipeline, judge):
    described = Described(np.array([0]), ["red"], ["blue"])
    found = CLIPScore(judge=judge).judged(described, pipeline)
    encoders = Encoders.judge(judge, batch_size=1)
    picture = encoders.pictures([encoders.image_spec.load(pipeline.record(0).image)])
    said = encoders.texts(["A photo depicts red"])
    assert found["clip_score"] == pytest.approx(clip_scores(picture, said)[0], abs=1e-6)


def test_long_texts_lose_their_last_words(pipeline, judge):
    encoders = Encoders.judge(judge, batch_size=2)
    long = "colour " * 60
    with pytest.raises(UserError, match="shorten it"):
        encoders.texts([long])
    texts = [" ".join(["colour"] * count) for count in range(1, 40)]
    fitting = [
        text for text in texts if len(pipeline.tokenizer.encode(text, special=False)) + 2 <= colours.LENGTH
    ]
    np.testing.assert_array_equal(encoders.texts([long], truncate=True), encoders.texts(fitting[-1:]))


def test_files_in_the_public_layout(pipeline, judge, tmp_path):
    encoders = Encoders.judge(judge, batch_size=2)
    captions = {"one": "red", "two": "blue"}
    references = {"one": ["dark red"], "two": ["sky", "blue sky"]}
    for number, name in enumerate(captions):
        Image.new("RGB", (9, 9), tuple(map(int, colours.PALETTE[number]))).save(tmp_path / f"{name}.png")
    (tmp_path / "said.json").write_text(json.dumps(captions))
    (tmp_path / "references.json").write_text(json.dumps(references))
    arguments = str(tmp_path), str(tmp_path / "said.json"), str(tmp_path / "references.json")
    found = clipscore.of_files(encoders, *arguments)
    pictures = encoders.pictures(encoders.image_spec.load(tmp_path / f"{name}.png") for name in captions)
    texts = lambda several: encoders.texts([f"A photo depicts {one}" for one in several])  # noqa: E731
    expected = ref_clip_scores(pictures, texts(captions.values()), [texts(r) for r in references.values()])
    assert found["count"] == 2 and found["ref_clip_score"] == pytest.approx(expected.mean(), abs=1e-6)
    assert "ref_clip_score" not in clipscore.of_files(encoders, *arguments[:2])
    (tmp_path / "two.png").unlink()
    with pytest.raises(UserError, match="without the field 'two'"):
        clipscore.of_files(encoders, *arguments)
