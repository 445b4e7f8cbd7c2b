"""usage: mmjax train --config NAME[:VARIANT] --workdir DIR [--config.key.key=value ...]

Trains a system, or resumes its training: if DIR holds a checkpoint, the run goes on from the newest one,
bit for bit as if it had never stopped.

  mmjax train --config clip:tiny --workdir runs/clip
  mmjax train --config configs/clip.py:openmoji --workdir runs/clip --config.training.steps=2000

  --config        a shipped config or a path.py, with an optional variant
  --config.x.y=v  overrides one key
  --workdir       receives checkpoints/, metrics.jsonl and tensorboard/
  --max-restarts  starts a run that crashed or was interrupted again, up to so many times in a row without a
                  new checkpoint
  --profile       START:COUNT traces so many updates to DIR/profile
  --distributed   joins the other hosts of a Cloud TPU slice, a GKE or a Slurm job; the same command on each
  --coordinator, --process-count, --process-index
                  joins HOST:PORT of process 0 where no such cluster is found
  --init-timeout  seconds to wait for the others before naming who is missing; default 300

SIGTERM, to one host or all, saves and exits with code 75; the same command resumes. A loss that is not finite
stops the run with code 2, after saving the state before it in DIR/diagnosis; the checkpoints stay good.
"""

import dataclasses
import importlib.metadata
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict

from mmjax import config as configs
from mmjax.cli import evaluate as evaluators
from mmjax.cli.evaluate import refuse
from mmjax.cli.main import keep_freed_memory, parse, require
from mmjax.data.pipeline import Pipeline, train_tokenizer
from mmjax.data.tokenizer import Tokenizer
from mmjax.errors import UserError
from mmjax.training import checkpoints, distributed
from mmjax.training.checkpoints import Source, Trained
from mmjax.training.loop import train
from mmjax.training.supervisor import supervise
from mmjax.training.telemetry import Window

PACKAGES = ("mmjax", "jax", "flax", "optax", "orbax-checkpoint", "grain")


def main(arguments: list[str]) -> None:
    def define(values: flags.FlagValues) -> None:
        own = {"flag_values": values}
        flags.DEFINE_string("workdir", None, "directory of the run", **own)
        flags.DEFINE_integer("max-restarts", 0, "restarts in a row", lower_bound=0, **own)
        flags.DEFINE_string("profile", None, "START:COUNT of the updates to trace", **own)
        flags.DEFINE_boolean("distributed", False, "join the hosts of a cluster", **own)
        flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0", **own)
        flags.DEFINE_integer("process-count", None, "processes of the run", lower_bound=1, **own)
        flags.DEFINE_integer("process-index", None, "number of this process", lower_bound=0, **own)
        flags.DEFINE_integer("init-timeout", 300, "seconds to wait for the others", lower_bound=1, **own)

    values, positional = parse(arguments, define)
    refuse(positional)
    require(values, "config", "workdir")
    if "://" in values.workdir:
        raise UserError(
            f"--workdir={values.workdir} must be a directory: mount the bucket on every host (gcsfuse), or "
            "give a shared disk"
        )
    keep_freed_memory()
    profile = Window.parse(values.profile) if values.profile else None
    if restarts := values["max-restarts"].value:
        sys.exit(supervise(_child(arguments), restarts, progress=lambda: _newest(values.workdir)))
    place = values.coordinator, values["process-count"].value, values["process-index"].value
    if values.distributed or place != (None, None, None):
        distributed.join(*place, timeout=values["init-timeout"].value)
    distributed.require_joined()
    run(values.config, values.workdir, profile=profile)


def _child(arguments: list[str]) -> list[str]:
    """The command without its supervisor: of a flag given twice, the last counts."""
    return [sys.executable, "-m", "mmjax", "train", *arguments, "--max-restarts=0"]


def _newest(workdir: str) -> str | None:
    try:
        return checkpoints.find(workdir).name
    except UserError:
        return None


