"""A run's configuration, and the system prepared for a mesh: shapes, shardings, the compiled step."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from absl import logging
from jax.sharding import Mesh

from mmjax.config import replaced
from mmjax.errors import UserError
from mmjax.flops import training_multiply_adds
from mmjax.sharding import (
    ShardingConfig,
    ShardingRules,
    check_batch_size,
    check_replication,
    replicated,
)
from mmjax.systems.system import System
from mmjax.training import checkpoints, optimizers
from mmjax.training.state import TrainState, abstract_params, create, state_shardings
from mmjax.training.step import make_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One training run.

    Attributes:
      steps: updates in all, whatever the number of interruptions.
      batch_size: rows of the global batch, over all devices and microbatches.
      seed: of the initial parameters, the batch order and every random choice of a step.
      accumulate: microbatches per update; memory falls, the gradient does not change. Where rows are compared
        with each other (CLIP), with all of the batch as ever, that takes a second forward pass.
      ema: decay of the exponential moving average of the trainable parameters; 0 for none.
      log_every, checkpoint_every, evaluate_every: in updates; 0 only after the last one (evaluation: never).
      keep: newest checkpoints kept.
      keep_every: checkpoints at multiples of this update are kept too; 0 for none.
      keep_best: "metric:max" or "metric:min", such as "retrieval/image_to_text_recall_at_1:max": the
        checkpoint that scored best in an evaluation is kept too. Every evaluated update is then saved.
      hang_seconds: a run that finishes no update for so long writes the stacks of its threads; 0 for never.
        An evaluation and the first compilation must fit in.
      hang_exit: it then ends with code 75, for `--max-restarts` to start it again.
      initialize: lines "target/prefix=DIRECTORY[:source/prefix]", subtrees taken from other checkpoints.
    """

    steps: int
    batch_size: int
    seed: int = 0
    accumulate: int = 1
    ema: float = 0.0
    log_every: int = 10
    checkpoint_every: int = 500
    evaluate_every: int = 0
    keep: int = 2
    keep_every: int = 0
    keep_best: str = ""
    hang_seconds: float = 1800.0
    hang_exit: bool = False
    initialize: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("steps", "batch_size", "accumulate", "keep"):
            if getattr(self, name) < 1:
                raise UserError(f"training.{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.ema < 1:
            raise UserError(f"training.ema is {self.ema}; it must be in [0, 1)")
        if self.keep_best and not self.evaluate_every:
            raise UserError("training.keep_best needs evaluations: set training.evaluate_every")
        self.retention()

    def retention(self, logged: Sequence[Mapping[str, Any]] = ()) -> checkpoints.Retention:
        """Which checkpoints stay, given the lines that earlier parts of the run have logged."""
        retention = checkpoints.Retention(latest=self.keep, every=self.keep_every, best=self.keep_best)
        for line in logged:
            if retention.metric in line:
                retention.score(line["step"], line)
        return retention


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trainer:
    """A system prepared for a mesh: shapes, shardings and the compiled step. Costs no device memory yet."""

    system: System
    config: TrainingConfig
    mesh: Mesh
    rules: ShardingRules
    treatments: Mapping[optimizers.Path, Any]
    optimizer: optax.GradientTransformation
    target: TrainState  # abstract state whose leaves carry their shardings
    step: Callable[[TrainState, Any], tuple[TrainState, Mapping[str, jax.Array]]]

    @classmethod
    def prepare(
        cls,
        system: System,
        *,
        config: TrainingConfig,
        optimizer: optimizers.OptimizerConfig,
        sharding: ShardingConfig,
        devices: Sequence[jax.Device] | None = None,
    ) -> "Trainer":
        """devices: those of the mesh, all of this machine by default; described ones (a pod's) will do.

        Raises a UserError where mesh, batch, rules or treatments do not fit each other.
        """
        mesh, rules = sharding.make_mesh(devices), sharding.make_rules()
        check_batch_size(mesh, config.batch_size, accumulate=config.accumulate)
        boxed = abstract_params(system)
        treatments = optimizers.treat(system.treatments(), boxed)
        transform = optimizers.make_optimizer(
            optimizer, steps=config.steps, treatments=treatments, axes=optimizers.logical_axes(boxed)
        )
        abstract = jax.eval_shape(
            lambda: create(system, transform, treatments, seed=config.seed, ema=config.ema > 0)
        )
        shardings = state_shardings(abstract, boxed, treatments, mesh, rules)
        check_replication(abstract.params, shardings.params, mesh, max_replicated=sharding.max_replicated)
        step = make_step(
            system,
            transform,
            treatments,
            schedule=optimizer.make_schedule(config.steps),
            accumulate=config.accumulate,
            ema=config.ema,
        )
        return cls(
            system=system,
            config=config,
            mesh=mesh,
            rules=rules,
            treatments=treatments,
            optimizer=transform,
            target=jax.tree.map(
                lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
                abstract,
                shardings,
            ),
            step=jax.jit(step, donate_argnums=0, out_shardings=(shardings, replicated(mesh))),
        )

    def create(self) -> TrainState:
        """The state before the first update, with `training.initialize` applied.

        Call it outside `activate`: under a mesh with rules Linen lays parameters out while it makes them,
        and in a scan within a scan it then names the axis of the layers twice. The layout comes from the
        output shardings alone.
        """

        def fresh() -> TrainState:
            return create(
                self.system, self.optimizer, self.treatments, seed=self.config.seed, ema=self.config.ema > 0
            )

        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.target)
        state = jax.jit(fresh, out_shardings=shardings)()
        if not self.config.initialize:
            return state
        params = checkpoints.initialize(state.params, self.config.initialize)
        trainable, _ = optimizers.split(params, self.treatments)
        ema = None if state.ema is None else jax.tree.map(jnp.copy, trainable)
        return state.replace(params=params, ema=ema)


def model_flops(
    system: System, treatments: Mapping[optimizers.Path, Any], params: Any, batch: Mapping[str, Any]
) -> float | None:
    """FLOPs of one update, forward and backward, nothing computed twice; None where shapes do not tell.

    Args:
      params, batch: arrays or their shapes.
    """
    system = replaced(system, remat=None, attention="xla")  # a kernel's work cannot be counted
    trainable, frozen = optimizers.split(params, treatments)

    def loss(trainable: Any, frozen: Any, batch: Any, key: jax.Array) -> list[jax.Array]:
        terms, _ = system.loss(optimizers.merge(trainable, frozen), batch, key)
        return [total for _, total, _ in terms.values()]

    rows = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in batch.items()}
    key = jax.eval_shape(jax.random.key, 0)
    try:
        return 2.0 * training_multiply_adds(loss, trainable, frozen, rows, key)
    except ValueError as error:
        logging.warning("the model's FLOPs are not known: %s", error)
        return None
