"""usage: mmjax sharding --config NAME[:VARIANT] [--mesh data=4,fsdp=8] [--config.key.key=value ...] [--json]

Shows how a config's sharding rules lay its parameters over a mesh: shape, mesh axes, bytes per device, and
what every device keeps whole. The devices are only described, so any mesh will do on any machine. A layout
that a training run would refuse is refused here too.

  --mesh  sizes of data, fsdp, tensor and sequence; by default those of the config
  --json  print {"mesh", "parameters": [{"path", "shape", "spec", ...}], "bytes", "bytes_per_device", ...}
"""

import dataclasses
import json

import jax
from absl import flags
from flax import linen as nn

from mmjax import config as configs
from mmjax.cli.evaluate import refuse
from mmjax.cli.main import parse, require
from mmjax.sharding import check_replication, parameter_shardings, with_mesh
from mmjax.sharding.report import abstract_mesh, parameter_rows, summary, table


def main(arguments: list[str]) -> None:
    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_string("mesh", None, "mesh axis sizes", flag_values=values)
        flags.DEFINE_boolean("json", False, "print JSON", flag_values=values)

    values, positional = parse(arguments, define)
    refuse(positional)
    require(values, "config")
    experiment = configs.experiment(values.config)
    sharding = with_mesh(experiment.sharding, values.mesh)
    mesh, rules = abstract_mesh(sharding.mesh_sizes(sharding.least_devices)), sharding.make_rules()
    boxed = jax.eval_shape(experiment.system.init, jax.random.key(0))
    rows = parameter_rows(boxed, mesh, rules)
    if values.json:
        parameters = [dataclasses.asdict(row) | {"replicated": row.replicated} for row in rows]
        print(json.dumps({"mesh": dict(mesh.shape), "parameters": parameters, **summary(rows)}, indent=2))
    else:
        print(table(rows, mesh))
    check_replication(
        nn.meta.unbox(boxed),
        parameter_shardings(boxed, mesh, rules),
        mesh,
        max_replicated=sharding.max_replicated,
    )
