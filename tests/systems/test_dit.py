"""DiT: published sizes and their cost, what it answers at initialisation, and what its terms train."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict
from small import fresh, random_parameters
from train_tiny import run

from mmjax.cli.parameters import count
from mmjax.diffusion.denoiser import DenoiserConfig
from mmjax.diffusion.guidance import Guidance
from mmjax.diffusion.process import GaussianDiffusion
from mmjax.diffusion.samplers import DDIM
from mmjax.errors import UserError
from mmjax.flops import multiply_adds
from mmjax.layers.transformer import TransformerConfig
from mmjax.sharding.rules import PRESETS
from mmjax.systems import sizes
from mmjax.systems.autoencoder import Autoencoder
from mmjax.systems.dit import DiT
from mmjax.systems.sizes.dit import SIZES
from mmjax.systems.system import FREEZE
from mmjax.training import metrics
from mmjax.training.optimizers import treat

PUBLISHED = {  # trainable parameters, GMACs (which the paper's table calls Gflops)
    "S/8": (33_142_016, 0.36),
    "S/4": (32_920_448, 1.41),
    "S/2": (32_865_056, 6.06),
    "B/8": (None, 1.42),
    "B/4": (130_426_496, 5.56),
    "B/2": (130_315_808, 23.01),
    "L/8": (458_578_432, 5.01),
    "L/4": (None, 19.70),
    "L/2": (457_840_672, 80.71),
    "XL/8": (675_664_640, 7.39),
    "XL/4": (675_000_704, 29.05),
    "XL/2": (674_834_720, 118.64),
    "XL/2-512": (674_834_720, 524.60),
}
STACKS = {"S": (12, 384), "B": (12, 768), "L": (24, 1024), "XL": (28, 1152)}
SMALL = DiT(
    denoiser=DenoiserConfig(
        image_size=8,
        patch=2,
        channels=4,
        classes=5,
        transformer=TransformerConfig(depth=1, width=16, heads=2, epsilon=1e-6),
    )
)
BATCH = {
    "latent": np.random.default_rng(0).normal(size=(6, 8, 8, 4)).astype(np.float32),
    "label": np.array([0, 1, 2, 3, 4, 0], np.int32),
}


quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def params():
    return random_parameters(SMALL)


def test_every_published_size_is_there():
    assert set(SIZES) == set(PUBLISHED)


@pytest.mark.parametrize("size", PUBLISHED)
def test_parameters_and_cost_are_the_published_ones(size):
    system = sizes.load("dit", size)
    (depth, d), patch = STACKS[size.split("/")[0]], int(size.split("/")[1][0])
    # Patches and output; time and class; blocks with their modulation; the last modulation.
    expected = patch**2 * 4 * d + d + (d + 1) * patch**2 * 8
    expected += 256 * d + d + d * d + d + 1001 * d
    expected += depth * (12 * d * d + 9 * d + 6 * d * d + 6 * d) + 2 * d * d + 2 * d
    total, gmacs = PUBLISHED[size]
    assert expected == (total or expected)
    boxed = jax.eval_shape(system.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(nn.meta.unbox(boxed))) == expected

    def forward(params, x, time, label, drop):
        return system.denoise(params, x, time, (label, drop))

    shapes = [(system.denoiser.shape, "float32"), ((), "float32"), ((), "int32"), ((), "bool")]
    inputs = [jax.ShapeDtypeStruct((1, *shape), dtype) for shape, dtype in shapes]
    macs = multiply_adds(forward, nn.meta.unbox(boxed), *inputs)
    np.testing.assert_allclose(macs / 1e9, gmacs, atol=0.1 if size == "XL/2-512" else 0.02)

    mesh = {"data": 1, "fsdp": 8, "tensor": 2, "sequence": 1}
    for path, box in flatten_dict(boxed).items():  # every axis has a name that the rules divide
        PRESETS["fsdp_tensor"].spec(box.get_partition_spec(), box.unbox().shape, mesh, "/".join(path))


def test_the_counting_command_knows_the_size():
    counts = count(sizes.load("dit", "B/8"))
    assert counts["total"] == counts["parts"]["denoiser"] == 130_869_248


def test_at_initialisation_it_answers_zero_and_loses_the_variance_of_the_noise():
    params, x = fresh(SMALL), BATCH["latent"]
    condition = BATCH["label"], np.zeros(6, bool)
    answer = quickly(SMALL.denoise)(params, x, jnp.full(6, 0.5), condition)
    assert answer.shape == (6, 8, 8, 8) and not answer.any()
    batch = {"latent": np.zeros((400, 8, 8, 4), np.float32), "label": np.zeros(400, np.int32)}
    loss = quickly(lambda params: SMALL.loss(params, batch, jax.random.key(1))[0]["denoising"])
    _, total, rows = loss(params)
    deviation = (2 / (400 * 8 * 8 * 4)) ** 0.5  # of a mean of so many squared normals
    np.testing.assert_allclose(total / rows, 1, atol=5 * deviation)


def test_the_bound_trains_the_variance_alone(params):
    def losses(bias):
        output = {**params["denoiser"]["output"], "bias": bias}
        terms, _ = SMALL.loss(
            {"denoiser": {**params["denoiser"], "output": output}}, BATCH, jax.random.key(2)
        )
        return jnp.stack([terms[name][1] for name in ("bound", "denoising")])

    jacobian = quickly(jax.jacrev(losses))(params["denoiser"]["output"]["bias"])
    bound, simple = np.asarray(jacobian).reshape(2, 4, 8)
    assert not bound[:, :4].any() and bound[:, 4:].any()
    assert simple[:, :4].any() and not simple[:, 4:].any()


def test_the_bound_is_the_sum_over_all_steps(params):
    """Written out in float64 from the papers' formulas, for the times and noise that the loss draws."""

    @quickly
    def evaluate(params, key):
        corrupt_key, drop_key, _ = jax.random.split(key, 3)
        noisy = SMALL.process.corrupt(corrupt_key, BATCH["latent"])
        drop = jax.random.bernoulli(drop_key, 0.1, (6,))
        answer = SMALL.denoise(params, noisy.x_t, noisy.time, (BATCH["label"], drop))
        return SMALL.loss(params, BATCH, key)[0]["bound"][1:], noisy, answer

    (total, rows), noisy, answer = evaluate(params, jax.random.key(3))
    eps, v = np.split(np.asarray(answer, np.float64), 2, axis=-1)
    beta = np.linspace(1e-4, 0.02, 1000)
    alpha_bar = np.cumprod(1 - beta)
    bits = []
    for row in range(6):
        n = round(float(noisy.time[row]) * 1000)
        assert n > 0  # the first step has a likelihood instead, tested elsewhere
        x0, true = BATCH["latent"][row], np.asarray(noisy.eps[row], np.float64)
        before, now = alpha_bar[n - 1], alpha_bar[n]
        small = beta[n] * (1 - before) / (1 - now)
        fraction = (v[row] + 1) / 2
        log_variance = fraction * np.log(beta[n]) + (1 - fraction) * np.log(small)
        x_t = np.sqrt(now) * x0 + np.sqrt(1 - now) * true
        guess = (x_t - np.sqrt(1 - now) * eps[row]) / np.sqrt(now)
        distance = (np.sqrt(before) * beta[n] / (1 - now) * (guess - x0)) ** 2
        kl = 0.5 * (log_variance - np.log(small) - 1 + (small + distance) / np.exp(log_variance))
        bits.append(1000 * kl.mean() / np.log(2))
    np.testing.assert_allclose([total, rows], [np.sum(bits), 6], rtol=1e-3)


