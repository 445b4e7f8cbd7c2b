import json

import jax
import numpy as np
import pytest
from answering import Oracle, pictures, pipeline  # noqa: F401

from mmjax import config as configs
from mmjax.errors import UserError
from mmjax.evaluation import consensus
from mmjax.evaluation.asking import Asking, Question, records
from mmjax.evaluation.consensus import COCOCaptions

KEY = jax.random.key(0)


def test_every_batch_size_gives_the_same_answers_in_order(tmp_path, pipeline):  # noqa: F811
    bright = pictures(tmp_path, 7)
    questions = [Question(f"{n}.png", "Is it " + "very " * (n % 3) + "bright?") for n in range(7)]
    said = [
        Asking(images=str(tmp_path), batch_size=size).answers(Oracle.of(pipeline), {}, pipeline, questions)
        for size in (1, 3, 7, 20)
    ]
    assert said == [["yes" if one else "no" for one in bright]] * 4
    with pytest.raises(UserError, match=r"x\.png cannot be read"):
        Asking(images=str(tmp_path)).answers(Oracle.of(pipeline), {}, pipeline, [Question("x.png", "What?")])
    with pytest.raises(UserError, match="no question"):
        Asking(images=str(tmp_path)).answers(Oracle.of(pipeline), {}, pipeline, [])


def test_records_are_a_list_or_lines(tmp_path):
    file = tmp_path / "file.json"
    for content in ('[{"a": 1}, {"a": 2}]', '{"a": 1}\n\n{"a": 2}\n'):
        file.write_text(content)
        assert records(str(file)) == [{"a": 1}, {"a": 2}]
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        records(str(file))


def test_captions_of_coco(tmp_path, pipeline):  # noqa: F811
    bright = pictures(tmp_path, 5)
    references = [["a cat", "cat on a mat"], ["a dog"], ["a cat sleeps"], ["a dog", "the dog"], ["two cats"]]
    content = {
        "images": [{"id": 10 + n, "file_name": f"{n}.png"} for n in range(5)] + [{"id": 9, "file_name": "x"}],
        "annotations": [
            {"image_id": 10 + n, "caption": one} for n, several in enumerate(references) for one in several
        ],
    }
    file = tmp_path / "captions.json"
    file.write_text(json.dumps(content))
    words = ("a dog", "a cat")
    evaluator = COCOCaptions(images=str(tmp_path), annotations=str(file), prompt="A photo of this:")
    found = evaluator(Oracle.of(pipeline, words), {}, pipeline, key=KEY)
    assert found == consensus.score([words[int(one)] for one in bright], references)
    assert found["count"] == 5 and found["cider"] > 0


def test_two_files_of_captions(tmp_path):
    said, known = {"x": "a cat", "y": "a dog"}, {"y": ["the dog"], "x": ["a cat", "cats"]}
    for name, content in (("said", said), ("known", known)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    found = consensus.of_files(str(tmp_path / "said.json"), str(tmp_path / "known.json"))
    assert found == consensus.score(["a cat", "a dog"], [known["x"], known["y"]])
    assert np.isfinite(list(found.values())).all()


@pytest.mark.parametrize(
    "path",
    [
        "amber.AMBER", "chair.CHAIR", "clipscore.CLIPScore", "consensus.COCOCaptions", "consensus.Consensus",
        "image_quality.ImageQuality", "pope.POPE", "vqa.VQA", "zero_shot.ZeroShot",
    ],
)  # fmt: skip
def test_evaluators_are_built_from_configs_and_refuse_what_they_lack(path, pipeline):  # noqa: F811
    evaluator = configs.call({"call": f"mmjax.evaluation.{path}", "batch_size": 3}, where="evaluators.x")
    assert evaluator.batch_size == 3
    with pytest.raises(UserError) as caught:
        evaluator(object(), {}, pipeline, key=KEY)
    assert "\n" not in str(caught.value)
