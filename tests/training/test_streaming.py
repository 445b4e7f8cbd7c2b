"""Checkpoints written and read a piece at a time."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from mmjax.training import streaming
from mmjax.training.checkpoints import Checkpoints, load_params, load_run
from mmjax.training.state import TrainState
from mmjax.training.streaming import Leaves

LEAVES = {
    ("stack", "layers", "kernel"): (np.arange(2 * 3 * 5 * 2.0, dtype=np.float32).reshape(2, 3, 5, 2), 2),
    ("stack", "layers", "bias"): (np.zeros((4, 3), np.float32), 1),  # zeros are stored too
    ("table",): (np.arange(7 * 4).reshape(7, 4).astype(ml_dtypes.bfloat16), 0),
    ("scale",): (np.array(3, np.float32), 0),
    ("many",): (np.arange(4, dtype=np.float32), 1),
}


@pytest.fixture(params=[1 << 24, 16], ids=["whole", "in_parts"])
def workdir(request, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK_BYTES", request.param)
    leaves = Leaves.lay_out(tmp_path / "w", {path: v.dtype for path, (v, _) in LEAVES.items()}, {"x": [1]})
    for path, (value, stacked) in LEAVES.items():
        layers = iter(value.reshape(-1, *value.shape[stacked:]))
        leaves.write(path, layers, shape=value.shape, stacked=stacked)
    return tmp_path / "w"


def test_every_reader_reads_it(workdir):
    assert load_run(workdir) == {"x": [1]}
    found = load_params(workdir)
    kernel = LEAVES["stack", "layers", "kernel"][0]
    np.testing.assert_array_equal(found["stack"]["layers"]["kernel"], kernel)
    np.testing.assert_array_equal(found["stack"]["layers"]["bias"], np.zeros((4, 3)))
    assert found["table"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found["table"], LEAVES["table",][0])
    assert found["scale"] == 3 and load_params(workdir, "scale") == 3


def test_layers_come_back_in_order(workdir):
    leaves = Leaves.open(workdir)
    shapes = leaves.shapes()
    for path, (value, stacked) in LEAVES.items():
        assert shapes[path].shape == value.shape and shapes[path].dtype == value.dtype
        layers = list(leaves.read(path, stacked=stacked))
        assert all(layer.shape == value.shape[stacked:] for layer in layers)
        np.testing.assert_array_equal(np.stack(layers).reshape(value.shape), value)


def test_a_layer_too_few_is_an_error(workdir):
    leaves = Leaves.open(workdir)
    with pytest.raises(ValueError, match="3 layers of 4"):
        leaves.write(("many",), iter(np.ones(3, np.float32)), shape=(4,), stacked=1)


def test_averages_are_read_in_place_of_parameters(tmp_path):
    state = TrainState(
        step=jnp.int32(1),
        params={"kernel": jnp.arange(6.0).reshape(3, 2), "frozen": jnp.ones(2)},
        optimizer_state=(),
        ema={"kernel": -jnp.arange(6.0).reshape(3, 2)},
        key=jax.random.key(0),
        healthy=jnp.bool_(True),
    )
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, data={}, run={})
    leaves = Leaves.open(tmp_path)
    assert leaves.kinds == {("kernel",): "ema", ("frozen",): "params"}
    assert [list(row) for row in leaves.read(("kernel",), stacked=1)] == [[0, -1], [-2, -3], [-4, -5]]