def run(config: ConfigDict, workdir: str | Path, *, profile: Window | None = None) -> Trained:
    """Trains what `config` describes in `workdir`, resuming if it can; returns the trained system.

    The tokenizer comes from the workdir's own checkpoint, else from the first source of
    `training.initialize` (so that token ids keep their meaning), else it is trained on the data's captions.

    Raises:
      UserError: config, data and checkpoint do not fit each other, or the loss is no longer finite.
    """
    config = configs.complete(config)
    experiment = configs.experiment(config)
    stored = _stored_run(workdir)
    if stored:
        _tell_changes(stored["config"], configs.to_json(config))
    tokenizer = _tokenizer(experiment, stored)
    _check_vocabulary(config.model.to_dict(), tokenizer)
    pipeline = Pipeline(experiment.data, tokenizer)

    def batches(first: int) -> Any:
        batch_size = experiment.training.batch_size
        index, count = distributed.data_shard(experiment.sharding.make_mesh(), batch_size)
        return pipeline.train(
            batch_size,
            experiment.training.seed,
            start_step=first,
            process_index=index,
            process_count=count,
        )

    def evaluate(step: int, params: Any) -> dict[str, float]:
        trained = Trained(
            system=experiment.system,
            params=params,
            tokenizer=tokenizer,
            image_spec=experiment.data.image_spec,
            data_config=experiment.data,
            config=config,
            step=step,
        )
        figures = evaluators.run(trained)
        return {f"{name}/{key}": value for name, values in figures.items() for key, value in values.items()}

    train(
        experiment.system,
        config=experiment.training,
        optimizer=experiment.optimizer,
        sharding=experiment.sharding,
        batches=batches,
        workdir=workdir,
        run={
            "config": configs.to_json(config),
            "tokenizer": tokenizer.to_json(),
            "image_spec": dataclasses.asdict(experiment.data.image_spec),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        },
        evaluate=evaluate if experiment.evaluators else None,
        observe=lambda: _problems(pipeline),
        profile=profile,
    )
    return Trained.load(workdir)


def _problems(pipeline: Pipeline) -> dict[str, int]:
    """Bad records that this process has met, by kind."""
    return {f"data/problems/{kind}": count for kind, count in pipeline.problem_counts().items()}


def _stored_run(workdir: str | Path) -> dict[str, Any] | None:
    try:
        return checkpoints.load_run(workdir)
    except UserError:
        return None  # a new run


def _tokenizer(experiment: configs.Experiment, stored: Mapping[str, Any] | None) -> Tokenizer:
    if stored:
        return Tokenizer.from_json(stored["tokenizer"])
    for line in experiment.training.initialize:
        return Tokenizer.from_json(checkpoints.load_run(Source.parse(line).directory)["tokenizer"])
    return Tokenizer.from_json(distributed.from_first(lambda: train_tokenizer(experiment.data).to_json()))


def _check_vocabulary(model: Mapping[str, Any], tokenizer: Tokenizer, where: str = "model") -> None:
    # A gather out of range does not fail in JAX: it reads the last row, and the model learns nonsense.
    for key, value in model.items():
        if isinstance(value, Mapping):
            _check_vocabulary(value, tokenizer, f"{where}.{key}")
        elif key == "vocabulary_size" and value + model.get("added_tokens", 0) < tokenizer.vocabulary_size:
            raise UserError(
                f"{where}.vocabulary_size={value} is smaller than the tokenizer's "
                f"{tokenizer.vocabulary_size}; "
                "raise it, or lower data.vocabulary_size for a new tokenizer"
            )


def _tell_changes(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "config") -> None:
    for key in now:
        if isinstance(before.get(key), Mapping) and isinstance(now[key], Mapping):
            _tell_changes(before[key], now[key], f"{where}.{key}")
        elif _listed(before.get(key)) != _listed(now[key]):
            logging.warning("resuming with %s.%s=%r; it was %r", where, key, now[key], before.get(key))


def _listed(value: Any) -> Any:
    """Tuples as the lists that JSON makes of them."""
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
