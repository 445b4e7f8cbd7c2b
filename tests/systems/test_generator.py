"""The diffusion decoder and the composed generator: what conditions a picture, and what is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import DECODER, GENERATOR, SIZE, batch, fresh, perturbed

from mmjax.systems.diffusion_decoder import Denoiser
from mmjax.systems.system import FREEZE, Rows
from mmjax.training.optimizers import treat

TOKENS = [[1, 20, 2, 4, 5, 6, 7, 8, 9, 10, 11, 0], [1, 21, 2, 4, 5, 6, 7, 8, 9, 10, 11, 0]]


@pytest.fixture(scope="module")
def params():
    return perturbed(GENERATOR)


@pytest.fixture(scope="module")
def draw():
    def draw(params, b, guidance=2.0, seed=0):
        return GENERATOR.draw(
            params, b["tokens"], b["segment"], jax.random.key(seed), steps=3, guidance=guidance
        )

    return jax.jit(draw, static_argnames="guidance")


def test_the_denoiser_answers_zero_at_initialisation():
    params = fresh(DECODER)["denoiser"]
    x = jax.random.normal(jax.random.key(0), (2, SIZE, SIZE, 3))
    embedding = jax.random.normal(jax.random.key(1), (2, 8))
    out = Denoiser(DECODER.denoiser).apply(
        {"params": params}, x, jnp.full(2, 0.3), embedding, None, jnp.array([False, True])
    )
    assert out.shape == x.shape and not out.any()


def test_a_dropped_condition_is_invisible(params):
    denoiser = Denoiser(GENERATOR.decoder.denoiser)
    variables = {"params": params["decoder"]["denoiser"]}
    x = jax.random.normal(jax.random.key(0), (2, SIZE, SIZE, 3))
    denoise = jax.jit(lambda *condition: denoiser.apply(variables, x, jnp.full(2, 0.5), *condition))

    def run(seed, drop):
        embedding = jax.random.normal(jax.random.key(seed), (2, 8))
        context = jax.random.normal(jax.random.key(seed + 1), (2, 8, 24))
        return np.asarray(denoise(embedding, context, jnp.asarray(drop)))

    first, second = run(1, [True, False]), run(7, [True, False])
    np.testing.assert_array_equal(first[0], second[0])
    assert np.abs(first[1] - second[1]).max() > 1e-3


def test_pictures_are_pixels_and_follow_text_seed_and_guidance(params, draw):
    b = batch(TOKENS, media=1)
    picture = np.asarray(draw(params, b))
    assert picture.shape == (2, SIZE, SIZE, 3) and picture.min() >= 0 and picture.max() <= 1
    np.testing.assert_array_equal(picture, draw(params, b))
    assert np.abs(picture - draw(params, b, seed=1)).max() > 1e-3
    assert np.abs(picture - draw(params, b, guidance=1.0)).max() > 1e-3
    swapped = {name: array[::-1] for name, array in b.items()}
    assert np.abs(picture - np.asarray(draw(params, swapped))).max() > 1e-3


def test_the_first_row_does_not_depend_on_the_others(params, draw):
    b = batch(TOKENS, media=1)
    alone = {name: array[:1] for name, array in b.items()}
    np.testing.assert_allclose(draw(params, alone), np.asarray(draw(params, b))[:1], atol=1e-5)


def test_language_states_reach_the_picture(params):
    b = batch(TOKENS, media=1)
    _, context = jax.jit(GENERATOR.condition)(params, b["tokens"], b["segment"])
    assert context.shape == (2, 8, 24)
    assert np.abs(context[0] - context[1]).max() > 1e-3


def test_only_the_new_parts_are_trained():
    treatments = treat(GENERATOR.treatments(), jax.eval_shape(GENERATOR.init, jax.random.key(0)))
    by_path = {"/".join(path): treatment for path, treatment in treatments.items()}
    assert by_path.pop("flamingo/language/tokens/table") == Rows(start=4, stop=12)
    for path, treatment in by_path.items():
        assert (treatment == FREEZE) == path.startswith(("flamingo/", "decoder/clip/")), path


def test_missing_pictures_and_latents(params):
    b = batch(TOKENS, media=1)
    run = jax.jit(lambda b: GENERATOR.loss(params, b, jax.random.key(0))[0]["denoising"])
    whole = run(b)
    half = run({**b, "image_valid": np.array([[True], [False]])})
    assert (whole[2], half[2]) == (2, 1) and half[1] < whole[1]
    latent = (b["image"][:, 0].astype(np.float32) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(run({**b, "latent": latent})[1], whole[1], rtol=1e-5)
