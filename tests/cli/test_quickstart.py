import json

import pytest

from mmjax.cli import quickstart
from mmjax.cli.quickstart import Progress
from mmjax.errors import UserError


class Killed(BaseException):
    pass


def test_a_killed_stage_keeps_its_time_and_is_not_done(tmp_path, monkeypatch):
    clock = iter([0.0, 5.0, 100.0, 107.0])
    monkeypatch.setattr(quickstart.time, "monotonic", lambda: next(clock))
    with pytest.raises(Killed), Progress.open(tmp_path, "tiny").timed("clip"):
        raise Killed
    progress = Progress.open(tmp_path, "tiny")
    assert not progress.is_done("clip")
    with progress.timed("clip"):
        pass
    progress = Progress.open(tmp_path, "tiny")
    assert progress.is_done("clip")
    assert progress.seconds == {"clip": 12.0}


def test_doing_a_stage_again_costs_nothing_and_an_evaluation_counts_anew(tmp_path, monkeypatch):
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(quickstart.time, "monotonic", lambda: float(next(now)))
    progress = Progress.open(tmp_path, "tiny")
    for _ in range(2):
        with progress.timed("data"):
            pass
        with progress.timed("evaluation", once=False):
            pass
    assert Progress.open(tmp_path, "tiny").seconds == {"data": 10.0, "evaluation": 10.0}


def test_a_workdir_holds_one_variant(tmp_path):
    with Progress.open(tmp_path, "tiny").timed("data"):
        pass
    with pytest.raises(UserError, match="holds a tiny run"):
        quickstart.main(["--workdir", str(tmp_path)])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        quickstart.main(["--workdir", str(tmp_path / "file" / "run")])


@pytest.mark.slow
def test_the_tiny_quickstart_runs_to_its_report_and_resumes(tmp_path, monkeypatch, capsys):
    train = quickstart.train.run
    started = []

    def interrupted(config, workdir):
        started.append(workdir.name)
        if started == ["clip", "judge"]:
            raise Killed
        return train(config, workdir)

    monkeypatch.setattr(quickstart.train, "run", interrupted)
    with pytest.raises(Killed):
        quickstart.main(["--tiny", "--workdir", str(tmp_path)])
    quickstart.main(["--tiny", "--workdir", str(tmp_path)])
    assert started == ["clip", "judge", "judge", "flamingo", "decoder"]

    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["clip"]["held_out"] == metrics["generation"]["count"] == metrics["caption"]["count"] > 10
    expected = {
        "clip": ["image_to_text_recall_at_1", "image_to_text_recall_at_5", "text_to_image_recall_at_1"],
        "caption": ["exact_match", "word_f1", "content_word_f1"],
        "generation": ["recall_at_5", "real_recall_at_5"],
    }
    for part, names in expected.items():
        assert all(0 <= metrics[part][name] <= 1 for name in names)
    seconds = metrics["seconds"]
    assert {"data", "clip", "flamingo", "decoder", "total"} <= set(seconds)
    assert seconds["total"] == pytest.approx(sum(v for name, v in seconds.items() if name != "total"))
    report = (tmp_path / "report.html").read_text()
    assert "OpenMoji" in report and report.count("<svg") == 4 and report.count("<img") > 50
    assert (tmp_path / "drawings.png").is_file()
    assert "report.html" in capsys.readouterr().out
