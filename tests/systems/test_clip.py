"""CLIP: published sizes, closed forms of both objectives, the clamp, and what each tower may see."""

import dataclasses
import math
import os
import subprocess
import sys
from importlib import import_module

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pytest import approx
from small import CLIP_SYSTEM, batch, fresh, perturbed

from mmjax import config as configs
from mmjax.cli import parameters
from mmjax.errors import UserError
from mmjax.layers.resnet import TRACKED, BatchNorm, ResNetConfig
from mmjax.layers.vision import VisionConfig
from mmjax.objectives import contrastive
from mmjax.systems.system import System
from mmjax.training import optimizers, state, step

# Total, vision tower and, where there is batch normalisation, running moments: open_clip 3.3 instantiated.
PUBLISHED = {
    "clip": {
        "RN50": (102_007_137, 38_316_896, 53_248),
        "RN101": (119_688_033, 56_259_936, 105_472),
        "RN50x4": (178_300_601, 87_137_080, 109_760),
        "RN50x16": (290_979_217, 167_328_912, 193_920),
        "RN50x64": (623_258_305, 420_380_352, 410_624),
        "ViT-B/32": (151_277_313, 87_849_216),
        "ViT-B/16": (149_620_737, 86_192_640),
        "ViT-L/14": (427_616_513, 303_966_208),
        "ViT-L/14@336px": (427_944_193, 304_293_888),
        "ViT-L/14@336": (427_944_193, 304_293_888),
    },
    "openclip": {
        "ViT-B/32": (151_277_313, 87_849_216),
        "ViT-B/32-256": (151_288_833, 87_860_736),
        "ViT-B/16": (149_620_737, 86_192_640),
        "ViT-B/16-plus-240": (208_377_345, 117_213_824),
        "ViT-L/14": (427_616_513, 303_966_208),
        "ViT-H/14": (986_109_441, 632_076_800),
        "ViT-g/14": (1_366_678_273, 1_012_645_632),
        "ViT-bigG/14": (2_539_567_105, 1_844_907_264),
    },
    "siglip": {
        "B/16-224": (203_155_970, 92_884_224),
        "B/16-256": (203_202_050, 92_930_304),
        "B/16-384": (203_447_810, 93_176_064),
        "B/16-512": (203_791_874, 93_520_128),
        "L/16-256": (652_150_786, 315_956_224),
        "L/16-384": (652_478_466, 316_283_904),
        "So400m/14-224": (877_360_306, 427_680_704),
        "So400m/14-384": (877_960_498, 428_225_600),
        "B/16-256-i18n": (370_626_050, 92_930_304),
        "So400m/16-256-i18n": (1_127_430_706, 427_888_064),
    },
    "siglip2": {
        "B/32-256": (376_856_066, 94_552_320),
        "B/16-224": (375_187_970, 92_884_224),
        "B/16-256": (375_234_050, 92_930_304),
        "B/16-384": (375_479_810, 93_176_064),
        "B/16-512": (375_823_874, 93_520_128),
        "L/16-256": (881_526_786, 315_956_224),
        "L/16-384": (881_854_466, 316_283_904),
        "L/16-512": (882_313_218, 316_742_656),
        "So400m/14-224": (1_135_463_602, 427_680_704),
        "So400m/14-384": (1_136_008_498, 428_225_600),
        "So400m/16-256": (1_135_670_962, 427_888_064),
        "So400m/16-384": (1_136_039_602, 428_256_704),
        "So400m/16-512": (1_136_555_698, 428_772_800),
        "g-opt/16-256": (1_871_393_906, 1_163_168_256),
        "g-opt/16-384": (1_871_885_426, 1_163_659_776),
    },
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_published_sizes_are_exact(family):
    found = {}
    for size, system in import_module(f"mmjax.systems.sizes.{family}").SIZES.items():
        counts = parameters.count(system)
        scalars = sum(n for part, n in counts["parts"].items() if part not in ("visual", "text"))
        assert scalars == {"softmax": 1, "sigmoid": 2}[system.objective]
        statistics = (counts["statistics"],) if "statistics" in counts else ()
        found[size] = (counts["total"], counts["parts"]["visual"], *statistics)
    assert found == PUBLISHED[family]


def objective(name, first, second, *constants, chunk=None):
    total, count = getattr(contrastive, f"{name}_contrastive")(first, second, *constants, chunk=chunk)
    return total / count


@pytest.mark.parametrize("chunk", [None, 64])
def test_closed_forms_of_both_objectives_in_float64(chunk):
    def softplus(x):
        return math.log1p(math.exp(x))

    with jax.enable_x64(True):
        same = jnp.ones((512, 4)) / 2  # all logits equal
        assert float(objective("softmax", same, same, 1 / 0.07, chunk=chunk)) == approx(math.log(512), 1e-12)
        apart = jnp.eye(512)  # every pair matches perfectly
        expected = math.log1p(511 * math.exp(-5.0))
        assert float(objective("softmax", apart, apart, 5.0, chunk=chunk)) == approx(expected, 1e-12)
        assert float(objective("softmax", apart, apart, 100.0, chunk=chunk)) == approx(0.0, 1e-12)
        # All similarities zero, the matching ones included.
        expected = softplus(10.0) + 511 * softplus(-10.0)
        nothing = jnp.zeros((512, 4))
        assert float(objective("sigmoid", nothing, same, 10.0, -10.0, chunk=chunk)) == approx(expected, 1e-12)


@pytest.mark.parametrize(("name", "constants"), [("softmax", (20.0,)), ("sigmoid", (10.0, -10.0))])
def test_a_loss_in_chunks_is_the_loss(name, constants):
    first, second = np.random.default_rng(0).normal(size=(2, 24, 8)).astype(np.float32)
    arguments = (first / 3, second / 3, *map(jnp.float32, constants))

    def value_and_gradients(chunk):
        positions = tuple(range(len(arguments)))
        return jax.value_and_grad(lambda *a: objective(name, *a, chunk=chunk), positions)(*arguments)

    chex.assert_trees_all_close(value_and_gradients(8), value_and_gradients(None), rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="24 pairs does not split into chunks of 7"):
        value_and_gradients(7)


def test_scale_is_clamped_after_the_update():
    high = CLIP_SYSTEM.after_update({"logit_scale": jnp.float32(9.0)})
    np.testing.assert_allclose(jnp.exp(high["logit_scale"]), 100.0, rtol=1e-5)
    assert CLIP_SYSTEM.after_update({"logit_scale": jnp.float32(-1.0)})["logit_scale"] == 0.0


@pytest.fixture(scope="module")
def params():
    return perturbed(CLIP_SYSTEM)


encode_text, encode_image = jax.jit(CLIP_SYSTEM.encode_text), jax.jit(CLIP_SYSTEM.encode_image)


def test_nothing_after_the_end_of_text_counts(params):
    tokens = np.array([[1, 20, 21, 2, 0, 0, 0, 0, 0, 0, 0, 0]])
    other = tokens.copy()
    other[:, 4:] = 30
    np.testing.assert_array_equal(encode_text(params, tokens), encode_text(params, other))


def test_rows_do_not_depend_on_their_batch(params):
    image = batch(np.full((5, 12), 5))["image"]
    whole = encode_image(params, image)
    np.testing.assert_allclose(whole[3:4], encode_image(params, image[3:4]), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=-1), 1.0, rtol=1e-5)


