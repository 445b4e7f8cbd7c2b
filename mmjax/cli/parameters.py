"""usage: mmjax parameters --config NAME[:VARIANT] [--config.key.key=value ...] [--depth N] [--json]

Counts the parameters of a config by module, with their bytes and which of them train. Works from shapes alone
(`jax.eval_shape`), so a model far larger than this machine's memory takes seconds.

  --depth  levels of the module tree to tell apart (default 2)
  --json   machine-readable output
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from absl import flags
from flax import linen as nn
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from mmjax import config as configs
from mmjax.cli.evaluate import refuse
from mmjax.cli.main import parse, require
from mmjax.systems.system import Freeze, Rows
from mmjax.training.optimizers import treat
from mmjax.training.state import abstract_params


def main(arguments: list[str]) -> None:
    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_integer("depth", 2, "levels of the module tree", lower_bound=1, flag_values=values)
        flags.DEFINE_boolean("json", False, "print JSON", flag_values=values)

    values, positional = parse(arguments, define)
    refuse(positional)
    require(values, "config")
    counts = count(values.config, depth=values.depth)
    print(json.dumps(counts, indent=2) if values.json else table(counts))


def count(config: ConfigDict, *, depth: int = 2) -> dict[str, Any]:
    """{"total": row, "modules": {"a/b": row}}, row = {"parameters", "bytes", "trainable", "frozen"}.

    Of a parameter with locked rows, the rows that train count as trainable and the others as frozen.
    """
    system = configs.system(config)
    params = nn.meta.unbox(abstract_params(system))
    treatments = treat(system.treatments(), params)
    empty = {"parameters": 0, "bytes": 0, "trainable": 0, "frozen": 0}
    total, modules = dict(empty), {}
    for path, leaf in flatten_dict(params).items():
        size, treatment = math.prod(leaf.shape), treatments[path]
        trainable = 0 if isinstance(treatment, Freeze) else size
        if isinstance(treatment, Rows):
            trainable = size // leaf.shape[0] * (treatment.stop - treatment.start)
        row = modules.setdefault("/".join(path[:depth]), dict(empty))
        for part in (total, row):
            part["parameters"] += size
            part["bytes"] += size * leaf.dtype.itemsize
            part["trainable"] += trainable
            part["frozen"] += size - trainable
    return {"total": total, "modules": modules}


def table(counts: Mapping[str, Any]) -> str:
    """The counts as aligned text, the total last."""
    rows = [("module", "parameters", "MiB", "trainable", "frozen")]
    for name, row in [*counts["modules"].items(), ("total", counts["total"])]:
        numbers = (row["parameters"], row["trainable"], row["frozen"])
        parameters, trainable, frozen = (f"{number:,}" for number in numbers)
        rows.append((name, parameters, f"{row['bytes'] / 2**20:,.2f}", trainable, frozen))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
