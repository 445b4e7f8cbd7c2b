"""Eight simulated devices do what one does, and what they hold is split as the rules say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_run import run

from mmjax.training import checkpoints, metrics

HERE = Path(__file__).parent
EIGHT = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
LAYOUTS = {
    "replicated": {},
    "fsdp": {"rules": "fsdp", "fsdp": 8, "max_replicated": 0.5},
    "fsdp_tensor": {"rules": "fsdp_tensor", "data": 2, "fsdp": 2, "tensor": 2},
}


def on_eight(workdir, **settings):
    done = subprocess.run(
        [sys.executable, str(HERE / "toy_run.py"), str(workdir), json.dumps(settings)],
        env={**os.environ, **EIGHT},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [line["loss"] for line in metrics.read(Path(workdir) / "metrics.jsonl")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone")
    run(workdir, steps=8)
    return workdir, [line["loss"] for line in metrics.read(workdir / "metrics.jsonl")]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_losses_are_those_of_one_device(layout, alone, tmp_path):
    losses = on_eight(tmp_path, steps=8, sharding=LAYOUTS[layout])
    np.testing.assert_allclose(losses, alone[1], rtol=1e-5)


def test_accumulation_on_eight_devices(alone, tmp_path):
    losses = on_eight(tmp_path / "8", steps=3, accumulate=2, sharding=LAYOUTS["fsdp"])
    run(tmp_path / "1", steps=3, accumulate=2)
    np.testing.assert_allclose(
        losses, [x["loss"] for x in metrics.read(tmp_path / "1" / "metrics.jsonl")], rtol=1e-5
    )


def test_a_run_moves_from_one_device_to_eight(tmp_path, alone):
    run(tmp_path, steps=4)
    losses = on_eight(tmp_path, steps=8, sharding=LAYOUTS["fsdp"])
    np.testing.assert_allclose(losses, alone[1], rtol=1e-5)
    assert checkpoints.find(tmp_path).name == "8"


def test_state_lies_as_the_rules_say(tmp_path):
    script = (
        "import toy; from mmjax.sharding import ShardingConfig; from mmjax.training.optimizers import *\n"
        "from mmjax.training.loop import *\n"
        "t = Trainer.prepare(toy.Toy(), config=TrainingConfig(steps=1, batch_size=8, ema=0.9),"
        " optimizer=OptimizerConfig(), sharding=ShardingConfig(fsdp=8, rules='fsdp', max_replicated=0.5))\n"
        "s = t.create()\n"
        "adam = s.optimizer_state[1]\n"
        "for tree in (s.params, s.ema, adam.mu, adam.nu):\n"
        "    kernel = tree['up']['kernel']\n"
        "    assert kernel.addressable_shards[0].data.shape == (2, 32), kernel.sharding\n"
        "assert s.params['frozen'].addressable_shards[0].data.shape == (16, 2)\n"
        "assert s.params['head']['bias'].is_fully_replicated\n"
    )
    environment = {**os.environ, **EIGHT, "PYTHONPATH": str(HERE)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
