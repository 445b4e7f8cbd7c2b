"""Classifier-free guidance (Ho & Salimans 2022): lean away from what the network says without the condition.

    guided = unconditional + scale (conditional - unconditional)

x_t and the process are the same in both branches, so guiding any of the four predictions of
`mmjax.diffusion.process` guides all of them alike. The unconditional branch is B extra rows of one call: one
compiled network, no second code path, and the weights are read once.

Axes: B batch; pictures are float[B, ..., C].
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guidance:
    """What is guided, and when; everything else is the conditional answer.

    Attributes:
      channels: the first so many channels of the answer; None for those of the prediction, so that a learned
        variance is never guided. 3, of the 4 latent channels, is what DiT's public code does by default and
        what its published scores were measured with.
      interval: first and last time in [0, 1] at which to guide (Kynkaanniemi et al. 2024 drop both ends).
    """

    channels: int | None = None
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        low, high = self.interval
        if not 0 <= low < high <= 1:
            raise UserError(f"guidance.interval is {self.interval}: give two rising times in [0, 1].")

    def __call__(
        self,
        denoise: Callable[[jax.Array, jax.Array, Any], jax.Array],
        condition: Any,
        null: Any,
        *,
        scale: float,
    ) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """Binds a condition, giving the two-argument denoiser that samplers call.

        denoise(x: float[N, ..., C], time: float[N], condition) -> answer: float[N, ..., C'].
        condition: a tree of arrays with leading axis B. null: the same tree for "no condition", B or 1 rows.
        scale: a Python number; 1 means no guidance and asks for no extra rows, 0 is the unconditional model.
        """

        def plain(x: jax.Array, time: jax.Array) -> jax.Array:
            return denoise(x, time, condition).astype(jnp.float32)

        if scale == 1:
            return plain
        both = jax.tree.map(lambda c, n: jnp.concatenate([c, jnp.broadcast_to(n, c.shape)]), condition, null)

        def guided(x: jax.Array, time: jax.Array) -> jax.Array:
            answer = denoise(jnp.concatenate([x, x]), jnp.concatenate([time, time]), both)
            conditional, unconditional = jnp.split(answer.astype(jnp.float32), 2)
            leaning = unconditional + scale * (conditional - unconditional)
            channel = jnp.arange(answer.shape[-1]) < (self.channels or x.shape[-1])
            now = jnp.expand_dims(self._is_guided(time), tuple(range(1, answer.ndim)))
            return jnp.where(channel & now, leaning, conditional)

        if self.interval == (0.0, 1.0):
            return guided
        # Outside the interval, where a sampler is at one time with all rows, the extra rows are not computed.
        return lambda x, time: jax.lax.cond(self._is_guided(time).any(), guided, plain, x, time)

    def _is_guided(self, time: jax.Array) -> jax.Array:
        low, high = self.interval
        return (low <= time) & (time <= high)
