"""Predicted weak scaling: the same rows per chip on a small slice and on a large one, both compiled here.

    python -m tools.benchmarks.weak_scaling [--config pod:clip_l14] [--small v5e:4x4] [--large v5e:16x16]

Efficiency is the roofline's time of a step on the small slice over that on the large one: with everything
overlapped, and with nothing. Both use fsdp over one side of the torus and data over the other.
"""

import argparse
import dataclasses

from mmjax import config as configs
from mmjax.planning.compiler import compile_program
from mmjax.planning.programs import training
from mmjax.sharding.topology import describe


def compiled(config: str, name: str, rows: int, overrides: list[str]):
    """The report of the config's step with `rows` rows on each chip."""
    topology = describe(name)
    experiment = configs.experiment(configs.override(configs.load(config), overrides))
    sizes = dict(zip(("data", "fsdp"), topology.sides, strict=True))
    experiment = dataclasses.replace(
        experiment,
        training=dataclasses.replace(experiment.training, batch_size=rows * topology.chips),
        sharding=dataclasses.replace(experiment.sharding, **sizes, tensor=1, sequence=1),
    )
    return compile_program(training(experiment, topology.devices), topology)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="pod:clip_l14")
    parser.add_argument("--small", default="v5e:4x4")
    parser.add_argument("--large", default="v5e:16x16")
    parser.add_argument("--rows", type=int, default=128, help="on each chip")
    arguments, overrides = parser.parse_known_args()
    names = (arguments.small, arguments.large)
    small, large = (compiled(arguments.config, name, arguments.rows, overrides).roofline for name in names)
    for name, roofline in zip(names, (small, large), strict=True):
        print(
            f"{name}: {1e3 * roofline.step:.1f} ms overlapped (bound by {roofline.bound}), "
            f"{1e3 * roofline.without_overlap:.1f} ms without"
        )
    overlapped, serial = small.step / large.step, small.without_overlap / large.without_overlap
    print(f"predicted efficiency of {names[1]}: {overlapped:.3f} overlapped, {serial:.3f} without overlap")


if __name__ == "__main__":
    main()
