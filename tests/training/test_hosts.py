"""Two processes with four devices each do what one with eight does; a run moves between hosts and meshes."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax.errors import TemporaryError, UserError
from mmjax.training import checkpoints, distributed, metrics

HERE = Path(__file__).parent
FSDP = {"rules": "fsdp", "fsdp": -1, "data": 2, "max_replicated": 0.5}


def free_port():
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def start(workdir, *, hosts, devices, **settings):
    """The processes of a run, started."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    address = f"localhost:{free_port()}"
    settings = json.dumps({"sharding": FSDP, "keep": 100, "checkpoint_every": 0, **settings})
    arguments = [str(workdir), address, str(hosts)]
    return [
        subprocess.Popen(
            [sys.executable, str(HERE / "toy_host.py"), *arguments, str(index), settings],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(hosts)
    ]


def finish(processes, *, code=0):
    """Their stdouts, after they ended as expected."""
    ended = [(*process.communicate(timeout=240), process.returncode) for process in processes]
    for _, err, returncode in ended:
        assert returncode == code, err[-3000:]
    return [out for out, _, _ in ended]


def losses(workdir):
    return {line["step"]: line["loss"] for line in metrics.read(workdir / "metrics.jsonl")}


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """Workdirs of 8 devices in one process and of a run that moved 2 x 4 -> 1 x 4 -> 2 x 4, and its story."""
    whole, workdir = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("moved")
    story = {"said": finish(start(workdir, hosts=2, devices=4, steps=48, terminate_at=6), code=75)}
    story["told"] = [json.loads((workdir / f"host-{index}.json").read_text()) for index in range(2)]
    story["stop"] = int(checkpoints.find(workdir).name)
    reference = start(whole, hosts=1, devices=8, steps=story["stop"] + 8, checkpoint_every=1)
    finish(start(workdir, hosts=1, devices=4, steps=story["stop"] + 4))
    finish(start(workdir, hosts=2, devices=4, steps=story["stop"] + 8))
    finish(reference)
    return whole, workdir, story


def test_all_are_named_when_they_are_present(moved):
    host = socket.gethostname()
    first, second = moved[2]["said"]
    assert f"all 2 processes are present: 0 {host}, 1 {host}" in first
    assert "present" not in second


def test_a_sigterm_to_one_process_stops_both_after_the_same_update_and_saves(moved):
    story = moved[2]
    steps = [told["steps"] for told in story["told"]]
    assert steps[0] == steps[1] == list(range(story["stop"]))
    assert 6 < story["stop"] < 48


def test_two_processes_reach_the_parameters_of_one(moved):
    whole, workdir, story = moved
    for step in (story["stop"], story["stop"] + 8):
        one, two = (checkpoints.load_params(w / "checkpoints" / str(step)) for w in (whole, workdir))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), one, two)


def test_a_run_that_moves_from_8_devices_to_4_and_back_has_the_losses_of_one_that_stays(moved):
    whole, workdir, story = moved
    expected, found = losses(whole), losses(workdir)
    assert list(found) == list(range(1, story["stop"] + 9))  # each update once
    np.testing.assert_allclose([expected[step] for step in found], list(found.values()), rtol=1e-5)


def test_text_made_on_the_first_process_reaches_all(moved):
    assert [told["first"] for told in moved[2]["told"]] == ["by process 0: ä"] * 2


def test_processes_that_share_rows_read_the_same_block(moved):
    shards = [told["shards"] for told in moved[2]["told"]]
    assert shards == [[[0, 2], [0, 1], [0, 2], [0, 2]], [[1, 2], [0, 1], [1, 2], [1, 2]]]


def roll(*indices, count, timeout=0.6, said=None, port=None):
    """What `call_roll` gives each of the processes, run as threads; an exception where it raises one."""
    address, results, said = f"localhost:{port or free_port()}", {}, said or {}

    def call(place, index):
        try:
            results[place] = distributed.call_roll(address, said.get(index, count), index, timeout=timeout)
        except UserError as error:
            results[place] = error

    threads = [threading.Thread(target=call, args=place) for place in enumerate(indices)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[place] for place in range(len(indices))]


def test_a_roll_call_ends_as_soon_as_all_are_there_and_everyone_knows_all():
    hosts = dict.fromkeys(range(3), socket.gethostname())
    assert roll(1, 0, 2, count=3, timeout=60) == [hosts] * 3


def test_the_missing_are_named_to_all_who_came():
    found = roll(0, 2, count=4)
    assert [type(error) for error in found] == [TemporaryError] * 2
    assert "2 of 4 processes came within 1 s; missing: 1, 3; start them" in str(found[0])
    assert str(found[0]) == str(found[1])
    assert found[0].exit_code == 75


def test_a_process_that_finds_nobody_says_where_it_looked():
    (error,) = roll(1, count=2)
    assert "process 1 found no process 0 at localhost:" in str(error)


def test_processes_that_disagree_are_told():
    errors = roll(0, 1, 1, count=3, timeout=20)
    assert all("both came as process 1 of 3" in str(error) for error in errors[:1])
    errors = roll(0, 1, count=3, timeout=20, said={1: 4})
    assert all("came as process 1 of 4 to a run of 3" in str(error) for error in errors)
    assert errors[0].exit_code == 2


def test_strangers_do_no_harm_and_who_died_is_missing_again():
    port = free_port()
    stop = threading.Event()

    def stranger(line):
        while not stop.is_set():
            try:
                with socket.create_connection(("localhost", port), timeout=1) as connection:
                    connection.sendall(line)
                    return
            except OSError:
                pass

    died = json.dumps({"index": 1, "count": 4, "host": "short-lived"}).encode() + b"\n"
    threads = [threading.Thread(target=stranger, args=(line,)) for line in (b"GET / HTTP/1.1\r\n\r\n", died)]
    for thread in threads:
        thread.start()
    found = roll(0, 2, count=4, timeout=2, port=port)
    stop.set()
    assert "missing: 1, 3;" in str(found[0])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "no cluster was found here: give --coordinator"),
        (("localhost:1", 2), "no cluster was found here: give --coordinator"),
        (("localhost:1", 2, 2), "--process-index=2 is not one of the numbers 0 to 1"),
        (("localhost", 2, 0), "--coordinator=localhost is not of the form HOST:PORT"),
    ],
)
def test_a_place_that_cannot_be_is_one_sentence(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        distributed.join(*arguments, timeout=1)


def test_a_run_of_one_process_joins_nobody():
    distributed.join("localhost:1", 1, 0)
    assert not jax.distributed.is_initialized()
    assert distributed.from_first(lambda: "text") == "text"
