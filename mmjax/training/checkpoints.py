"""Checkpoints: the one module that calls Orbax; `streaming` knows the format on disk.

WORKDIR/checkpoints/<step>/ holds three items: `state` (a `TrainState`), `data` (JSON: where the data stands)
and `run` (JSON: config, tokenizer, image preprocessing, versions), so that a checkpoint alone is enough to
use the model. Saving is asynchronous; a step directory appears only when it is complete, so a killed run
loses nothing older than the last finished save.
"""

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from mmjax import config as configs
from mmjax.data.images import ImageSpec
from mmjax.data.tokenizer import Tokenizer
from mmjax.errors import UserError
from mmjax.training.optimizers import merge
from mmjax.training.state import TrainState

FOLDER = "checkpoints"

Shape = tuple[int, ...]
Flat = Mapping[tuple[str, ...], Any]  # path -> array, or its shape


def _context(*, partial: bool = False) -> ocp.Context:
    registry = ocp.handlers.local_registry(include_global_registry=True)
    for name in ("data", "run"):  # a dict would be taken for a tree of arrays
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
    context = ocp.Context()
    context.checkpointables.registry = registry
    context.pytree.loading.partial_load = partial
    return context


@dataclasses.dataclass(kw_only=True)
class Retention:
    """Which checkpoints stay when a new one is saved; one of Orbax's preservation policies.

    Attributes:
      latest: so many of the newest.
      every: those at multiples of this step as well; 0 for none.
      best: "metric:max" or "metric:min": the one that scored best as well; "" for none.
      scores: step -> the metric, of the steps evaluated so far.
    """

    latest: int = 2
    every: int = 0
    best: str = ""
    scores: dict[int, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self.metric, _, self.direction = self.best.rpartition(":")
        if self.best and not (self.metric and self.direction in ("max", "min")):
            raise UserError(f"training.keep_best={self.best!r} is not of the form metric:max or metric:min")

    def score(self, step: int, values: Mapping[str, float]) -> None:
        """Remembers how the parameters of a step did; UserError where the metric is not among `values`."""
        if not self.best:
            return
        if self.metric not in values:
            raise UserError(
                f"training.keep_best={self.best!r}: no evaluator reports that; known: {', '.join(values)}"
            )
        self.scores[step] = values[self.metric]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """See `ocp.training.preservation_policies.PreservationPolicy`."""
        known = ocp.training.preservation_policies
        policies = [known.LatestN(self.latest)]
        if self.every:
            policies.append(known.EveryNSteps(self.every))
        sign = -1 if self.direction == "min" else 1
        scored = {c.step: sign * self.scores[c.step] for c in checkpoints if c.step in self.scores}
        scored = {step: score for step, score in scored.items() if not math.isnan(score)}
        if scored:
            policies.append(known.CustomSteps([max(scored, key=lambda step: (scored[step], step))]))
        return known.AnyPreservationPolicy(policies).should_preserve(checkpoints, context=context)


class Checkpoints:
    """The checkpoints of one run; a context manager that finishes pending saves."""

    def __init__(self, workdir: Path, *, retention: Retention | None = None, folder: str = FOLDER):
        self.directory = Path(workdir).absolute() / folder
        self.retention = retention or Retention()
        self._checkpointer = ocp.training.Checkpointer(
            self.directory,
            context=_context(),
            preservation_policy=self.retention,
            cleanup_tmp_directories=True,
        )

    @property
    def latest(self) -> int | None:
        """Step of the newest finished checkpoint."""
        found = self._checkpointer.latest
        return None if found is None else found.step

    def save(self, step: int, state: TrainState, *, data: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        """Copies the state off the device and writes it in the background.

        A failure to write surfaces in the next call.
        """
        items = {"state": state, "data": dict(data), "run": dict(run)}
        # The caller decides when to save; Orbax by itself would silently skip a step below the newest one.
        self._checkpointer.save_checkpointables_async(step, items, force=True)

    def restore(self, target: TrainState) -> tuple[TrainState, dict[str, Any], dict[str, Any]]:
        """(state, data, run) of the newest checkpoint.

        Args:
          target: abstract state whose leaves carry shardings; the state comes back laid out like it, whatever
            the mesh it was saved on.

        Raises:
          UserError: its parameters or optimizer state do not fit the target; names the paths.
        """
        path = self.directory / str(self.latest)
        found, wanted = flatten_dict(_shapes(path)["params"]), flatten_dict(target.params)
        _require_fit(found, wanted, f"{path} does not fit the config")
        try:
            items = self._checkpointer.load_checkpointables(
                self.latest, {"state": target, "data": None, "run": None}
            )
        except (ValueError, KeyError) as error:
            raise UserError(
                f"the optimizer or EMA state in {path} does not fit the config's training and optimizer "
                "sections; restore their old values, or start a new workdir with training.initialize"
            ) from error
        return items["state"], items["data"], items["run"]

    def wait(self) -> None:
        """Returns when everything saved so far is on disk."""
        self._checkpointer.wait()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self._checkpointer.close()


def find(directory: str | Path) -> Path:
    """The newest step directory in a workdir, its checkpoints folder, or the step directory itself.

    Raises:
      UserError: there is no finished checkpoint.
    """
    directory = Path(directory).absolute()
    for candidate in (directory, directory / FOLDER):
        if (candidate / "state").is_dir():
            return candidate
        steps = [int(p.name) for p in candidate.glob("[0-9]*") if p.name.isdigit() and (p / "state").is_dir()]
        if steps:
            return candidate / str(max(steps))
    raise UserError(f"there is no checkpoint in {directory}; train there first, or correct the path")


def load_run(directory: str | Path) -> dict[str, Any]:
    """The `run` item: config, tokenizer, image_spec, versions."""
    with _context():
        return ocp.load_checkpointables(find(directory), {"run": None})["run"]


def load_params(directory: str | Path, prefix: str = "") -> Any:
    """Parameters as a nested dict of NumPy arrays; the EMA of those that have one.

    Args:
      prefix: 'a/b' loads only that subtree (or one array), and returns its inside.

    Raises:
      UserError: no checkpoint there, or nothing under the prefix.
    """
    path, head = find(directory), _parts(prefix)
    shapes = _shapes(path)
    wanted = {}
    for name in ("params", "ema"):
        flat = flatten_dict(shapes.get(name) or {})
        wanted |= {(name, *p): np.empty(x.shape, x.dtype) for p, x in flat.items() if p[: len(head)] == head}
    if not wanted:
        known = ", ".join(sorted(shapes["params"]))
        raise UserError(f"the checkpoint {path} has no parameters under {prefix!r}; it has {known}")
    with _context(partial=True):
        state = ocp.load_checkpointables(path, {"state": unflatten_dict(wanted)})["state"]
    params = merge(state["params"], state.get("ema") or {})
    for part in head:
        params = params[part]
    return jax.tree.map(np.asarray, params)


def _shapes(path: Path) -> dict[str, Any]:
    """The saved state as nested dicts of ShapeDtypeStructs."""
    with _context():
        return ocp.checkpointables_metadata(path).metadata["state"]


def _parts(prefix: str) -> tuple[str, ...]:
    return tuple(part for part in prefix.split("/") if part)


def _below(tree: Any, prefix: str) -> dict[tuple[str, ...], Any]:
    """The leaves under a prefix by the rest of their paths; () for a prefix that names a leaf."""
    head = _parts(prefix)
    return {p[len(head) :]: leaf for p, leaf in flatten_dict(tree).items() if p[: len(head)] == head}


def _require_fit(
    found: Flat, wanted: Flat, sentence: str, *, fits: Callable[[Shape, Shape], bool] = operator.eq
) -> None:
    """Raises a UserError listing the paths of `wanted` that `found` lacks or has in another shape."""
    problems = []
    for path, leaf in wanted.items():
        name = "/".join(path) or "the array"
        if path not in found:
            problems.append(f"{name} is missing")
        elif not fits(tuple(found[path].shape), tuple(leaf.shape)):
            problems.append(f"{name} is {list(found[path].shape)} and should be {list(leaf.shape)}")
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise UserError(f"{sentence}: {'; '.join(problems[:8])}{more}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """One line of `training.initialize`: "target/prefix=DIRECTORY[:source/prefix]"."""

    target: str
    directory: str
    prefix: str

    @classmethod
    def parse(cls, line: str) -> "Source":
        match = re.fullmatch(r"(?P<target>[^=]*)=(?P<directory>.+?)(:(?P<prefix>(?!//)[^:]*))?", line)
        if not match:
            raise UserError(
                f"training.initialize: {line!r} is not of the form target/prefix=DIRECTORY[:source/prefix]"
            )
        return cls(target=match["target"], directory=match["directory"], prefix=match["prefix"] or "")


def initialize(params: Any, lines: Sequence[str]) -> Any:
    """Parameters with subtrees replaced from other checkpoints, each leaf laid out as the one it replaces.

    A leaf [L, ...] fills a target [G, k, ...] with G * k == L: the same layers, stacked in groups.

    Raises:
      UserError: a target path is missing in the source or has another shape.
    """
    flat = flatten_dict(params)
    for source in map(Source.parse, lines):
        loaded = load_params(source.directory, source.prefix)
        loaded = flatten_dict(loaded) if isinstance(loaded, dict) else {(): loaded}
        target = _below(params, source.target)
        if not target:
            raise UserError(f"training.initialize: the model has no parameters under {source.target!r}")
        sentence = f"training.initialize: {source.directory}:{source.prefix} cannot fill {source.target!r}"
        _require_fit(loaded, target, sentence, fits=_can_fill)
        unused = sorted("/".join(path) for path in loaded.keys() - target.keys())
        if unused:
            logging.warning("training.initialize: %s also holds %s, which the model has no use for",
                            source.directory, ", ".join(unused))  # fmt: skip
        for path, leaf in target.items():
            value = loaded[path].reshape(leaf.shape).astype(leaf.dtype)
            flat[_parts(source.target) + path] = jax.make_array_from_callback(
                value.shape, leaf.sharding, value.__getitem__
            )
    return unflatten_dict(flat)


def _can_fill(have: Shape, want: Shape) -> bool:
    regrouped = len(want) >= 2 and have == (want[0] * want[1], *want[2:])
    return have == want or regrouped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained system with everything needed to use it; `params` are the EMA weights where there are any."""

    system: Any
    params: Any
    tokenizer: Tokenizer
    image_spec: ImageSpec
    data_config: Any
    config: ConfigDict
    step: int

    @classmethod
    def load(cls, directory: str | Path) -> "Trained":
        """From a workdir, its checkpoints folder or one step directory; UserError when there is none."""
        path = find(directory)
        run = load_run(path)
        config = configs.from_json(run["config"])
        experiment = configs.experiment(config)
        return cls(
            system=experiment.system,
            params=load_params(path),
            tokenizer=Tokenizer.from_json(run["tokenizer"]),
            image_spec=configs.build(ImageSpec, run["image_spec"], "image_spec"),
            data_config=experiment.data,
            config=config,
            step=int(path.name),
        )
