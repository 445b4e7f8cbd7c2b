"""usage: mmjax parameters --config NAME[:VARIANT] [--config.key.key=value ...] [--depth N] [--json]
       mmjax parameters --system FAMILY --size SIZE [--depth N] [--json]

Counts the parameters of a config or of a published size by module, with their bytes and which of them train.
Works from shapes alone (`jax.eval_shape`), so a model far larger than this machine's memory takes seconds.

  --system  a family of published systems: clip, dit, ...
  --size    one of its sizes, as its paper names it: ViT-B/32, XL/2, ...
  --depth   levels of the module tree to tell apart (default 2)
  --json    print {"total": int, "parts": {part: int}, "modules": {path: row}}
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from absl import flags
from flax import linen as nn
from flax.traverse_util import flatten_dict

from mmjax import config as configs
from mmjax.cli.evaluate import refuse
from mmjax.cli.main import parse, require
from mmjax.systems import sizes
from mmjax.systems.system import System
from mmjax.training.optimizers import trained, treat
from mmjax.training.state import abstract_params

ROW = ("parameters", "bytes", "trainable", "frozen")


def main(arguments: list[str]) -> None:
    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_string("system", None, "family of published systems", flag_values=values)
        flags.DEFINE_string("size", None, "published size", flag_values=values)
        flags.DEFINE_integer("depth", 2, "levels of the module tree", lower_bound=1, flag_values=values)
        flags.DEFINE_boolean("json", False, "print JSON", flag_values=values)

    values, positional = parse(arguments, define)
    refuse(positional)
    if values.system is None:
        require(values, "config")
        system = configs.system(values.config)
    else:
        require(values, "size")
        system = sizes.load(values.system, values.size)
    counts = count(system, depth=values.depth)
    print(json.dumps(counts, indent=2) if values.json else table(counts))


def count(system: System, *, depth: int = 2) -> dict[str, Any]:
    """{"total": int, "parts": {part: int}, "modules": {"a/b": row}}.

    row = {"parameters", "bytes", "trainable", "frozen"}. Of a parameter with locked rows, the rows that train
    count as trainable and the others as frozen. Running statistics are no parameters: a system that has some
    reports them as "statistics": int beside the total.
    """
    params = nn.meta.unbox(abstract_params(system))
    treatments = treat(system.treatments(), params)
    parts, modules, statistics = {}, {}, 0
    for path, leaf in flatten_dict(params).items():
        size, trainable = math.prod(leaf.shape), trained(treatments[path], leaf.shape)
        part = system.part("/".join(path))
        if part is None:
            statistics += size
            continue
        parts[part] = parts.get(part, 0) + size
        row = modules.setdefault("/".join(path[:depth]), dict.fromkeys(ROW, 0))
        row["parameters"] += size
        row["bytes"] += size * leaf.dtype.itemsize
        row["trainable"] += trainable
        row["frozen"] += size - trainable
    counts = {"total": sum(parts.values()), "parts": parts, "modules": modules}
    return counts | ({"statistics": statistics} if statistics else {})


def table(counts: Mapping[str, Any]) -> str:
    """The counts as aligned text, the total last."""
    rows = [("module", "parameters", "MiB", "trainable", "frozen")]
    total = {key: sum(row[key] for row in counts["modules"].values()) for key in ROW}
    for name, row in [*counts["modules"].items(), ("total", total)]:
        numbers = (row["parameters"], row["trainable"], row["frozen"])
        parameters, trainable, frozen = (f"{number:,}" for number in numbers)
        rows.append((name, parameters, f"{row['bytes'] / 2**20:,.2f}", trainable, frozen))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