def test_standardised_floats_equal_bytes(params):
    image = batch(np.full((5, 12), 5))["image"]
    floats = (image.astype(np.float32) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(encode_image(params, image), encode_image(params, floats), atol=1e-5)


@pytest.mark.parametrize("objective", ["softmax", "sigmoid"])
def test_both_objectives_train(objective):
    system = dataclasses.replace(CLIP_SYSTEM, objective=objective)
    tokens = np.random.default_rng(0).integers(4, 40, (6, 12))
    tokens[:, -1] = 2
    b = batch(tokens)

    def loss(params):
        terms, _ = system.loss(params, b, jax.random.key(0))
        return sum(w * s / c for w, s, c in terms.values())

    @jax.jit
    def step(params):
        value, gradient = jax.value_and_grad(loss)(params)
        return value, jax.tree.map(lambda x, g: x - 0.01 * g, params, gradient)

    first, params = step(fresh(system))
    for _ in range(10):
        last, params = step(params)
    assert last < first


@pytest.mark.parametrize("objective", ["softmax", "sigmoid"])
def test_the_loss_is_that_of_the_logits(params, objective):
    system = dataclasses.replace(CLIP_SYSTEM, objective=objective)
    bias = {"logit_bias": jnp.float32(-2.0)} if objective == "sigmoid" else {}
    b = batch(np.array([[1, 9, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0], [1, 8, 7, 2, 0, 0, 0, 0, 0, 0, 0, 0]]))
    image, text = encode_image(params, b["image"]), encode_text(params, b["tokens"])
    logits = np.asarray(system.logits(params | bias, image, text), np.float64)
    if objective == "softmax":
        p = [np.exp(z - z.max(1, keepdims=True)) for z in (logits, logits.T)]
        expected = -np.mean([np.log(np.diag(q / q.sum(1, keepdims=True))) for q in p])
    else:
        expected = np.log1p(np.exp((1 - 2 * np.eye(2)) * logits)).sum() / 2
    terms, _ = system.loss(params | bias, b, jax.random.key(0))
    _, total, count = terms["contrastive"]
    np.testing.assert_allclose(total / count, expected, rtol=1e-4)


def gradients(objective, accumulate, params, **form):
    """Gradient and metrics of a batch of 16 rows whose pictures and captions differ."""
    tokens = np.random.default_rng(0).integers(4, 40, (16, 12))
    tokens[:, -1] = 2
    system = dataclasses.replace(CLIP_SYSTEM, objective=objective, **form)
    bias = {"logit_bias": jnp.float32(-2.0)} if objective == "sigmoid" else {}
    function = jax.jit(step.make_gradients(system, accumulate=accumulate))
    return function(params | bias, {}, batch(tokens), jax.random.key(0))


@pytest.mark.parametrize("objective", ["softmax", "sigmoid"])
def test_microbatches_are_compared_with_all_of_the_batch(params, objective):
    gradient, metrics = gradients(objective, 1, params)
    parts, part_metrics = gradients(objective, 4, params)
    chex.assert_trees_all_close(parts, gradient, rtol=2e-4, atol=1e-5)
    chex.assert_trees_all_close(part_metrics, metrics, rtol=1e-5)
    for tower in ("vision", "text"):
        assert float(optax.tree.norm(gradient[tower])) > 0.01


ON_EIGHT_DEVICES = """
import chex, jax
from flax import linen as nn
from small import CLIP_SYSTEM, perturbed
from test_clip import gradients

params = perturbed(CLIP_SYSTEM)
alone = gradients("softmax", 1, params)
alone[1].pop("batch_accuracy")
mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
with jax.set_mesh(mesh), nn.logical_axis_rules([("batch", ("data", "fsdp"))]):
    ring = gradients("softmax", 2, params, ring=True)
chex.assert_trees_all_close(ring, alone, rtol=2e-4, atol=1e-5)
"""


def test_microbatches_on_a_ring_of_devices_are_compared_with_all_of_the_batch():
    environment = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": os.path.dirname(__file__),
    }
    command = [sys.executable, "-c", ON_EIGHT_DEVICES]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normalised(System):
    """One batch norm, which a CLIP with a residual tower has dozens of; parity sees those."""

    def init(self, key):
        return {"vision": BatchNorm().init(key, jnp.zeros((1, 1, 1, 3)))["params"]}

    def treatments(self):
        return dataclasses.replace(CLIP_SYSTEM, vision=RESNET).treatments()

    def loss(self, params, batch, key):
        y, tracked = BatchNorm().apply({"params": params["vision"]}, batch["x"], mutable=[TRACKED])
        shown = {TRACKED: {"vision": tracked[TRACKED]}}
        return {"loss": (1.0, jnp.sum(y**3), jnp.float32(y.size))}, shown


