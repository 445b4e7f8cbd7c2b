"""Classifier-free guidance (Ho & Salimans 2022): lean away from what the network says without the condition.

    guided = unconditional + scale (conditional - unconditional)

x_t and the process are the same in both branches, so guiding any of the four predictions of
`mmjax.diffusion.process` guides all of them alike. The unconditional branch is B extra rows of one call: one
compiled network, no second code path, and the weights are read once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def classifier_free(
    denoise: Callable[[jax.Array, jax.Array, Any], jax.Array], condition: Any, null: Any, *, scale: float
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Binds a condition, giving the two-argument denoiser that samplers call.

    denoise(x: float[N, ...], time: float[N], condition) -> prediction: float[N, ...].
    condition: a tree of arrays with leading axis B. null: the same tree for "no condition", leading B or 1.
    scale: a Python number; 1 means no guidance and asks for no extra rows, 0 is the unconditional model.
    """
    if scale == 1:
        return lambda x, time: denoise(x, time, condition)

    both = jax.tree.map(lambda c, n: jnp.concatenate([c, jnp.broadcast_to(n, c.shape)]), condition, null)

    def guided(x: jax.Array, time: jax.Array) -> jax.Array:
        prediction = denoise(jnp.concatenate([x, x]), jnp.concatenate([time, time]), both)
        conditional, unconditional = jnp.split(prediction.astype(jnp.float32), 2)
        return unconditional + scale * (conditional - unconditional)

    return guided
