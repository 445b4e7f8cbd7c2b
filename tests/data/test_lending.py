import pickle
import subprocess
import sys

import numpy as np
import pytest

from mmjax.data import lending
from mmjax.data.lending import ALIGNMENT, Lender
from mmjax.errors import UserError

BATCH = {
    "image": np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5),
    "tokens": -np.arange(14, dtype=np.int32).reshape(2, 7),
    "valid": np.array([True, False]),
    "none": np.zeros((2, 0, 4), np.float32),
    "step": np.array([7, 8], np.int64),
}
LENDER = """
import pickle, sys, time
import numpy as np
from mmjax.data.lending import Lender

lent = Lender().lend({"image": np.zeros(1000, np.uint8)}, 300)
lent["image"][...] = 7
print(pickle.dumps(lent).hex(), flush=True)
time.sleep(600)
"""


def lend(lender, batch):
    lent = lender.lend({name: array[0] for name, array in batch.items()}, len(batch["image"]))
    for name, array in batch.items():
        lent[name][...] = array
    return lent


def passed_on(lent):
    data = pickle.dumps(lent)
    assert len(data) < 1000  # the place, not the pixels
    return dict(pickle.loads(data))


def address(array):
    return array.__array_interface__["data"][0]


def equal(arrays, others):
    assert list(arrays) == list(others)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], strict=True)


def test_what_is_lent_is_what_is_read():
    lent = lend(Lender(), BATCH)
    equal(lent, BATCH)
    read = passed_on(lent)
    equal(read, BATCH)
    assert all(address(array) % ALIGNMENT == 0 and array.flags.writeable for array in read.values())
    lent["image"][1] = 9  # one memory
    assert (read["image"][1] == 9).all() and (read["image"][0] == BATCH["image"][0]).all()


def test_memory_is_lent_again_only_when_no_array_of_it_is_left():
    lender = Lender()
    first = lend(lender, BATCH)
    read = passed_on(first)
    row = read["image"][1, 1:]  # a view of a view
    del read
    second = lend(lender, {name: np.zeros_like(array) for name, array in BATCH.items()})
    assert address(second["image"]) != address(first["image"])
    np.testing.assert_array_equal(row, BATCH["image"][1, 1:])
    del row
    third = lend(lender, BATCH)
    assert address(third["image"]) == address(first["image"])
    equal(passed_on(third), BATCH)


def test_returned_memory_that_is_too_small_grows():
    lender, rng = Lender(), np.random.default_rng(0)
    passed_on(lend(lender, BATCH))
    for rows in (1, 1000, 10, 3000):
        image = rng.integers(0, 255, (rows, 30), np.uint8)
        batch = {"tokens": rng.integers(0, 99, (rows, 70)), "image": image}
        equal(passed_on(lend(lender, batch)), batch)
    assert len(lender._memories) == 1


def test_what_a_killed_process_lent_can_still_be_read():
    process = subprocess.Popen([sys.executable, "-c", LENDER], stdout=subprocess.PIPE, text=True)
    place = bytes.fromhex(process.stdout.readline())
    batch = pickle.loads(place)
    assert batch["image"].shape == (300, 1000)
    process.kill()
    process.wait()
    assert (batch["image"] == 7).all()
    unseen = pickle.loads(place)  # as a queue does that is emptied when all ends
    assert list(unseen) == ["image"]
    with pytest.raises(
        ChildProcessError, match=f"process {process.pid}, which prepared a batch, ended before"
    ):
        unseen["image"]


def test_a_system_that_keeps_processes_apart_is_told_in_a_sentence(monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError

    lent = pickle.loads(pickle.dumps(lend(Lender(), BATCH)))
    monkeypatch.setattr(lending, "open", forbidden, raising=False)
    with pytest.raises(UserError, match=r"set data\.processes=0"):
        lent["image"]
