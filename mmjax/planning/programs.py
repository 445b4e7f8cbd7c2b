"""The programs of a config that a pod would run: the training step, generation, sampling. Shapes only.

Axes: B rows of the global batch, L tokens of a row.
"""

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mmjax.config import Experiment
from mmjax.data.layouts import blank
from mmjax.data.pipeline import DataConfig
from mmjax.data.streams import media_of
from mmjax.errors import UserError
from mmjax.sharding import ShardingRules, activate, batch_sharding, check_batch_size
from mmjax.sharding.report import bytes_per_device
from mmjax.systems.system import System
from mmjax.training.trainer import Trainer, model_flops

# Ids are values, and only shapes are asked for.
TRAINING = "training step"
_UNTRAINED = types.SimpleNamespace(id=lambda token: 0, roles={})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A program ready to lower.

    Attributes:
      lower: traces it; no memory.
      arguments: bytes per device of what it is given, by name, before the layout of the hardware.
      model_flops: of one call over all devices, nothing computed twice; None where it does not follow.
      rows: of the global batch.
    """

    name: str
    mesh: Mesh
    lower: Callable[[], jax.stages.Lowered]
    arguments: Mapping[str, int]
    model_flops: float | None
    rows: int


def batch_shapes(config: DataConfig, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a batch of the contract, from the config alone: no data set need be there."""
    row = blank(_UNTRAINED, config.text_length) | media_of(config, _UNTRAINED).blank()
    row |= {name: np.int32(0) for name in ("index", *config.facts)}
    return {
        name: jax.ShapeDtypeStruct((batch_size, *leaf.shape), jnp.dtype(leaf.dtype))
        for name, leaf in row.items()
    }


def training(experiment: Experiment, devices: Sequence[jax.Device]) -> Program:
    """The jitted step of a training run, donated state and all.

    Raises:
      UserError: mesh, batch, rules or treatments do not fit each other.
    """
    system, config = experiment.system, experiment.training
    trainer = Trainer.prepare(
        system,
        config=config,
        optimizer=experiment.optimizer,
        sharding=experiment.sharding,
        devices=devices,
    )
    shapes = batch_shapes(experiment.data, config.batch_size)
    batch = _placed(shapes, trainer.mesh)
    target = trainer.target
    return Program(
        name=TRAINING,
        mesh=trainer.mesh,
        lower=_lowering(trainer.step, trainer.mesh, trainer.rules, target, batch),
        arguments={
            "parameters": _held(target.params),
            "optimizer state": _held(target.optimizer_state),
            "averaged parameters": _held(target.ema),
            "batch": _held(batch),
        },
        model_flops=model_flops(system, trainer.treatments, target.params, shapes),
        rows=config.batch_size,
    )


def generation(
    experiment: Experiment, devices: Sequence[jax.Device], *, batch_size: int, length: int
) -> Program:
    """Prefill of `data.text_length` tokens, and the loop that decodes `length` more."""
    system = experiment.system
    method = _ability(system, ("generate", "caption"), "--generate")
    shapes = batch_shapes(experiment.data, batch_size)
    names = ("tokens", "segment") if method == "generate" else ("image", "image_valid", "tokens", "segment")

    def run(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        return getattr(system, method)(params, *(batch[name] for name in names), key, length=length)

    wanted = {name: shapes[name] for name in names}
    return _serving(experiment, devices, f"{method} ({length} tokens)", run, wanted, batch_size)


def sampling(
    experiment: Experiment, devices: Sequence[jax.Device], *, batch_size: int, steps: int
) -> Program:
    """A whole draw of the diffusion sampler, decoder included."""
    system = experiment.system
    method = _ability(system, ("draw_class", "draw"), "--sample")
    shapes = batch_shapes(experiment.data, batch_size)
    names = (system.label,) if method == "draw_class" else ("tokens", "segment")

    def run(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        draw = getattr(system, method)
        return draw(params, *(batch[name] for name in names), key, steps=steps, guidance=4.0)

    wanted = {name: shapes[name] for name in names}
    return _serving(experiment, devices, f"{method} ({steps} steps)", run, wanted, batch_size)


def _ability(system: System, methods: Sequence[str], flag: str) -> str:
    for method in methods:
        if hasattr(system, method):
            return method
    raise UserError(
        f"{flag}: {type(system).__name__} has no {' or '.join(methods)}; drop {flag} to compile its step"
    )


def _serving(
    experiment: Experiment,
    devices: Sequence[jax.Device],
    name: str,
    run: Callable[[Any, Any, jax.Array], jax.Array],
    shapes: Mapping[str, jax.ShapeDtypeStruct],
    batch_size: int,
) -> Program:
    training_config = dataclasses.replace(experiment.training, batch_size=batch_size, accumulate=1)
    trainer = Trainer.prepare(
        experiment.system,
        config=training_config,
        optimizer=experiment.optimizer,
        sharding=experiment.sharding,
        devices=devices,
    )
    check_batch_size(trainer.mesh, batch_size)
    batch, key = _placed(shapes, trainer.mesh), jax.eval_shape(lambda: jax.random.key(0))
    run = jax.jit(run, out_shardings=batch_sharding(trainer.mesh))
    return Program(
        name=name,
        mesh=trainer.mesh,
        lower=_lowering(run, trainer.mesh, trainer.rules, trainer.target.params, batch, key),
        arguments={"parameters": _held(trainer.target.params), "batch": _held(batch)},
        model_flops=None,
        rows=batch_size,
    )


def _lowering(
    function: Any, mesh: Mesh, rules: ShardingRules, *arguments: Any
) -> Callable[[], jax.stages.Lowered]:
    def lower() -> jax.stages.Lowered:
        with activate(mesh, rules):
            return function.lower(*arguments)

    return lower


def _placed(shapes: Mapping[str, jax.ShapeDtypeStruct], mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    place = functools.partial(jax.ShapeDtypeStruct, sharding=batch_sharding(mesh))
    return {name: place(leaf.shape, leaf.dtype) for name, leaf in shapes.items()}


def _held(tree: Any) -> int:
    return sum(bytes_per_device(leaf, leaf.sharding) for leaf in jax.tree.leaves(tree))
