"""Preference objectives: a policy learns which of two answers to the same prompt people prefer.

Most of them see an answer only through its log-ratio, how much likelier the policy makes it than the frozen
reference does, summed over its tokens. With d = log-ratio(chosen) - log-ratio(rejected), for one pair:

    DPO    -log sigmoid(beta d)                                             (Rafailov et al. 2023, equation 7)
    cDPO   (1 - e) (-log sigmoid(beta d)) + e (-log sigmoid(-beta d))       (labels wrong with probability e)
    IPO    (d - 1 / (2 beta))^2                                             (Azar et al. 2023, equation 17)
    hinge  max(0, 1 - beta d)                                               (SLiC; Zhao et al. 2023)
    SimPO  -log sigmoid(beta (average chosen - average rejected) - gamma)   (Meng et al. 2024, no reference)

At the start of training the policy is the reference, d = 0.

Axes: B pairs, L tokens of an answer.
"""

import jax
import jax.numpy as jnp


def dpo(
    chosen: jax.Array, rejected: jax.Array, *, beta: float, smoothing: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """DPO, and cDPO with `smoothing` e. Log-ratios float[B] twice -> (sum over pairs, number of pairs)."""
    logits = beta * (chosen - rejected)
    wrong = -jax.nn.log_sigmoid(-logits)
    return _over_pairs((1 - smoothing) * -jax.nn.log_sigmoid(logits) + smoothing * wrong)


def ipo(chosen: jax.Array, rejected: jax.Array, *, beta: float) -> tuple[jax.Array, jax.Array]:
    """IPO. Log-ratios float[B] twice -> (sum over pairs, number of pairs)."""
    return _over_pairs(jnp.square(chosen - rejected - 1 / (2 * beta)))


def hinge(chosen: jax.Array, rejected: jax.Array, *, beta: float) -> tuple[jax.Array, jax.Array]:
    """SLiC's hinge. Log-ratios float[B] twice -> (sum over pairs, number of pairs)."""
    return _over_pairs(jax.nn.relu(1 - beta * (chosen - rejected)))


def simpo(
    chosen: jax.Array, rejected: jax.Array, *, beta: float, gamma: float
) -> tuple[jax.Array, jax.Array]:
    """SimPO. Average log-probabilities per token float[B] twice -> (sum over pairs, number of pairs)."""
    return _over_pairs(-jax.nn.log_sigmoid(beta * (chosen - rejected) - gamma))


def corrected_score(
    log_probabilities: jax.Array, is_answer: jax.Array, is_corrected: jax.Array, *, weight: float
) -> jax.Array:
    """RLHF-V's score of an answer, in which the segments that people corrected count `weight` times.

    Source: Yu et al. 2024, equation 3: (sum over kept + weight * sum over corrected) / (|kept| + weight *
    |corrected|). Its log-ratio goes into `dpo`; weight 1 is DPO normalised by length.

    Args:
      log_probabilities: float[B, L]; is_answer: bool[B, L], False on prompt and padding; is_corrected:
        bool[B, L].

    Returns:
      float[B].
    """
    share = jnp.where(is_answer, jnp.where(is_corrected, weight, 1.0), 0.0)
    return jnp.sum(share * log_probabilities, axis=-1) / jnp.maximum(jnp.sum(share, axis=-1), 1e-9)


def _over_pairs(losses: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.sum(losses), jnp.float32(losses.shape[0])