def test_labels_are_rows_and_dropped_ones_the_last(params):
    x, time = BATCH["latent"][:2], jnp.full(2, 0.4)

    @quickly
    def answer(label, drop):
        return SMALL.denoise(params, x, time, (jnp.array(label), jnp.array(drop)))

    plain = answer([1, 2], [False, False])
    assert np.abs(plain - answer([3, 2], [False, False]))[0].max() > 1e-4
    np.testing.assert_array_equal(answer([1, 2], [True, False]), answer([5, 2], [False, False]))
    np.testing.assert_array_equal(answer([1, 2], [True, False])[1], plain[1])


def test_pictures_of_a_class(params):
    @functools.partial(quickly, static_argnums=1)
    def draw(params, guidance):
        system = dataclasses.replace(SMALL, guidance=guidance)
        label, key = jnp.array([0, 3]), jax.random.key(4)
        return system.sample(params, label, key, steps=2, guidance=4.0), system.draw_class(
            params, label, key, steps=2, guidance=4.0
        )

    latent, pictures = draw(params, Guidance())
    np.testing.assert_allclose(pictures, np.clip((latent + 1) / 2, 0, 1), atol=1e-6)
    public, _ = draw(params, Guidance(channels=3))  # as the public code guides: the fourth channel is not
    assert np.abs(latent - public)[..., 3].max() > 1e-3


def test_with_an_autoencoder_it_draws_from_pixels_to_pixels():
    small = Autoencoder(image_size=8, latent=4, width=4, multipliers=(1,), blocks=1, groups=2, scale=2.0)
    system = dataclasses.replace(SMALL, autoencoder=small, process=GaussianDiffusion(), sampler=DDIM())
    params = random_parameters(system, scale=0.05)
    treatments = treat(system.treatments(), params)
    assert {path[0] for path, treatment in treatments.items() if treatment == FREEZE} == {"autoencoder"}
    image = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8, 3), np.uint8)
    valid, label = np.array([[True], [False]]), np.array([1, 2])

    @quickly
    def both(params):
        key = jax.random.key(0)
        latent = small.encode(params["autoencoder"], image, jax.random.split(key, 3)[2])
        batches = {"image": image}, {"latent": latent}
        losses = [system.loss(params, b | dict(image_valid=valid, label=label), key)[0] for b in batches]
        return losses, system.draw_class(params, label, key, steps=2, guidance=1.5)

    (of_pictures, of_latents), drawn = both(params)
    np.testing.assert_allclose(of_pictures["denoising"], of_latents["denoising"], rtol=1e-5)
    assert of_pictures["denoising"][2] == 1 and "bound" not in of_pictures
    assert drawn.shape == (2, 8, 8, 3)
    with pytest.raises(UserError, match="latents of model"):
        dataclasses.replace(system, autoencoder=dataclasses.replace(small, latent=3))


def test_a_batch_without_classes_is_a_mistake(params):
    with pytest.raises(UserError, match="set model"):
        SMALL.loss(params, {"latent": BATCH["latent"]}, jax.random.key(0))


@pytest.mark.slow
def test_the_tiny_config_trains(tiny_world, tmp_path):
    run("dit", tiny_world, tmp_path, "--config.training.steps=8")
    losses = [line["bound"] for line in metrics.read(tmp_path / "metrics.jsonl")]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
