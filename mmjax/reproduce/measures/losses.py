"""Objectives where their value is known: in float64, but for batches of many thousands."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.objectives import contrastive, preference
from mmjax.systems.clip import LARGEST_LOG_SCALE

CHUNK = 512


def _mean(loss: Callable, *arguments) -> float:
    """The mean of what a loss returns, (sum, count)."""
    total, count = jax.jit(loss)(*arguments)
    return float(total / count)


def _axis(pairs: int, axis: int, precision: str) -> jax.Array:
    return jnp.tile(jnp.eye(2, dtype=precision)[axis], (pairs, 1))


def clip_undecided(pairs: int, precision: str) -> float:
    """CLIP's loss when all similarities are equal."""
    loss = functools.partial(contrastive.softmax_contrastive, scale=100.0, chunk=min(CHUNK, pairs))
    with jax.enable_x64(precision == "float64"):
        return _mean(loss, _axis(pairs, 0, precision), _axis(pairs, 0, precision))


def clip_perfect() -> float:
    """CLIP's loss of two pairs that match exactly and oppose each other, at the largest scale."""
    loss = functools.partial(contrastive.softmax_contrastive, scale=math.exp(LARGEST_LOG_SCALE))
    with jax.enable_x64(True):
        pair = jnp.array([[1.0, 0.0], [-1.0, 0.0]], jnp.float64)
        return _mean(loss, pair, pair)


def siglip_orthogonal(pairs: int, scale: float, bias: float, precision: str) -> float:
    """SigLIP's loss of pictures orthogonal to all captions."""
    chunk = min(CHUNK, pairs)
    loss = functools.partial(contrastive.sigmoid_contrastive, scale=scale, bias=bias, chunk=chunk)
    with jax.enable_x64(precision == "float64"):
        return _mean(loss, _axis(pairs, 0, precision), _axis(pairs, 1, precision))


def chunked_difference(objective: str) -> float:
    """Largest relative difference, value and gradients, between a chunked loss and the whole matrix."""
    random = np.random.default_rng(0)
    pair = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in random.normal(size=(2, 64, 16))]
    loss = getattr(contrastive, f"{objective}_contrastive")
    constants = {"softmax": (20.0,), "sigmoid": (10.0, -10.0)}[objective]

    def mean(chunk, *arguments):
        total, count = loss(*arguments, chunk=chunk)
        return total / count

    def answers(chunk):
        arguments = tuple(jnp.asarray(x, jnp.float32) for x in (*pair, *constants))
        whole = jax.value_and_grad(functools.partial(mean, chunk), tuple(range(len(arguments))))
        return jax.tree.leaves(jax.jit(whole)(*arguments))

    answered = zip(answers(None), answers(16), strict=True)
    return max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(a))) for a, b in answered)


def at_reference(objective: str, *settings: tuple[str, float]) -> float:
    """A preference loss where the policy still is the reference, so that all log-ratios are equal."""
    with jax.enable_x64(True):
        same = jnp.full(4, -1.5, jnp.float64)
        return _mean(functools.partial(getattr(preference, objective), **dict(settings)), same, same)


def simpo_at_equal_averages(beta: float, gamma_over_beta: float) -> float:
    """SimPO where both answers have the same average log-probability."""
    return at_reference("simpo", ("beta", beta), ("gamma", beta * gamma_over_beta))


def corrected_weight(kept: int, corrected: int, weight: float) -> float:
    """By how much RLHF-V divides an answer of so many tokens: the sum over its score for one token's unit."""
    with jax.enable_x64(True):
        is_answer = jnp.ones((1, kept + corrected), bool)
        is_corrected = jnp.arange(kept + corrected)[None] >= kept
        first = jnp.zeros((1, kept + corrected), jnp.float64).at[0, 0].set(1.0)
        return float(1 / preference.corrected_score(first, is_answer, is_corrected, weight=weight)[0])


def unweighted_score_difference() -> float:
    """Largest difference between RLHF-V's score at weight 1 and the average log-probability of an answer."""
    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        log_probabilities = jnp.asarray(random.normal(size=(8, 20)))
        is_answer = jnp.arange(20) < jnp.asarray(random.integers(1, 20, (8, 1)))
        is_corrected = jnp.asarray(random.random((8, 20)) < 0.3)
        score = preference.corrected_score(log_probabilities, is_answer, is_corrected, weight=1.0)
        average = jnp.mean(log_probabilities, axis=1, where=is_answer)
        return float(jnp.max(jnp.abs(score - average)))
