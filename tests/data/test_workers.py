import dataclasses
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pictures import records

from mmjax.data import lending
from mmjax.data.pipeline import DataConfig, Pipeline, _Block
from mmjax.data.tokenizer import Tokenizer
from mmjax.data.worlds.world import write
from mmjax.errors import UserError

BROKEN = ("r3", "r7", "r11")
TRAINING = """
import sys
from mmjax.data.pipeline import DataConfig, Pipeline
from mmjax.data.tokenizer import Tokenizer

if __name__ == "__main__":
    config = DataConfig(source=sys.argv[1], image_size=16, text_length=12, max_bad_share=0.5, processes=2)
    batches = Pipeline(config, Tokenizer.train(["thing"], 300)).train(8, 0)
    for _ in range(4):
        next(batches)
    print("going", flush=True)
    while True:
        next(batches)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    broken = [
        dataclasses.replace(record, image=b"\xff\xd8 nothing") if record.id in BROKEN else record
        for record in records(21)
    ]
    return write(tmp_path_factory.mktemp("data") / "world", {"train": broken}, {}).directory


def pipeline(source="", **settings):
    settings = {"source": source, "image_size": 16, "text_length": 12, "max_bad_share": 0.5, **settings}
    return Pipeline(DataConfig(**settings), Tokenizer.train(["thing"], 300))


def take(pipeline, steps, **options):
    iterator = pipeline.train(8, 0, **options)
    batches = [
        {name: np.array(array) for name, array in batch.items()}
        for batch in itertools.islice(iterator, steps)
    ]
    iterator.close()
    return batches


def test_processes_give_the_batches_of_threads_and_tell_what_is_broken(world):
    place = dict(start_step=3, process_index=1, process_count=2)
    mixture = ((world, 1.0), (f"{world}/train.arrayrecord", 1.0))
    alone, spread = pipeline(mixture=mixture), pipeline(mixture=mixture, processes=2, threads=1)
    for one, other in zip(take(alone, 30, **place), take(spread, 30, **place), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], strict=True)
    assert [id for id, *_ in spread.problems] == ["r3", "r7", "r11"] * 2
    assert spread.problems == alone.problems


def test_the_training_process_stops_at_what_all_of_them_met(world):
    spread = pipeline(world, processes=2, max_bad_share=0.1)
    with pytest.raises(UserError, match=r"more bad records than data\.max_bad_share=0\.1 allows"):
        take(spread, 12)


def test_processes_end_with_the_training_process_however_it_ends(world, tmp_path):
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    training = subprocess.Popen([sys.executable, script, world], stdout=subprocess.PIPE, text=True)
    assert training.stdout.readline() == "going\n"
    workers = children(training.pid)
    assert len(workers) == 2
    for worker in workers:  # as a scheduler does, and a Ctrl-C
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGINT)
    time.sleep(0.5)
    assert all(map(alive, workers)) and training.poll() is None
    training.kill()
    training.wait()
    deadline = time.monotonic() + 60
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "the processes outlive the training process"
        time.sleep(0.1)


def children(process):
    """Those that prepare batches."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [
        int(child)
        for task in tasks
        for child in task.read_text().split()
        if "resource_tracker" not in Path(f"/proc/{child}/cmdline").read_text()
    ]


def test_a_process_that_is_killed_is_told_in_a_sentence(world):
    before = set(children(os.getpid()))
    batches = pipeline(world, processes=1).train(8, 0)
    next(batches)
    (worker,) = set(children(os.getpid())) - before
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(UserError, match=r"a process .* ended unexpectedly.* lower data\.processes"):
        for _ in range(1000):  # those that are on their way may still come
            next(batches)
    batches.close()


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_a_pickled_tokenizer_is_the_same():
    tokenizer = Tokenizer.train(["a thing <eos>"], 300)
    again = pickle.loads(pickle.dumps(tokenizer))
    for special in (False, True):
        assert again.encode("a <eos>", special=special) == tokenizer.encode("a <eos>", special=special)
    assert again.to_json() == tokenizer.to_json() and again.roles == tokenizer.roles


def test_a_negative_number_is_refused(world):
    with pytest.raises(UserError, match=r"data\.processes -1: use 0 or more"):
        pipeline(world, processes=-1)


def test_where_memory_cannot_be_lent_the_batches_are_the_same(world, monkeypatch):
    block = _Block(pipeline(world), 8, 0, range(8))
    monkeypatch.setattr(lending, "POSSIBLE", False)
    batch, _ = block.lent(2)
    assert type(batch) is dict
    for name, array in block(2).items():
        np.testing.assert_array_equal(batch[name], array, strict=True)
