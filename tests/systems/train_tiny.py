"""Trains a shipped `tiny` config: `train_tiny.py CONFIG WORLD WORKDIR [--config.key=value ...]`."""

import sys

from mmjax import config as configs
from mmjax.cli import train


def run(name, world, workdir, *overrides):
    """Trains from fresh parameters, frozen parts included, and returns the trained system."""
    config = configs.load(f"{name}:tiny")
    config.data.source = str(world)
    config.training.initialize = ()
    config.training.log_every = 1
    return train.run(configs.override(config, overrides), workdir)


if __name__ == "__main__":
    run(*sys.argv[1:])
