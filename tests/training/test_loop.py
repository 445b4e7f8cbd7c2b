"""The loop: resume to the bit, kill, SIGTERM, loss that is not finite, logs, initialisation."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import toy
from toy_run import run

from mmjax.errors import UserError
from mmjax.training import checkpoints, metrics
from mmjax.training.loop import Interrupted

HERE = Path(__file__).parent


def assert_same_bits(one, other):
    one, other = jax.tree_util.tree_leaves_with_path(one), jax.tree_util.tree_leaves_with_path(other)
    assert len(one) == len(other)
    for (path, a), (_, b) in zip(one, other, strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.array_equal(a, b), jax.tree_util.keystr(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(workdir, state) of 20 uninterrupted updates."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run(workdir)


def recorded(first, log):
    """Batches that note which step each belongs to."""
    while True:
        log.append(first)
        yield toy.batch(first)
        first += 1


def test_20_updates_equal_10_then_resume_then_10_to_the_bit(whole, tmp_path):
    seen = []
    run(tmp_path, steps=10, batches=lambda first: recorded(first, seen))
    state = run(tmp_path, batches=lambda first: recorded(first, seen))
    assert seen == list(range(20))
    assert_same_bits(state, whole[1])
    assert state.ema is not None
    losses = [[line["loss"] for line in metrics.read(w / "metrics.jsonl")] for w in (tmp_path, whole[0])]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 20


def test_the_checkpoint_gives_back_the_state_and_a_finished_run_trains_no_further(whole):
    workdir, state = whole
    assert checkpoints.find(workdir).name == "20"
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["15", "20"]  # keep=2

    def no_batches(first):
        raise AssertionError("a finished run asked for data")

    assert_same_bits(run(workdir, batches=no_batches), state)
    assert checkpoints.load_run(workdir) == {"config": {"name": "toy"}}


def test_load_params_prefers_the_ema_and_keeps_the_frozen(whole):
    workdir, state = whole
    params = checkpoints.load_params(workdir)
    assert np.array_equal(params["head"]["kernel"], state.ema["head"]["kernel"])
    assert not np.array_equal(params["head"]["kernel"], state.params["head"]["kernel"])
    assert np.array_equal(params["frozen"], state.params["frozen"])
    inside = checkpoints.load_params(workdir, "head")
    assert set(inside) == {"kernel", "bias"}
    assert np.array_equal(checkpoints.load_params(workdir, "head/kernel"), inside["kernel"])
    with pytest.raises(
        UserError, match=r"nothing|no parameters under 'haed'; it has embedding, frozen, head"
    ):
        checkpoints.load_params(workdir, "haed")


def test_sigterm_saves_and_exits_with_the_documented_code_and_resumes(whole, tmp_path):
    def terminated(first):
        for number in range(first, 20):
            if number == 7:
                os.kill(os.getpid(), signal.SIGTERM)
            yield toy.batch(number)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as stop:
        run(tmp_path, batches=terminated)
    assert stop.value.code == 75
    assert checkpoints.find(tmp_path).name == "8"  # no multiple of 5: saved because of the signal
    assert signal.getsignal(signal.SIGTERM) == before
    assert_same_bits(run(tmp_path), whole[1])


def start(workdir, **settings):
    return subprocess.Popen(
        [sys.executable, str(HERE / "toy_run.py"), str(workdir), json.dumps(settings)],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def finished(workdir):
    folder = workdir / "checkpoints"
    return (
        max((int(p.name) for p in folder.iterdir() if p.name.isdigit()), default=0) if folder.exists() else 0
    )


def test_kill_9_during_saves_loses_nothing_older_than_the_last_finished_save(tmp_path):
    settings = dict(steps=100_000, checkpoint_every=1, log_every=1000)
    safe = 0
    for goal in (3, 20, 37):
        process = start(tmp_path, **settings)
        try:
            while finished(tmp_path) < safe + goal:  # the next save is always under way
                assert process.poll() is None
                time.sleep(0.002)
            safe = finished(tmp_path)
        finally:
            process.kill()
            process.wait()
        assert int(checkpoints.find(tmp_path).name) >= safe
    safe = int(checkpoints.find(tmp_path).name)
    resumed = run(tmp_path, steps=safe + 3)
    assert_same_bits(resumed, run(tmp_path / "whole", steps=safe + 3, checkpoint_every=0))
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if "tmp" in p.name]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_good_checkpoint(tmp_path):
    def exploding(first, *, at=12):
        for number in range(first, 20):
            batch = toy.batch(number)
            batch["x"][0, 0] = 1e4 if number == at else 0.0
            yield batch

    system = toy.Toy(explode_at=1e3)
    with pytest.raises(UserError) as stop:
        run(tmp_path, system=system, batches=exploding)
    assert "update 13 gave loss=inf" in str(stop.value)
    assert "checkpoint 10 is good" in str(stop.value)
    assert checkpoints.find(tmp_path).name == "10"
    # What is saved apart is the state just before the bad update.
    clean = run(tmp_path / "clean", system=system, batches=exploding, steps=12)
    saved = checkpoints.load_params(tmp_path / "diagnosis" / "12")
    assert_same_bits(saved["head"], jax.tree.map(np.asarray, clean.ema["head"]))
    # A second attempt meets the same end, and one that fails earlier is saved as well.
    for first, word in ((12, "update 13"), (3, "update 4")):
        shutil.rmtree(tmp_path / "checkpoints")
        with pytest.raises(UserError, match=word):
            run(tmp_path, system=system, batches=lambda start, first=first: exploding(start, at=first))
    assert {p.name for p in (tmp_path / "diagnosis").iterdir()} == {"3", "12"}


def test_a_bad_update_that_is_due_to_be_saved_is_not(tmp_path):
    def exploding(first):
        for number in range(first, 20):
            batch = toy.batch(number)
            batch["x"][0, 0] = 1e4 if number == 9 else 0.0
            yield batch

    with pytest.raises(UserError, match="checkpoint 5 is good"):
        run(tmp_path, system=toy.Toy(explode_at=1e3), batches=exploding)
    assert checkpoints.find(tmp_path).name == "5"


def test_evaluation_runs_when_due_with_the_ema_and_is_logged(tmp_path):
    seen = {}

    def evaluate(step, params):
        seen[step] = jax.tree.map(np.asarray, params)
        return {"toy/accuracy": step / 100}

    state = run(tmp_path, steps=7, evaluate=evaluate, evaluate_every=3)
    assert list(seen) == [3, 6, 7]
    assert_same_bits(seen[7]["head"], state.ema["head"])
    assert np.array_equal(seen[7]["frozen"], state.params["frozen"])
    lines = [line for line in metrics.read(tmp_path / "metrics.jsonl") if "toy/accuracy" in line]
    assert [(line["step"], line["toy/accuracy"]) for line in lines] == [(3, 0.03), (6, 0.06), (7, 0.07)]


def test_metrics_of_updates_that_a_resume_repeats_are_written_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 5.0}\n{"step": 2, "loss": 4.0}\n{"step": 3, "lo')
    with metrics.Metrics(tmp_path, start_step=1) as writer:
        writer.write(2, {"loss": 4.5})
    assert metrics.read(path) == [{"step": 1, "loss": 5.0}, {"step": 2, "loss": 4.5}]


def test_the_loop_copies_nothing_between_host_and_device_behind_our_back(tmp_path):
    def smuggled(step, params):
        return {}

    def on_device(first):
        for batch in toy.batches(first):
            jax.numpy.sin(np.float32(1.0))  # an implicit transfer inside the loop
            yield batch

    with pytest.raises(Exception, match=r"[Dd]isallowed host-to-device transfer"):
        run(tmp_path, batches=on_device, evaluate=smuggled)


def test_a_checkpoint_of_another_model_is_refused_by_path(whole):
    with pytest.raises(UserError, match=r"does not fit.*up/kernel is \[16, 32\] and should be \[24, 48\]"):
        run(whole[0], system=toy.Toy(width=24))
