"""CLIP: published sizes, closed forms of both objectives, the clamp, and what each tower may see."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from small import CLIP_SYSTEM, batch, fresh, perturbed

from mmjax.objectives.contrastive import sigmoid_contrastive, softmax_contrastive
from mmjax.systems import sizes


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("ViT-B/32", 151_277_313),
        ("ViT-B/16", 149_620_737),
        ("ViT-L/14", 427_616_513),
        ("ViT-L/14@336", 427_944_193),
    ],
)
def test_published_sizes_are_exact(size, parameters):
    shapes = nn.meta.unbox(jax.eval_shape(sizes.load("clip", size).init, jax.random.key(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


def test_softmax_loss_of_equal_logits_is_log_n():
    same = jnp.ones((512, 4)) / 2
    total, count = softmax_contrastive(same, same, jnp.float32(1 / 0.07))
    np.testing.assert_allclose(total / count, 6.2383246, rtol=1e-6)


@pytest.mark.parametrize(("pairs", "expected"), [(2, 10.0000908), (512, 10.0232442)])
def test_sigmoid_loss_of_orthogonal_embeddings(pairs, expected):
    # All similarities 0, the matching ones included.
    first, second = jnp.zeros((pairs, 3)), jnp.zeros((pairs, 3))
    total, count = sigmoid_contrastive(first, second, jnp.float32(10.0), jnp.float32(-10.0))
    np.testing.assert_allclose(total / count, expected, rtol=1e-6)


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
