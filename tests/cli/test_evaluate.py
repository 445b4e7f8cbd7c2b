import json

import pytest

from mmjax import config as configs
from mmjax.cli import evaluate
from mmjax.cli.train import run
from mmjax.errors import UserError


@pytest.fixture(scope="module")
def checkpoint(tiny_world, tmp_path_factory):
    """A CLIP after two steps, with an evaluator in its config."""
    config = configs.load("clip:tiny")
    config.data.source, config.training.steps = tiny_world, 2
    config.evaluators = {"retrieval": {"call": "mmjax.evaluation.retrieval.Retrieval", "batch_size": 8}}
    directory = tmp_path_factory.mktemp("clip")
    run(config, directory)
    return directory


def test_the_figures_are_printed_and_written(checkpoint, tmp_path, capsys):
    file = tmp_path / "figures.json"
    evaluate.main(["--checkpoint", str(checkpoint), "--json", str(file)])
    result = json.loads(file.read_text())
    figures = result["retrieval"]
    assert figures["count"] > 10
    assert 0 <= figures["image_to_text_recall_at_1"] <= figures["image_to_text_recall_at_10"] <= 1
    printed = capsys.readouterr().out
    assert f"{figures['image_to_text_recall_at_5']:.4f}" in printed
    assert "retrieval\n" in printed
    low, high = (figures[f"image_to_text_recall_at_5_{end}"] for end in ("low", "high"))
    assert low <= figures["image_to_text_recall_at_5"] <= high
    assert f"[{low:.4f}, {high:.4f}]" in printed and "_low" not in printed
    assert result["provenance"]["count"] == figures["count"]
    assert result["provenance"]["split"] == "held_out" and len(result["provenance"]["sha256"]) == 64


def test_another_split_is_another_number_of_pictures(checkpoint, capsys):
    counts = []
    for split in ("train", "held_out"):
        evaluate.main(["--checkpoint", str(checkpoint), "--split", split])
        counts.append(int(capsys.readouterr().out.split("count")[1].split()[0]))
    assert counts[0] > 2 * counts[1] > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--checkpoint"),
        (["--checkpoint", "CHECKPOINT", "--split", "test"], "no split 'test'"),
        (["--checkpoint", "CHECKPOINT", "--source", "nowhere"], "no world in nowhere"),
        (["--checkpoint", "nowhere"], "no checkpoint in .*nowhere"),
        (["--checkpoint", "CHECKPOINT", "--json", "none/figures.json"], "cannot be written"),
        (["CHECKPOINT"], "unexpected argument"),
    ],
)
def test_mistakes_are_one_sentence(checkpoint, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    arguments = [argument.replace("CHECKPOINT", str(checkpoint)) for argument in arguments]
    with pytest.raises(UserError, match=sentence) as caught:
        evaluate.main(arguments)
    assert "\n" not in str(caught.value)


def test_a_judge_is_asked_for_where_one_is_needed(checkpoint):
    from mmjax.evaluation.generation import Generation
    from mmjax.evaluation.retrieval import Retrieval

    assert evaluate.equip(Retrieval(), judge="anything", grid="x.png") == Retrieval()
    equipped = evaluate.equip(Generation(), judge=str(checkpoint), grid="x.png")
    assert (equipped.judge.step, equipped.grid) == (2, "x.png")
    assert evaluate.equip(Generation(judge=str(checkpoint))).judge.step == 2
    with pytest.raises(UserError, match="no checkpoint"):
        evaluate.equip(Generation(judge="nowhere"))
