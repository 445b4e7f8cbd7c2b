"""Starting from other checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_run import run

from mmjax.errors import UserError
from mmjax.training.checkpoints import Checkpoints, Source, initialize, load_params
from mmjax.training.optimizers import OptimizerConfig
from mmjax.training.state import TrainState


def save(workdir, params, *, ema=None):
    """A checkpoint of parameters alone."""
    state = TrainState(
        step=jnp.int32(1),
        params=params,
        optimizer_state=(),
        ema=ema,
        key=jax.random.key(0),
        healthy=jnp.bool_(True),
    )
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(1, state, data={"step": 1}, run={})


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("source")
    stack = {"kernel": jnp.arange(24.0).reshape(6, 4), "bias": jnp.arange(6.0)}
    save(workdir, {"vision": {"stack": stack, "pool": jnp.ones(3)}, "scale": jnp.float32(7)})
    return workdir


def test_a_run_starts_from_a_subtree_of_another_and_its_ema_does_too(tmp_path):
    run(tmp_path / "first", steps=3)
    pretrained = load_params(tmp_path / "first")
    line = f"up={tmp_path / 'first'}:up"
    seen = {}

    def evaluate(step, params):
        seen[step] = jax.tree.map(np.asarray, params)
        return {}

    # Updates of rate 0 leave what the run started from.
    still = OptimizerConfig(learning_rate=0.0, schedule="constant")
    settings = dict(steps=1, evaluate_every=1, evaluate=evaluate, seed=9, optimizer=still)
    state = run(tmp_path / "second", initialize=(line,), **settings)
    assert np.array_equal(state.params["up"]["kernel"], pretrained["up"]["kernel"])
    assert np.array_equal(seen[1]["up"]["kernel"], pretrained["up"]["kernel"])  # the EMA
    assert not np.array_equal(state.params["head"]["kernel"], pretrained["head"]["kernel"])


def test_layers_stacked_one_way_fill_layers_stacked_in_groups(source):
    target = {"tower": {"kernel": jnp.zeros((2, 3, 4)), "bias": jnp.zeros((3, 2))}}
    filled = initialize(target, [f"tower={source}:vision/stack"])
    np.testing.assert_array_equal(filled["tower"]["kernel"], np.arange(24.0).reshape(2, 3, 4))
    np.testing.assert_array_equal(filled["tower"]["bias"], np.arange(6.0).reshape(3, 2))


def test_one_array_and_the_whole_tree_can_be_named(source):
    assert initialize({"a": {"scale": jnp.zeros(())}}, [f"a/scale={source}:scale"])["a"]["scale"] == 7
    whole = load_params(source)
    assert jax.tree.map(
        np.shape, initialize(jax.tree.map(jnp.zeros_like, whole), [f"={source}"])
    ) == jax.tree.map(np.shape, whole)


def test_values_take_the_type_of_the_target(source):
    filled = initialize({"scale": jnp.zeros((), jnp.bfloat16)}, [f"scale={source}:scale"])
    assert filled["scale"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("target", "prefix", "sentence"),
    [
        ({"kernel": jnp.zeros((5, 4))}, "vision/stack", r"tower': kernel is \[6, 4\] and should be \[5, 4\]"),
        ({"kernel": jnp.zeros((2, 2, 4))}, "vision/stack", r"kernel is \[6, 4\] and should be \[2, 2, 4\]"),
        ({"gate": jnp.zeros(2)}, "vision/stack", "tower': gate is missing"),
        ({"kernel": jnp.zeros((6, 4))}, "vison", "no parameters under 'vison'; it has scale, vision"),
    ],
)
def test_what_does_not_fit_is_told_by_path(source, target, prefix, sentence):
    with pytest.raises(UserError, match=sentence):
        initialize({"tower": target}, [f"tower={source}:{prefix}"])


def test_a_target_that_the_model_lacks_and_a_missing_checkpoint_are_errors(source, tmp_path):
    with pytest.raises(UserError, match="the model has no parameters under 'towre'"):
        initialize({"tower": jnp.zeros(2)}, [f"towre={source}"])
    with pytest.raises(UserError, match="there is no checkpoint in"):
        initialize({"tower": jnp.zeros(2)}, [f"tower={tmp_path}"])


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("a/b=runs/x:c/d", ("a/b", "runs/x", "c/d")),
        ("a=runs/x", ("a", "runs/x", "")),
        ("=gs://bucket/run", ("", "gs://bucket/run", "")),
        ("a=gs://bucket/run:vision", ("a", "gs://bucket/run", "vision")),
    ],
)
def test_lines_of_initialize(line, parsed):
    assert Source.parse(line) == Source(target=parsed[0], directory=parsed[1], prefix=parsed[2])


def test_a_line_without_a_directory_is_an_error():
    with pytest.raises(UserError, match="'vision' is not of the form"):
        Source.parse("vision")
