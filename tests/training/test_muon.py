"""Muon: orthogonal updates, matrix by matrix, of the size of Adam's; Adam for what is no matrix."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from mmjax.systems.system import TRAIN
from mmjax.training import optimizers
from mmjax.training.optimizers import OptimizerConfig

ADAM = OptimizerConfig(learning_rate=1.0, warmup=0, schedule="constant", weight_decay=0.0, clip_norm=0.0)
MUON = dataclasses.replace(ADAM, method="muon")
AXES = {
    ("stack", "up", "kernel"): ("layers", "embed", "mlp"),
    ("stack", "query", "kernel"): ("layers", "embed", "heads", "head_dim"),
    ("stack", "output", "kernel"): ("layers", "heads", "head_dim", "embed"),
    ("stack", "up", "bias"): ("layers", "mlp"),
    ("table",): ("vocab", "embed"),
}
SHAPES = dict(zip(AXES, [(2, 8, 12), (2, 8, 3, 4), (2, 3, 4, 8), (2, 12), (16, 8)], strict=True))


def first_update(config, gradients):
    params = jax.tree.map(jnp.zeros_like, gradients)
    treatments = optimizers.treat(((".*", TRAIN),), params)
    optimizer = optimizers.make_optimizer(config, steps=10, treatments=treatments, axes=AXES)
    return flatten_dict(optimizer.update(gradients, optimizer.init(params), params)[0])


@pytest.fixture(scope="module")
def gradients():
    rng = np.random.default_rng(0)
    return unflatten_dict({path: jnp.asarray(rng.normal(size=s), jnp.float32) for path, s in SHAPES.items()})


def test_every_layer_and_head_is_orthogonalised_by_itself(gradients):
    updates = first_update(MUON, gradients)
    matrices = [
        *updates[("stack", "up", "kernel")],
        *jnp.moveaxis(updates[("stack", "query", "kernel")], 2, 1).reshape(6, 8, 4),
        *updates[("stack", "output", "kernel")].reshape(6, 4, 8),
    ]
    raw = flatten_dict(gradients)
    sources = [
        *raw[("stack", "up", "kernel")],
        *jnp.moveaxis(raw[("stack", "query", "kernel")], 2, 1).reshape(6, 8, 4),
        *raw[("stack", "output", "kernel")].reshape(6, 4, 8),
    ]
    for update, source in zip(matrices, sources, strict=True):
        size = 0.2 * max(update.shape) ** 0.5
        left, _, right = np.linalg.svd(source, full_matrices=False)
        inside = (
            left.T @ np.asarray(-update / size) @ right.T
        )  # diagonal: the singular vectors are the gradient's
        np.testing.assert_allclose(inside, np.diag(np.diag(inside)), atol=1e-4)
        assert (np.diag(inside) > 0.5).all() and (np.diag(inside) < 1.5).all()


def test_what_is_no_matrix_gets_adam(gradients):
    adam, muon = first_update(ADAM, gradients), first_update(MUON, gradients)
    for path in (("stack", "up", "bias"), ("table",)):
        np.testing.assert_array_equal(adam[path], muon[path])
    assert (adam[("stack", "up", "kernel")] != muon[("stack", "up", "kernel")]).any()
