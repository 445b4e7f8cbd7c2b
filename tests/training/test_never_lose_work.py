"""Which checkpoints stay, what happens when a run hangs, and restarts."""

import os
import signal
import sys
import threading
import time

import pytest
import toy
from toy_run import run

from mmjax.errors import UserError
from mmjax.training import supervisor, watchdog
from mmjax.training.supervisor import supervise


def kept(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir())


def test_the_newest_the_periodic_and_the_best_checkpoints_stay_also_after_a_resume(tmp_path):
    quality = {4: 0.2, 8: 0.9, 12: 0.3, 16: 0.4, 20: 0.1, 24: float("nan"), 26: 0.5}
    settings = dict(
        keep=1,
        keep_every=10,
        keep_best="toy/quality:max",
        evaluate=lambda step, params: {"toy/quality": quality[step]},
        evaluate_every=4,
    )
    run(tmp_path, steps=16, **settings)
    assert kept(tmp_path) == [8, 10, 16]  # 8 was saved because it was evaluated
    run(tmp_path, steps=26, **settings)
    assert kept(tmp_path) == [8, 10, 20, 26]


def test_the_best_may_be_the_least(tmp_path):
    def evaluate(step, params):
        return {"loss/held_out": abs(step - 4)}

    run(tmp_path, steps=9, keep=1, keep_best="loss/held_out:min", evaluate=evaluate, evaluate_every=3)
    assert kept(tmp_path) == [3, 9]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"keep_best": "toy/x", "evaluate_every": 1}, "'toy/x' is not of the form metric:max or metric:min"),
        ({"keep_best": "toy/x:max"}, "set training.evaluate_every"),
        ({"keep_best": "toy/x:max", "evaluate_every": 1}, "no evaluator reports that; known: toy/quality"),
    ],
)
def test_a_best_that_cannot_be_found_is_told(settings, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        run(tmp_path, steps=2, evaluate=lambda step, params: {"toy/quality": 1.0}, **settings)


def stuck(first, *, at, until):
    """Batches; that of step `at` comes when `until` says so."""
    for step in range(first, 20):
        while step == at and not until():
            time.sleep(0.01)
        yield toy.batch(step)


def test_a_run_that_hangs_tells_at_what_and_writes_its_stacks(tmp_path, capfd, monkeypatch):
    left = []
    monkeypatch.setattr(watchdog.os, "_exit", left.append)
    path = tmp_path / "stacks-0.txt"
    state = run(
        tmp_path,
        steps=6,
        batches=lambda first: stuck(first, at=4, until=lambda: left),
        hang_seconds=2.0,
        hang_exit=True,
    )
    assert int(state.step) == 6  # a hang that ends by itself does no harm
    assert left == [75]
    for text in (path.read_text(), capfd.readouterr().err):
        assert "finished no update for 2 s (training.hang_seconds) while at: input" in text
        assert "in stuck" in text  # the stack of the thread that waits


def test_a_run_that_goes_on_hears_nothing(tmp_path):
    with watchdog.Watchdog(0.5, tmp_path, leave=True) as dog:
        for _ in range(12):
            time.sleep(0.1)
            dog.beat()
    assert not list(tmp_path.iterdir())


CHILD = """
import os, pathlib, signal, sys, time
log = pathlib.Path(sys.argv[1])
ends = sys.argv[2].split(",")
lives = log.read_text().count("x") if log.exists() else 0
log.open("a").write("x")
end = ends[min(lives, len(ends) - 1)]
if end == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    log.open("a").write("ready")
    time.sleep(60)
os.kill(os.getpid(), 9) if end == "killed" else sys.exit(int(end))
"""


def supervised(tmp_path, ends, restarts, progress=lambda: None):
    """(exit code, number of runs, waits) of a command whose runs end in the given ways."""
    log, waits = tmp_path / "log", []
    command = [sys.executable, "-c", CHILD, str(log), ends]
    code = supervise(command, restarts, progress=progress, sleep=waits.append)
    return code, log.read_text().count("x"), waits


def test_crashes_kills_and_interruptions_are_restarted_with_growing_waits(tmp_path):
    assert supervised(tmp_path, "1,killed,75,0", 3) == (0, 4, [1, 2, 4])


def test_a_user_error_is_not_repeated(tmp_path):
    assert supervised(tmp_path, "75,2,0", 3) == (2, 2, [1])


def test_restarts_without_a_new_checkpoint_come_to_an_end(tmp_path, capfd):
    assert supervised(tmp_path, "killed", 2) == (137, 3, [1, 2])
    assert "killed by signal 9; 2 restarts brought no new checkpoint" in capfd.readouterr().err


def test_progress_starts_the_count_anew(tmp_path):
    steps = iter([0, 5, 5, 9, 9, 9])
    assert supervised(tmp_path, "1", 2, lambda: next(steps)) == (1, 5, [1, 2, 1, 2])


def test_a_sigterm_is_passed_on_and_ends_it(tmp_path):
    def terminate():
        while "ready" not in (log.read_text() if log.exists() else ""):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    log, before = tmp_path / "log", signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=terminate)
    thread.start()
    assert supervised(tmp_path, "wait", 3) == (75, 1, [])
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == before
    assert supervisor.LONGEST_WAIT == 60
