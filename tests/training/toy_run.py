"""Trains the toy system in a process of its own: `python toy_run.py WORKDIR '{"steps": 20, ...}'`."""

import json
import sys

import toy

from mmjax.sharding import ShardingConfig
from mmjax.training.loop import TrainingConfig, train
from mmjax.training.optimizers import OptimizerConfig


def run(
    workdir,
    *,
    system=None,
    batches=toy.batches,
    sharding=None,
    evaluate=None,
    optimizer=None,
    observe=dict,
    profile=None,
    **training,
):
    """Trains with settings that the tests share; `training` overrides fields of the TrainingConfig."""
    settings = dict(steps=20, batch_size=16, ema=0.9, checkpoint_every=5, log_every=1, seed=3)
    return train(
        system or toy.Toy(noise=0.1),
        config=TrainingConfig(**(settings | training)),
        optimizer=optimizer or OptimizerConfig(warmup=3, schedule="constant", learning_rate=0.01),
        sharding=ShardingConfig(**(sharding or {})),
        batches=batches,
        workdir=workdir,
        run={"config": {"name": "toy"}},
        evaluate=evaluate,
        observe=observe,
        profile=profile,
    )


if __name__ == "__main__":
    run(sys.argv[1], **json.loads(sys.argv[2]))
