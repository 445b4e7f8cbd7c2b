"""Preference losses against their published values at the start, hand-made values and identities."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.objectives import preference

NOTHING = jnp.zeros(3)
CHOSEN, REJECTED = jnp.array([1.5, -2.0]), jnp.array([0.5, -1.0])  # differences 1 and -1


def mean(loss):
    total, count = loss
    return float(total / count)


def test_hand_made_values():
    softplus = math.log1p(math.exp(-0.5)), math.log1p(math.exp(0.5))
    np.testing.assert_allclose(mean(preference.dpo(CHOSEN, REJECTED, beta=0.5)), sum(softplus) / 2, rtol=1e-6)
    np.testing.assert_allclose(mean(preference.ipo(CHOSEN, REJECTED, beta=0.5)), (0**2 + 2**2) / 2, rtol=1e-6)
    np.testing.assert_allclose(mean(preference.hinge(CHOSEN, REJECTED, beta=2.0)), (0 + 3) / 2, rtol=1e-6)
    simpo = mean(preference.simpo(CHOSEN, REJECTED, beta=2.0, gamma=1.0))
    np.testing.assert_allclose(simpo, (math.log1p(math.exp(-1)) + math.log1p(math.exp(3))) / 2, rtol=1e-6)


def test_smoothing_mixes_both_orders():
    right, wrong = (preference.dpo(*pair, beta=1.0)[0] for pair in ((CHOSEN, REJECTED), (REJECTED, CHOSEN)))
    smoothed = preference.dpo(CHOSEN, REJECTED, beta=1.0, smoothing=0.25)[0]
    np.testing.assert_allclose(smoothed, 0.75 * right + 0.25 * wrong, rtol=1e-6)


@pytest.mark.parametrize("loss", [preference.dpo, preference.ipo, preference.hinge])
def test_descending_prefers_the_chosen_answer(loss):
    chosen, rejected = jax.grad(lambda a, b: loss(a, b, beta=0.1)[0], (0, 1))(NOTHING, NOTHING)
    assert (chosen < 0).all()
    np.testing.assert_allclose(chosen, -rejected)


def test_corrected_segments_count_more():
    log_probabilities = jnp.array([[-9.0, -1.0, -2.0, -4.0, -9.0]])
    is_answer = jnp.array([[False, True, True, True, False]])
    is_corrected = jnp.array([[True, False, True, False, True]])  # those outside the answer must not count
    score = preference.corrected_score(log_probabilities, is_answer, is_corrected, weight=5.0)
    np.testing.assert_allclose(score, [(-1 - 4 + 5 * -2) / (2 + 5)], rtol=1e-6)
