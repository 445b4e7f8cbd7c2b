"""The launch scripts of tools/tpu give the cloud's programs one command for all hosts."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

TPU = Path(__file__).parents[2] / "tools" / "tpu"


def launched(script, *arguments, **environment):
    """What the script would run, as a list of arguments."""
    done = subprocess.run(
        [TPU / script, *arguments],
        env={"PATH": os.environ["PATH"], "DRY_RUN": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout)


def option(command, name):
    (found,) = [part.split("=", 1)[1] for part in command if part.startswith(f"--{name}=")]
    return found


TRAIN = ("mmjax", "train", "--config", "clip", "--config.model.note=two words", "--distributed")


def test_a_slice_runs_the_command_on_all_its_hosts():
    command = launched("vm.sh", "pod", "us-west4-a", *TRAIN, PROJECT="mine")
    assert command[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod"]
    assert [option(command, name) for name in ("zone", "worker", "project")] == ["us-west4-a", "all", "mine"]
    assert tuple(shlex.split(option(command, "command"))) == TRAIN


def test_several_slices_run_it_on_all_hosts_of_each():
    command = launched("vm.sh", "pods", "us-west4-a", "echo one string | cat", SLICES="4")
    assert command[3:6] == ["queued-resources", "ssh", "pods"]
    assert option(command, "node") == option(command, "worker") == "all"
    assert option(command, "command") == "echo one string | cat"


def test_gke_gets_slices_and_restarts():
    command = launched(
        "gke.sh", "clip", *TRAIN, CLUSTER="pods", TPU="v5litepod-256", IMAGE="image", SLICES="2"
    )
    assert command[:3] == ["xpk", "workload", "create"]
    names = ("workload", "cluster", "tpu-type", "docker-image", "num-slices", "max-restarts")
    assert [option(command, name) for name in names] == ["clip", "pods", "v5litepod-256", "image", "2", "10"]
    assert tuple(shlex.split(option(command, "command"))) == TRAIN


@pytest.mark.parametrize("script", ["vm.sh", "gke.sh"])
def test_without_arguments_a_script_explains_itself(script):
    done = subprocess.run([TPU / script], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"tools/tpu/{script} " in done.stderr
    assert "set -e" not in done.stderr
