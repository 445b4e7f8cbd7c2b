"""Guidance: what is leaned away from, in which channels and when."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.diffusion.guidance import Guidance
from mmjax.diffusion.process import FlowMatching
from mmjax.diffusion.samplers import Euler
from mmjax.errors import UserError

X, TIME = jnp.array([[1.0], [-1.0]]), jnp.array([0.25, 0.5])


def test_guidance_is_one_call_on_twice_the_rows():
    rows = []

    def denoise(x, time, condition):
        rows.append((x.shape[0], time.shape[0]))
        return x * time[:, None] + condition["c"]

    condition, null = {"c": jnp.array([[1.0], [2.0]])}, {"c": jnp.array([[0.5]])}
    expected = {1.0: [[1.25], [1.5]], 3.0: [[0.75 + 3 * 0.5], [0.0 + 3 * 1.5]], 0.0: [[0.75], [0.0]]}
    for scale, answer in expected.items():
        np.testing.assert_allclose(Guidance()(denoise, condition, null, scale=scale)(X, TIME), answer)
    assert rows == [(2, 2), (4, 4), (4, 4)]


def answers(x, time, condition):
    """Four channels of a prediction and four of a variance, none like another."""
    return jnp.concatenate([x, 2 * x], axis=-1) * condition[:, None] + jnp.arange(8.0)


@pytest.mark.parametrize("channels", [None, 3])
def test_only_the_first_channels_are_guided(channels):
    """None: all of the prediction. 3: DiT's `forward_with_cfg`, written out; the variance is never guided."""
    x = jax.random.normal(jax.random.key(0), (2, 4))
    condition, null = jnp.array([1.0, 2.0]), jnp.array([0.5, 0.5])
    got = Guidance(channels=channels)(answers, condition, null, scale=4.0)(x, TIME)
    conditional, unconditional = answers(x, TIME, condition), answers(x, TIME, null)
    guided = channels or 4
    leaning = unconditional[:, :guided] + 4.0 * (conditional[:, :guided] - unconditional[:, :guided])
    np.testing.assert_allclose(got, np.concatenate([leaning, conditional[:, guided:]], axis=1), rtol=1e-6)


def test_rows_outside_the_interval_are_conditional():
    guidance, condition = Guidance(interval=(0.3, 0.6)), jnp.array([1.0, 2.0])

    def denoise(x, time, condition):
        return x + condition[:, None]

    guided = guidance(denoise, condition, jnp.zeros(2), scale=3.0)
    for times, inside in (([0.2, 0.7], [0, 0]), ([0.3, 0.7], [1, 0]), ([0.61, 0.6], [0, 1])):
        expected = X + np.where(inside, 3 * condition, condition)[:, None]
        np.testing.assert_allclose(guided(X, jnp.array(times)), expected)


def test_a_sampler_asks_the_null_model_only_inside_the_interval():
    asked = []

    def denoise(x, time, condition):
        jax.debug.callback(lambda time: asked.append((len(time), round(float(time[0]), 2))), time)
        return x + condition[:, None]

    guided = Guidance(interval=(0.3, 0.8))(denoise, jnp.ones(2), jnp.zeros(2), scale=2.0)
    Euler().sample(guided, FlowMatching(), jax.random.key(0), (2, 1), 4)
    jax.effects_barrier()
    assert sorted(asked) == [(2, 0.25), (2, 1.0), (4, 0.5), (4, 0.75)]


@pytest.mark.parametrize("interval", [(0.5, 0.5), (-0.1, 0.5), (0.2, 1.5)])
def test_an_empty_interval_is_a_mistake(interval):
    with pytest.raises(UserError, match="rising times"):
        Guidance(interval=interval)
