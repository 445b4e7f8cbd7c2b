"""usage: mmjax evaluate --checkpoint DIR [--split held_out] [--judge DIR] [--json FILE]

Runs the evaluators of the checkpoint's config on one split of its data and prints a table.

  mmjax evaluate --checkpoint runs/clip
  mmjax evaluate --checkpoint runs/generator --judge runs/judge --grid samples.png

  --checkpoint  a workdir of `mmjax train`, or one of its checkpoints
  --split       default held_out
  --source      the data set, where it is not at the place that the config names
  --judge       checkpoint of a second CLIP, for evaluators that need one
  --grid        where to save pictures drawn beside the real ones, for evaluators that draw
  --seed        of everything random; default 0
  --json        also writes the figures to a file, with the hash and the number of the records they rest on

A figure is followed by its 95% interval, where it has one.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import flags

from mmjax import config as configs
from mmjax.cli.main import parse, require
from mmjax.data.pipeline import Pipeline
from mmjax.data.sources import open_dataset
from mmjax.errors import UserError
from mmjax.evaluation import provenance
from mmjax.training.checkpoints import Trained

Figures = dict[str, dict[str, float]]  # evaluator -> metric -> value


def main(arguments: list[str]) -> None:
    def define(values: flags.FlagValues) -> None:
        text = {"flag_values": values}
        flags.DEFINE_string("checkpoint", None, "what to evaluate", **text)
        flags.DEFINE_string("split", "held_out", "split of the data", **text)
        flags.DEFINE_string("source", None, "directory of the data set", **text)
        flags.DEFINE_string("judge", None, "checkpoint of a second CLIP", **text)
        flags.DEFINE_string("grid", None, "picture to write", **text)
        flags.DEFINE_string("json", None, "file for the figures", **text)
        flags.DEFINE_integer("seed", 0, "of everything random", **text)

    values, positional = parse(arguments, define)
    refuse(positional)
    require(values, "checkpoint")
    trained = Trained.load(values.checkpoint)
    if values.source:
        data = dataclasses.replace(trained.data_config, source=values.source, mixture=(), stages=())
        trained = dataclasses.replace(trained, data_config=data)
    figures = run(trained, split=values.split, judge=values.judge, grid=values.grid, seed=values.seed)
    print(table(figures))
    if values.json:
        write_json(values.json, {**figures, "provenance": origins(trained, values.split)})


def run(
    trained: Trained,
    *,
    split: str = "held_out",
    judge: str | None = None,
    grid: str | None = None,
    seed: int = 0,
) -> Figures:
    """The figures of every evaluator in the checkpoint's config.

    Raises:
      UserError: the config has none, one asks for what the system cannot do, or a judge is missing or unfit.
    """
    evaluators = configs.experiment(trained.config).evaluators
    if not evaluators:
        raise UserError("the checkpoint's config has no evaluators: train with a config that names some.")
    pipeline = Pipeline(trained.data_config, trained.tokenizer, split=split)
    key = jax.random.key(seed)
    return {
        name: equip(evaluator, judge=judge, grid=grid)(trained.system, trained.params, pipeline, key=key)
        for name, evaluator in evaluators.items()
    }


def origins(trained: Trained, split: str) -> dict[str, Any]:
    """What the figures of `run` rest on: the split, and the files that an evaluator reads beside it."""
    evaluators = configs.experiment(trained.config).evaluators
    files = {name: provenance.files(evaluator) for name, evaluator in evaluators.items()}
    return {
        **provenance.split(open_dataset(trained.data_config.sources[0]), split),
        "files": {name: found for name, found in files.items() if found},
    }


def equip(evaluator: Any, *, judge: str | None = None, grid: str | None = None) -> Any:
    """The evaluator, its judge loaded, with what the command line adds to the fields it has."""
    fields = {field.name for field in dataclasses.fields(evaluator)}
    if "grid" in fields and grid is not None:
        evaluator = dataclasses.replace(evaluator, grid=grid)
    if "judge" in fields:
        judge = judge or evaluator.judge
        evaluator = dataclasses.replace(evaluator, judge=Trained.load(judge) if judge else None)
    return evaluator


def table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """One line per figure, with its interval, under the name of its evaluator."""
    ends = {f"{name}_{end}" for values in figures.values() for name in values for end in ("low", "high")}
    width = max(len(name) for values in figures.values() for name in values if name not in ends)
    lines = []
    for evaluator, values in figures.items():
        lines.append(evaluator)
        for name, value in values.items():
            if name in ends:
                continue
            shown = f"{value:>8}" if isinstance(value, int) else f"{value:>8.4f}"
            if f"{name}_low" in values:
                shown += f"  [{values[f'{name}_low']:.4f}, {values[f'{name}_high']:.4f}]"
            lines.append(f"  {name:<{width}}  {shown}")
    return "\n".join(lines)


def write_json(path: str | Path, content: Any) -> None:
    """Writes JSON; a UserError names a path that cannot be written."""
    try:
        Path(path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another path.") from error


def refuse(positional: list[str]) -> None:
    """A UserError for arguments that belong to no flag."""
    if positional:
        raise UserError(f"unexpected argument {positional[0]!r}: every argument is a flag, see --help.")
