"""Checkpoints: the one module that knows Orbax.

WORKDIR/checkpoints/<step>/ holds three items: `state` (a `TrainState`), `data` (JSON: where the data stands)
and `run` (JSON: config, tokenizer, image preprocessing, versions), so that a checkpoint alone is enough to
use the model. Saving is asynchronous; a step directory appears only when it is complete, so a killed run
loses nothing older than the last finished save.
"""

import dataclasses
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


def _context(*, partial: bool = False) -> ocp.Context:
    registry = ocp.handlers.local_registry(include_global_registry=True)
    for name in ("data", "run"):  # a dict would be taken for a tree of arrays
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
    context = ocp.Context()
    context.checkpointables.registry = registry
    context.pytree.loading.partial_load = partial
    return context


class Checkpoints:
    """The checkpoints of one run, newest `keep` of them; a context manager that finishes pending saves."""

    def __init__(self, workdir: Path, *, keep: int = 2, folder: str = FOLDER):
        self.directory = Path(workdir).absolute() / folder
        self._checkpointer = ocp.training.Checkpointer(
            self.directory,
            context=_context(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
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
        self._checkpointer.save_checkpointables_async(step, items)

    def restore(self, target: TrainState) -> tuple[TrainState, dict[str, Any], dict[str, Any]]:
        """(state, data, run) of the newest checkpoint.

        Args:
          target: abstract state whose leaves carry shardings; the state comes back laid out like it, whatever
            the mesh it was saved on.

        Raises:
          UserError: its parameters or optimizer state do not fit the target; names the paths.
        """
        path = self.directory / str(self.latest)
        _require_fit(_shapes(path)["params"], target.params, f"{path} does not fit the config")
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


def load_params(directory: str | Path, prefix: str = "") -> dict[str, Any]:
    """Parameters as a nested dict of NumPy arrays; the EMA of those that have one.

    Args:
      prefix: 'a/b' loads only that subtree, and returns its inside.

    Raises:
      UserError: no checkpoint there, or nothing under the prefix.
    """
    path = find(directory)
    shapes = _shapes(path)
    parts = {"params": shapes["params"]} | ({"ema": shapes["ema"]} if shapes.get("ema") else {})
    parts = {name: _below(flatten_dict(tree), prefix) for name, tree in parts.items()}
    if not parts["params"]:
        raise UserError(
            f"the checkpoint {path} has no parameters under {prefix!r}; it has {_top(shapes['params'])}"
        )
    target = {
        name: _at(prefix, unflatten_dict({k: np.empty(x.shape, x.dtype) for k, x in flat.items()}))
        for name, flat in parts.items()
        if flat
    }
    with _context(partial=True):
        state = ocp.load_checkpointables(path, {"state": target})["state"]
    inside = [_below(flatten_dict(state[name]), prefix) for name in parts if parts[name]]
    return jax.tree.map(np.asarray, merge(*(unflatten_dict(flat) for flat in inside)))


def _shapes(path: Path) -> dict[str, Any]:
    """The saved state as nested dicts of ShapeDtypeStructs."""
    with _context():
        return ocp.checkpointables_metadata(path).metadata["state"]


def _top(tree: Mapping[str, Any]) -> str:
    return ", ".join(sorted(tree))


def _below(flat: Mapping[tuple[str, ...], Any], prefix: str) -> dict[tuple[str, ...], Any]:
    head = tuple(part for part in prefix.split("/") if part)
    return {path[len(head) :]: leaf for path, leaf in flat.items() if path[: len(head)] == head}


def _at(prefix: str, tree: Any) -> Any:
    for part in reversed([part for part in prefix.split("/") if part]):
        tree = {part: tree}
    return tree


def _require_fit(found: Any, wanted: Any, sentence: str, *, fits: Callable[..., bool] | None = None) -> None:
    """Raises a UserError listing the paths of `wanted` that `found` lacks or has in another shape."""
    found, wanted = flatten_dict(found), flatten_dict(wanted)
    fits = fits or (lambda have, want: have == want)
    problems = []
    for path, leaf in wanted.items():
        name = "/".join(path) or "it"
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
        loaded = flatten_dict(load_params(source.directory, source.prefix))
        target = _below(flat, source.target)
        if not target:
            raise UserError(f"training.initialize: the model has no parameters under {source.target!r}")
        sentence = f"training.initialize: {source.directory}:{source.prefix} cannot fill {source.target!r}"
        _require_fit(unflatten_dict(loaded), unflatten_dict(target), sentence, fits=_can_fill)
        unused = sorted("/".join(path) for path in loaded.keys() - target.keys())
        if unused:
            logging.warning("training.initialize: %s also holds %s, which the model has no use for",
                            source.directory, ", ".join(unused))  # fmt: skip
        head = tuple(part for part in source.target.split("/") if part)
        for path, leaf in target.items():
            value = loaded[path].reshape(leaf.shape).astype(leaf.dtype)
            flat[head + path] = jax.device_put(value, leaf.sharding)
    return unflatten_dict(flat)


def _can_fill(have: tuple[int, ...], want: tuple[int, ...]) -> bool:
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
