"""usage: mmjax compile --config NAME[:VARIANT] --topology v5e:16x16 [--config.key.key=value ...]

Compiles the training step of a config for a TPU pod on this machine, which needs no TPU, and reports what
every chip holds and does: memory against what it has, FLOPs, HBM and network traffic, which of them bounds
the step, and the model FLOPs utilization at that bound. Needs the TPU compiler: pip install 'mmjax[tpu]'.

  mmjax compile --config pod:clip_l14 --topology v5e:16x16 --mesh fsdp=256
  mmjax compile --config pod:language_7b --topology v5e:16x16 --search

  --topology  v4, v5e, v5p, v6e or tpu7x and the sides of a slice; by default the config's own
  --slices    so many slices, joined by the data-center network (default 1)
  --mesh      sizes of data, fsdp, tensor and sequence; by default those of the config
  --generate  compile generation instead: prefill of data.text_length tokens, and one decode step
  --sample    compile the diffusion sampler instead
  --length    tokens that --generate decodes, which sizes its cache (default 64)
  --steps     of --sample (default 50)
  --batch     rows of --generate and --sample (default: one a device)
  --search    try meshes, remat policies and microbatches; rank those that fit
  --tries     programs that --search compiles at most (default 8)
  --hlo       also write the optimized program to this file
  --json      also write the report to this file ("-": print nothing else)
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
from absl import flags

from mmjax import config as configs
from mmjax.cli.evaluate import refuse
from mmjax.cli.main import parse, require
from mmjax.errors import UserError
from mmjax.planning import programs, search, text
from mmjax.planning.compiler import compile_program
from mmjax.sharding import with_mesh
from mmjax.sharding.topology import Topology, describe


def main(arguments: list[str]) -> None:
    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_string("topology", None, "TPU topology", flag_values=values)
        flags.DEFINE_integer("slices", 1, "number of slices", lower_bound=1, flag_values=values)
        flags.DEFINE_string("mesh", None, "mesh axis sizes", flag_values=values)
        flags.DEFINE_boolean("generate", False, "compile generation", flag_values=values)
        flags.DEFINE_boolean("sample", False, "compile sampling", flag_values=values)
        flags.DEFINE_integer("length", 64, "tokens to decode", lower_bound=1, flag_values=values)
        flags.DEFINE_integer("steps", 50, "sampler steps", lower_bound=1, flag_values=values)
        flags.DEFINE_integer("batch", None, "rows", lower_bound=1, flag_values=values)
        flags.DEFINE_boolean("search", False, "rank layouts", flag_values=values)
        flags.DEFINE_integer("tries", 8, "programs compiled at most", lower_bound=1, flag_values=values)
        flags.DEFINE_string("hlo", None, "file of the program", flag_values=values)
        flags.DEFINE_string("json", None, "file of the report", flag_values=values)

    values, positional = parse(arguments, define)
    refuse(positional)
    require(values, "config", "topology")
    topology = describe(values.topology, slices=values.slices)
    # A program from the cache would report no compile time, and none can be loaded without a TPU.
    jax.config.update("jax_enable_compilation_cache", False)
    experiment = configs.experiment(values.config)
    experiment = dataclasses.replace(experiment, sharding=with_mesh(experiment.sharding, values.mesh))
    if values.search:
        found = search.search(experiment, topology, tries=values.tries)
        _tell(search.table(found), [each.to_json() for each in found], values.json)
        return
    report = compile_program(_program(values, experiment, topology), topology, hlo=values.hlo)
    _tell(text.describe(report), report.to_json(), values.json)
    if not report.memory.fits:
        raise UserError(search.does_not_fit(report))


def _program(
    values: flags.FlagValues, experiment: configs.Experiment, topology: Topology
) -> programs.Program:
    devices, rows = topology.devices, values.batch or len(topology.devices)
    if values.generate:
        return programs.generation(experiment, devices, batch_size=rows, length=values.length)
    if values.sample:
        return programs.sampling(experiment, devices, batch_size=rows, steps=values.steps)
    return programs.training(experiment, devices)


def _tell(report: str, data: Any, file: str | None) -> None:
    if file == "-":
        print(json.dumps(data, indent=2))
        return
    print(report)
    if file:
        Path(file).write_text(json.dumps(data, indent=2) + "\n")
