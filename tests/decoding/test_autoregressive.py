"""The decoding loop with a decoder whose next token is known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.decoding.autoregressive import choose, forbid, generate, top_k, top_p

PAD, STOP, VOCABULARY = 0, 2, 8
KEY = jax.random.key(0)


def counting(start):
    """A decoder that counts up from `start` int[B], one by one."""

    def logits(token):
        return 5.0 * jax.nn.one_hot((token + 1) % VOCABULARY, VOCABULARY)

    def advance(state, token):
        return state + 1, logits(token)

    return advance, jnp.int32(0), logits(jnp.asarray(start))


def test_a_row_ends_with_the_stop_token_and_then_padding():
    tokens = generate(*counting([0, 3, 6]), KEY, length=5, stop=STOP, pad=PAD)
    np.testing.assert_array_equal(tokens, [[1, 2, 0, 0, 0], [4, 5, 6, 7, 0], [7, 0, 1, 2, 0]])


def test_the_loop_ends_when_every_row_has():
    calls = []

    def advance(state, token):
        jax.debug.callback(lambda: calls.append(1))
        return state, 5.0 * jax.nn.one_hot(jnp.full_like(token, STOP), VOCABULARY)

    _, state, logits = counting([1, 1])
    jax.block_until_ready(generate(advance, state, logits, KEY, length=100, stop=STOP, pad=PAD))
    jax.effects_barrier()
    assert len(calls) == 1


def test_processors():
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
    np.testing.assert_array_equal(jnp.isfinite(forbid([0, 2])(logits)), [[False, True, False, True]])
    np.testing.assert_array_equal(jnp.isfinite(top_k(2)(logits)), [[True, True, False, False]])
    np.testing.assert_array_equal(jnp.isfinite(top_p(0.5)(logits)), [[True, False, False, False]])
    np.testing.assert_array_equal(jnp.isfinite(top_p(0.6)(logits)), [[True, True, False, False]])
    tokens = generate(*counting([0]), KEY, length=2, stop=STOP, pad=PAD, processors=[forbid([1])])
    assert 1 not in np.asarray(tokens)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_does_not_depend_on_the_rows_behind_it(temperature):
    logits = jax.random.normal(KEY, (6, VOCABULARY))
    np.testing.assert_array_equal(choose(logits, KEY, temperature)[:2], choose(logits[:2], KEY, temperature))


def test_sampling_follows_the_probabilities():
    logits = jnp.tile(jnp.log(jnp.array([0.7, 0.2, 0.1])), (4000, 1))
    shares = np.bincount(choose(logits, KEY, 1.0), minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.03)
    cold = np.bincount(choose(logits, KEY, 0.1), minlength=3) / 4000
    assert cold[0] > 0.99
