"""Smaller optimizer states: what they hold, where it lies, and that they still train."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import Toy, batch

from mmjax.sharding import ShardingConfig, activate
from mmjax.systems.system import TRAIN
from mmjax.training import optimizers
from mmjax.training.optimizers import OptimizerConfig
from mmjax.training.trainer import Trainer, TrainingConfig

SHAPE = (256, 128)
CONFIG = OptimizerConfig(warmup=0, weight_decay=0.0, schedule="constant", learning_rate=0.05)


def optimizer_of(config):
    params = {"layer": {"kernel": jnp.ones(SHAPE), "bias": jnp.ones(SHAPE[1])}}
    treatments = optimizers.treat(((".*", TRAIN),), params)
    return optimizers.make_optimizer(config, steps=10, treatments=treatments, axes={}), params


def numbers(state, dtype=None):
    leaves = [leaf for leaf in jax.tree.leaves(state) if dtype is None or leaf.dtype == dtype]
    return sum(leaf.size for leaf in leaves)


def test_a_bfloat16_momentum_is_half_of_the_first_moment():
    size = SHAPE[0] * SHAPE[1] + SHAPE[1]
    for dtype in ("float32", "bfloat16"):
        optimizer, params = optimizer_of(dataclasses.replace(CONFIG, momentum_dtype=dtype))
        state = jax.eval_shape(optimizer.init, params)
        assert numbers(state, jnp.bfloat16) == (size if dtype == "bfloat16" else 0)
        assert numbers(state, jnp.float32) == (size if dtype == "bfloat16" else 2 * size)


def test_adafactor_keeps_rows_and_columns_of_the_second_moment():
    optimizer, params = optimizer_of(
        dataclasses.replace(CONFIG, method="adafactor", momentum_dtype="bfloat16")
    )
    state = jax.eval_shape(optimizer.init, params)
    assert numbers(state, jnp.bfloat16) == SHAPE[0] * SHAPE[1] + SHAPE[1]
    assert numbers(state, jnp.float32) <= sum(SHAPE) + SHAPE[1] + 8


@pytest.mark.parametrize("method", ["adamw", "adafactor"])
def test_small_states_train(method):
    config = dataclasses.replace(CONFIG, method=method, momentum_dtype="bfloat16", clip_norm=0.0)
    optimizer, params = optimizer_of(config)
    target = jax.tree.map(lambda x: x * jnp.linspace(0.0, 2.0, x.shape[-1]), params)

    def loss(params):
        errors = jax.tree.map(lambda a, b: jnp.mean(jnp.square(a - b)), params, target)
        return sum(jax.tree.leaves(errors))

    @jax.jit
    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (jax.tree.map(jnp.add, params, updates), state), loss(params)

    _, losses = jax.lax.scan(step, (params, optimizer.init(params)), None, length=60)
    assert losses[-1] < 0.02 * losses[0]
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("method", ["adamw", "adafactor", "muon"])
def test_every_byte_of_the_state_is_reused_in_place(method):
    """A donated buffer of another type or layout than its successor is copied, and only a warning says so."""
    trainer = Trainer.prepare(
        Toy(),
        config=TrainingConfig(steps=2, batch_size=16, ema=0.9),
        optimizer=dataclasses.replace(CONFIG, method=method, momentum_dtype="bfloat16"),
        sharding=ShardingConfig(),
    )
    with warnings.catch_warnings(), activate(trainer.mesh, trainer.rules):
        warnings.simplefilter("error")
        compiled = trainer.step.lower(trainer.target, batch(0)).compile()
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(trainer.target.params))
    aliased = compiled.memory_analysis().alias_size_in_bytes
    assert aliased >= state
    outputs = compiled.memory_analysis().output_size_in_bytes
    assert outputs - aliased < 512  # the metrics
