"""Putting media features into a sequence and reading states out of one, without changing any length.

Slots are reserved when a text is tokenized, so nothing changes shape inside `jit`.

Axes: B batch, L tokens, N slots, D width.
"""

import jax
import jax.numpy as jnp

from mmjax.errors import UserError


def splice(x: jax.Array, features: jax.Array, slots: jax.Array) -> jax.Array:
    """Overwrites positions of a sequence with features.

    Args:
      x: float[B, L, D]. features: float[B, N, D].
      slots: int[B, N], the position of each feature; a slot >= L drops its feature.
    """
    return jax.vmap(lambda row, new, at: row.at[at].set(new.astype(row.dtype), mode="drop"))(
        x, features, slots
    )


def take(x: jax.Array, slots: jax.Array) -> jax.Array:
    """Reads float[B, L, D] at int[B, N] -> float[B, N, D]; a slot >= L reads zeros."""
    return jnp.take_along_axis(x, slots[:, :, None], axis=1, mode="fill", fill_value=0)


def slots_of(tokens: jax.Array, first: int, count: int) -> jax.Array:
    """Positions of the consecutive token ids first .. first + count - 1, in id order.

    tokens: int[B, L] -> int[B, count]; L, an absent slot, where an id does not occur.
    """
    is_wanted = tokens[:, None, :] == (first + jnp.arange(count))[None, :, None]
    return jnp.where(is_wanted.any(-1), is_wanted.argmax(-1), tokens.shape[1])


def check_slots(tokens, features_per_row, marker: int, examples=None) -> None:
    """Host-side audit: every row reserves as many marker tokens as it has features.

    Raises:
      UserError: names the first example whose text and media disagree.
    """
    reserved = (tokens == marker).sum(axis=1)
    for row in (reserved != features_per_row).nonzero()[0]:
        name = row if examples is None else examples[row]
        raise UserError(
            f"example {name}: the text reserves {reserved[row]} slots but its media give "
            f"{features_per_row[row]}: make the template and the number of media agree"
        )
