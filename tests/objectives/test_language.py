"""The loss in chunks is the loss: values, gradients of states and of the output embedding, accuracy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.objectives.language import next_token

LENGTH, WIDTH, VOCABULARY = 10, 6, 17
RANDOM = np.random.default_rng(0)
STATES = RANDOM.standard_normal((3, LENGTH, WIDTH), np.float32)
KERNEL = RANDOM.standard_normal((WIDTH, VOCABULARY), np.float32)
TARGETS = RANDOM.integers(-1, VOCABULARY, (3, LENGTH))


def run(states=STATES, kernel=KERNEL, **settings):
    """((loss, (terms, outputs)), gradients) with soft-capped logits."""

    def loss(states, kernel):
        terms, outputs = next_token(
            lambda x: 5.0 * jnp.tanh(x @ kernel / 5.0), states, jnp.asarray(TARGETS), **settings
        )
        return sum(weight * total / count for weight, total, count in terms.values()), (terms, outputs)

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(states, kernel)


@pytest.mark.parametrize("chunk", [1, 4, 5, 99])
def test_chunks_change_nothing(chunk):
    settings = dict(z_loss=1e-2)
    chex.assert_trees_all_close(run(chunk=chunk, **settings), run(**settings), rtol=1e-5, atol=1e-6)


def test_the_terms_are_those_of_the_definition():
    (loss, (terms, outputs)), _ = run(z_loss=0.5)
    logits = 5.0 * np.tanh(STATES.astype(np.float64) @ KERNEL / 5.0)
    log_z = np.log(np.exp(logits).sum(-1))
    counted = TARGETS >= 0
    negative = (log_z - np.take_along_axis(logits, np.maximum(TARGETS, 0)[..., None], -1)[..., 0])[counted]
    np.testing.assert_allclose(terms["next_token"][1], negative.sum(), rtol=1e-5)
    np.testing.assert_allclose(loss, negative.mean() + 0.5 * np.square(log_z[counted]).mean(), rtol=1e-5)
    np.testing.assert_allclose(outputs["token_accuracy"], (logits.argmax(-1) == TARGETS)[counted].mean())


def test_of_equally_likely_tokens_the_first_is_the_prediction():
    targets = np.array([[0, 1, 2, -1]])
    outputs = next_token(lambda x: jnp.zeros((*x.shape[:2], 3)), np.zeros((1, 4, 2)), jnp.asarray(targets))[1]
    np.testing.assert_allclose(outputs["token_accuracy"], 1 / 3)


def test_the_chunked_loss_never_holds_all_logits():
    shapes = (
        jax.ShapeDtypeStruct((2, 4096, 8), jnp.float32),
        jax.ShapeDtypeStruct((8, 1024), jnp.float32),
    )

    def temporaries(chunk):
        def loss(states, kernel):
            targets = jnp.zeros(states.shape[:2], jnp.int32)
            return next_token(lambda x: x @ kernel, states, targets, chunk=chunk)[0]["next_token"][1]

        compiled = jax.jit(jax.grad(loss, (0, 1))).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(64) < temporaries(None) / 10
