"""The step: what trains, what stays, and that accumulation changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from flax.traverse_util import flatten_dict

from mmjax.errors import UserError
from mmjax.systems.system import FREEZE, TRAIN, Rows, Train
from mmjax.training import optimizers
from mmjax.training.optimizers import OptimizerConfig
from mmjax.training.state import create
from mmjax.training.step import make_gradients, make_step, update_ema

SYSTEM = toy.Toy()
OPTIMIZER = OptimizerConfig(learning_rate=0.05, warmup=0, schedule="constant", weight_decay=0.5, decay=".*")


def assemble(system=SYSTEM, config=OPTIMIZER, *, ema=0.9, accumulate=1):
    treatments = optimizers.treat(system.treatments(), jax.eval_shape(system.init, jax.random.key(0)))
    optimizer = optimizers.make_optimizer(config, steps=20, treatments=treatments, axes={})
    state = create(system, optimizer, treatments, seed=1, ema=ema > 0)
    schedule = config.make_schedule(20)
    step = make_step(system, optimizer, treatments, schedule=schedule, accumulate=accumulate, ema=ema)
    return state, jax.jit(step), treatments


@pytest.fixture(scope="module")
def trained():
    """(state before, state after 5 steps, metrics of the last) with weight decay on every parameter."""
    before, step, _ = assemble()
    state = before
    for number in range(5):
        state, metrics = step(state, toy.batch(number))
    return before, state, metrics


def test_frozen_parameters_keep_their_bits_and_have_no_optimizer_state_and_no_ema(trained):
    before, after, _ = trained
    assert np.array_equal(before.params["frozen"], after.params["frozen"])
    for tree in (after.ema, after.optimizer_state):
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
        assert any("head" in path for path in paths)
        assert not any("frozen" in path for path in paths)


def test_locked_rows_keep_their_bits_under_weight_decay_while_the_others_move(trained):
    before, after, _ = trained
    old, new = np.asarray(before.params["embedding"]), np.asarray(after.params["embedding"])
    changed = (old != new).any(axis=1)
    assert changed.tolist() == [False, False, True, True, True, False, False, False]
    assert np.array_equal(np.asarray(after.ema["embedding"])[:2], old[:2])


def test_the_post_update_hook_runs(trained):
    _, after, _ = trained
    assert float(after.params["scale"]) == pytest.approx(0.9)
    free, step, _ = assemble(type("Free", (toy.Toy,), {"after_update": lambda self, params: params})())
    for number in range(5):
        free, _ = step(free, toy.batch(number))
    assert float(free.params["scale"]) < 0.89  # so the clamp above did something


def test_metrics_hold_terms_outputs_and_the_usual_figures(trained):
    _, _, metrics = trained
    assert set(metrics) == {"loss", "classes", "size", "share", "gradient_norm", "learning_rate"}
    expected = float(metrics["classes"]) + 0.01 * float(metrics["size"])
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-6)
    assert float(metrics["learning_rate"]) == pytest.approx(0.05)


def test_four_microbatches_with_uneven_counts_give_the_gradient_of_one():
    params = jax.tree.map(
        lambda box: box.unbox(), SYSTEM.init(jax.random.key(0)), is_leaf=lambda x: hasattr(x, "unbox")
    )
    batch = toy.batch(0)
    counts = [int((batch["targets"][m::4] >= 0).sum()) for m in range(4)]
    assert len(set(counts)) > 1  # otherwise a mean of means would pass as well
    whole, metrics = make_gradients(SYSTEM)(params, {}, batch, jax.random.key(0))
    parts, part_metrics = jax.jit(make_gradients(SYSTEM, accumulate=4))(params, {}, batch, jax.random.key(0))
    for path, gradient in flatten_dict(whole).items():
        np.testing.assert_allclose(
            gradient, flatten_dict(parts)[path], rtol=2e-5, atol=1e-6, err_msg=str(path)
        )
    for name in ("loss", "classes", "size", "share"):
        assert float(metrics[name]) == pytest.approx(float(part_metrics[name]), rel=1e-5)


def test_the_random_key_of_a_step_depends_on_seed_and_step_only():
    state, step, _ = assemble(toy.Toy(noise=1.0))
    batch = toy.batch(0)
    first = step(state, batch)[1]["loss"]
    assert float(first) == float(step(state, batch)[1]["loss"])
    assert float(first) != float(step(state.replace(step=jnp.int32(1)), batch)[1]["loss"])


def test_a_loss_that_is_not_finite_freezes_the_state_for_good():
    state, step, _ = assemble(toy.Toy(explode_at=1e3))
    state, _ = step(state, toy.batch(0))
    bad = toy.batch(1)
    bad["x"][0, 0] = 1e4
    stuck, metrics = step(state, bad)
    assert not np.isfinite(float(metrics["loss"]))
    stuck, _ = step(stuck, toy.batch(2))
    assert int(stuck.step) == 1
    assert not bool(stuck.healthy)
    for tree in ("params", "optimizer_state", "ema"):
        old, new = jax.tree.leaves(getattr(state, tree)), jax.tree.leaves(getattr(stuck, tree))
        assert all(np.array_equal(a, b) for a, b in zip(old, new, strict=True))


def test_ema_rises_to_its_decay():
    one, zero = jnp.ones(()), jnp.zeros(())
    assert float(update_ema(zero, one, 0.99, jnp.int32(0))) == pytest.approx(0.9)  # d = 1 / 10
    assert float(update_ema(zero, one, 0.99, jnp.int32(100_000))) == pytest.approx(0.01)


def test_learning_rate_multipliers_scale_the_update():
    class Slow(toy.Toy):
        def treatments(self):
            return (("head/.*", Train(learning_rate=0.1)), (".*", TRAIN))

    config = OptimizerConfig(learning_rate=0.01, warmup=0, schedule="constant", weight_decay=0.0)
    moves = {}
    for system in (toy.Toy(), Slow()):
        state, step, _ = assemble(system, config)
        after, _ = step(state, toy.batch(0))
        moves[type(system)] = np.asarray(after.params["head"]["kernel"] - state.params["head"]["kernel"])
    np.testing.assert_allclose(moves[Slow], 0.1 * moves[toy.Toy], rtol=1e-2, atol=1e-6)


def test_weight_decay_reaches_kernels_only():
    config = OptimizerConfig(learning_rate=0.1, warmup=0, schedule="constant", weight_decay=0.5)
    params = {"up": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones((3, 2))}, "embedding": jnp.ones((2, 2))}
    treatments = optimizers.treat(((".*", TRAIN),), params)
    optimizer = optimizers.make_optimizer(config, steps=10, treatments=treatments, axes={})
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates["up"]["kernel"], -0.05)
    assert not updates["up"]["bias"].any()  # two dimensions, as in a scanned stack, and still a bias
    assert not updates["embedding"].any()


@pytest.mark.parametrize(
    ("schedule", "middle", "end"), [("cosine", 0.5, 0.0), ("constant", 1.0, 1.0), ("rsqrt", 0.43, 0.32)]
)
def test_schedules(schedule, middle, end):
    rate = OptimizerConfig(learning_rate=1.0, schedule=schedule, warmup=10).make_schedule(110)
    assert float(rate(0)) == pytest.approx(1 / 11)
    assert float(rate(10)) == pytest.approx(1.0)
    assert float(rate(60)) == pytest.approx(middle, abs=0.03)
    assert float(rate(110)) == pytest.approx(end, abs=0.03)


def test_a_treatment_that_decides_nothing_and_a_parameter_without_one_are_errors():
    params = {"vision": {"kernel": jnp.ones(2)}}
    with pytest.raises(UserError, match="'vison/\\.\\*' decides no parameter"):
        optimizers.treat((("vison/.*", FREEZE), (".*", TRAIN)), params)
    with pytest.raises(UserError, match="vision/kernel matches none"):
        optimizers.treat((("text/.*", TRAIN),), params)


def test_rows_outside_the_array_are_an_error():
    with pytest.raises(UserError, match=r"table has 4 rows.*\[2, 9\)"):
        optimizers.treat((("table", Rows(start=2, stop=9)),), {"table": jnp.ones((4, 2))})
