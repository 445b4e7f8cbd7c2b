"""Three objectives through one trainer: resuming is exact, and eight devices do what one does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from train_tiny import run

from mmjax.training import checkpoints, metrics

SYSTEMS = ("clip", "flamingo", "generator")
LAYOUTS = {
    "replicated": (),
    "fsdp": ("rules=fsdp", "data=2", "fsdp=4"),
}
EIGHT = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}


@pytest.fixture(scope="module")
def trained(tiny_world, tmp_path_factory):
    """system -> (workdir, trained), 20 updates with a checkpoint at 10; each is trained once."""
    made = {}

    def get(name):
        if name not in made:
            workdir = tmp_path_factory.mktemp(name)
            made[name] = workdir, run(name, tiny_world, workdir, "--config.training.checkpoint_every=10")
        return made[name]

    return get


def losses(workdir, last):
    return [line["loss"] for line in metrics.read(workdir / "metrics.jsonl") if line["step"] <= last]


@pytest.mark.parametrize("name", SYSTEMS)
def test_20_updates_equal_10_and_10_more_to_the_bit(name, trained, tiny_world, tmp_path):
    whole, _ = trained(name)
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints" / "20")
    run(name, tiny_world, tmp_path)
    first, second = (checkpoints.load_params(workdir) for workdir in (whole, tmp_path))
    chex.assert_trees_all_equal(first, second)
    assert losses(whole, 20) == losses(tmp_path, 20)


@pytest.mark.parametrize("name", SYSTEMS)
def test_frozen_parts_did_not_move(name, trained):
    workdir, result = trained(name)
    start = jax.device_get(checkpoints.load_params(workdir / "checkpoints" / "10"))
    end = jax.device_get(result.params)
    frozen = {
        "clip": [],
        "flamingo": [("vision",)],
        "generator": [("decoder", "clip"), ("flamingo", "vision"), ("flamingo", "language", "groups")],
    }[name]
    for path in frozen:
        before, after = start, end
        for key in path:
            before, after = before[key], after[key]
        chex.assert_trees_all_equal(before, after)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_eight_devices_give_the_losses_of_one(name, layout, trained, tiny_world, tmp_path):
    arguments = [f"--config.sharding.{setting}" for setting in LAYOUTS[layout]]
    script = str(Path(__file__).parent / "train_tiny.py")
    subprocess.run(
        [sys.executable, script, name, tiny_world, tmp_path, *arguments],
        env={**os.environ, **EIGHT},
        check=True,
        capture_output=True,
    )
    alone, _ = trained(name)
    np.testing.assert_allclose(losses(tmp_path, 5), losses(alone, 5), rtol=1e-5)
