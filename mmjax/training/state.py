"""What a training run carries from step to step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh, NamedSharding

from mmjax.sharding import ShardingRules, parameter_shardings, replicated
from mmjax.systems.system import System
from mmjax.training import optimizers


@struct.dataclass
class TrainState:
    """The whole state of a run; everything else follows from it, the config and the data.

    Attributes:
      step: i32[], updates made so far.
      params: every parameter, frozen ones included.
      optimizer_state: of the trainable parameters only.
      ema: exponential moving average of the trainable parameters, or None.
      key: the run's random key; the key of step n is `fold_in(key, n)`, so it depends on (seed, n) alone.
      healthy: bool[], False from the first step whose loss or gradient was not finite. Such a step and all
        after it change nothing, so the state stays as it was when things went wrong.
    """

    step: jax.Array
    params: Any
    optimizer_state: optax.OptState
    ema: Any
    key: jax.Array
    healthy: jax.Array


def create(
    system: System, optimizer: optax.GradientTransformation, treatments: Any, *, seed: int, ema: bool
) -> TrainState:
    """Fresh state; traceable, so `jax.eval_shape` of it costs no memory."""
    init_key, step_key = jax.random.split(jax.random.key(seed))
    params = nn.meta.unbox(system.init(init_key))
    trainable, _ = optimizers.split(params, treatments)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        optimizer_state=optimizer.init(trainable),
        # A copy of its own: the step donates its state, and a donated buffer must not appear twice.
        ema=jax.tree.map(jnp.copy, trainable) if ema else None,
        key=step_key,
        healthy=jnp.ones((), bool),
    )


def abstract_params(system: System) -> Any:
    """Shapes of the parameters in their boxes of logical axis names; no memory."""
    return jax.eval_shape(system.init, jax.random.key(0))


def state_shardings(
    abstract: TrainState,
    boxed: Any,
    treatments: Any,
    mesh: Mesh,
    rules: ShardingRules,
) -> TrainState:
    """NamedShardings of a state: optimizer state and EMA lie like the parameters they belong to.

    Args:
      abstract: `jax.eval_shape` of `create`.
      boxed: `abstract_params(system)`.
    """
    params = parameter_shardings(boxed, mesh, rules)
    trainable, _ = optimizers.split(params, treatments)
    whole = replicated(mesh)
    return TrainState(
        step=whole,
        params=params,
        optimizer_state=_like_params(abstract.optimizer_state, abstract.params, params, whole),
        ema=None if abstract.ema is None else trainable,
        key=whole,
        healthy=whole,
    )


def _like_params(state: Any, params: Any, shardings: Any, whole: NamedSharding) -> Any:
    """The sharding of its parameter for every leaf that ends in a parameter's path and has its shape."""
    shapes, found = flatten_dict(params), flatten_dict(shardings)

    def choose(keys: tuple, leaf: jax.Array) -> NamedSharding:
        names = tuple(key.key for key in keys if isinstance(key, jax.tree_util.DictKey))
        for start in range(len(names)):
            path = names[start:]
            if path in shapes and shapes[path].shape == leaf.shape:
                return found[path]
        return whole

    return jax.tree_util.tree_map_with_path(choose, state)
