"""The KL autoencoder: published sizes, its latents, its loss in closed form, and training."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict
from small import random_parameters
from train_tiny import run

from mmjax.cli.parameters import count
from mmjax.errors import UserError
from mmjax.objectives.reconstruction import absolute_error, divergence_from_normal
from mmjax.sharding.rules import PRESETS
from mmjax.systems import sizes
from mmjax.systems.autoencoder import Autoencoder
from mmjax.training import metrics

SMALL = Autoencoder(image_size=8, latent=2, width=4, multipliers=(1, 2), blocks=1, groups=2, scale=0.5)
IMAGE = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8, 3), np.uint8)


quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def params():
    return random_parameters(SMALL, scale=0.1)


@pytest.mark.parametrize(("size", "total", "coders"), [
    ("f8", 83_653_863, (34_163_592, 49_490_179)),
    ("f4", 55_312_063, None),
])  # fmt: skip
def test_published_sizes_are_exact(size, total, coders):
    system = sizes.load("kl_autoencoder", size)
    counts = count(system)
    assert counts["total"] == total
    if coders:
        assert (counts["parts"]["encoder"], counts["parts"]["decoder"]) == coders
    boxed = jax.eval_shape(system.init, jax.random.key(0))
    mesh = {"data": 1, "fsdp": 8, "tensor": 4, "sequence": 1}
    for path, box in flatten_dict(boxed).items():  # every axis has a name that the rules divide
        assert isinstance(box, nn.LogicallyPartitioned), path
        PRESETS["fsdp_tensor"].spec(box.get_partition_spec(), box.unbox().shape, mesh, "/".join(path))


def test_dits_latents_are_those_of_f8():
    assert sizes.load("kl_autoencoder", "f8").latent_shape == sizes.load("dit", "XL/2").denoiser.shape


def test_latents_are_scaled_outside_of_the_networks(params):
    @quickly
    def both(params):
        mean, log_variance = SMALL.moments(params, jnp.asarray(IMAGE[:, 0] / 127.5 - 1, jnp.float32))
        latent = SMALL.encode(params, IMAGE)
        keys = jax.random.split(jax.random.key(0), 500)
        draws = jax.vmap(lambda key: SMALL.encode(params, IMAGE, key))(keys)
        plain = SMALL.module.apply({"params": params}, mean, method="decode")
        return mean, log_variance, latent, draws, SMALL.decode(params, latent), plain

    mean, log_variance, latent, draws, back, plain = both(params)
    assert latent.shape == (3, *SMALL.latent_shape) == (3, 4, 4, 2)
    np.testing.assert_allclose(latent, 0.5 * mean, rtol=1e-4, atol=1e-5)
    deviation = 0.5 * np.exp(0.5 * log_variance)
    np.testing.assert_allclose(draws.mean(0), latent, atol=5 * deviation.max() / 500**0.5)
    np.testing.assert_allclose(draws.std(0), deviation, rtol=0.2)
    assert back.shape == (3, 8, 8, 3)
    np.testing.assert_allclose(back, plain, rtol=1e-3, atol=1e-4)


def test_log_variances_are_bounded(params):
    bias = jnp.array([0.0, 0.0, 1e3, -1e3])
    extreme = {**params, "to_moments": {**params["to_moments"], "bias": bias}}
    _, log_variance = quickly(SMALL.moments)(extreme, jnp.zeros((1, 8, 8, 3)))
    np.testing.assert_array_equal(log_variance[0, 0, 0], [20.0, -30.0])


def test_terms_are_sums_over_a_picture_of_valid_rows():
    valid = jnp.array([True, True, False])
    error, count = absolute_error(
        jnp.full((3, 2, 2, 3), 0.5).at[2].set(jnp.nan), jnp.zeros((3, 2, 2, 3)), valid=valid
    )
    np.testing.assert_allclose([error, count], [2 * 12 * 0.5, 2])
    mean, log_variance = jnp.ones((3, 2)).at[2].set(jnp.nan), jnp.full((3, 2), jnp.log(4.0))
    divergence, _ = divergence_from_normal(mean, log_variance, valid=valid)
    np.testing.assert_allclose(divergence, 2 * 2 * 0.5 * (1 + 4 - 1 - np.log(4)), rtol=1e-6)
    gradient = jax.grad(lambda m: divergence_from_normal(m, log_variance, valid=valid)[0])(mean)
    np.testing.assert_allclose(gradient, [[1, 1], [1, 1], [0, 0]])


def test_sizes_that_do_not_divide_are_a_mistake():
    with pytest.raises(UserError, match="multiple of 2"):
        dataclasses.replace(SMALL, image_size=9)


@pytest.mark.slow
def test_the_tiny_config_learns_to_reconstruct(tiny_world, tmp_path):
    run("autoencoder", tiny_world, tmp_path, "--config.training.steps=8")
    losses = [line["reconstruction"] for line in metrics.read(tmp_path / "metrics.jsonl")]
    assert losses[-1] < 0.9 * losses[0]