RESNET = ResNetConfig(image_size=32, depths=(1, 2, 1, 1), width=4, embedding=8)


def test_a_step_tracks_the_moments_of_the_batch_and_keeps_them_out_of_everything_else():
    system = Normalised()
    treatments = optimizers.treat(system.treatments(), state.abstract_params(system))
    config = optimizers.OptimizerConfig(warmup=0)
    optimizer = optimizers.make_optimizer(config, steps=9, treatments=treatments, axes={})
    before = state.create(system, optimizer, treatments, seed=0, ema=True)
    schedule = config.make_schedule(9)
    update = jax.jit(step.make_step(system, optimizer, treatments, schedule=schedule, accumulate=2, ema=0.9))
    x = 3 + 2 * np.random.default_rng(0).normal(size=(6, 2, 2, 3)).astype(np.float32)
    after, metrics = update(before, {"x": x})
    assert TRACKED not in metrics
    # Microbatches are the even and the odd rows.
    mean = np.mean([x[row::2].mean((0, 1, 2)) for row in (0, 1)], axis=0)
    var = np.mean([np.var(x[row::2], (0, 1, 2), ddof=1) for row in (0, 1)], axis=0)
    norm = after.params["vision"]
    np.testing.assert_allclose(norm["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm["var"], 0.9 + 0.1 * var, rtol=1e-5)
    assert np.all(norm["scale"] != before.params["vision"]["scale"])
    for tree in (after.ema, after.optimizer_state):
        names = {
            path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(tree) if hasattr(path[-1], "key")
        }
        assert names == {"scale", "bias"}
    broken, _ = update(after, {"x": np.full_like(x, np.nan)})
    chex.assert_trees_all_equal(broken.params, after.params)


def test_a_config_names_another_kind_of_vision_tower_with_call():
    config = configs.load("clip:tiny")
    assert isinstance(configs.system(config).vision, VisionConfig)
    resnet = {"call": "mmjax.layers.resnet.ResNetConfig", **dataclasses.asdict(RESNET)}
    config.model.vision = resnet
    stored = configs.from_json(configs.to_json(config))
    assert configs.system(stored).vision == RESNET
