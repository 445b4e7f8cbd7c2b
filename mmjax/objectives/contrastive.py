"""Contrastive objectives between matching rows of two sets of unit vectors.

Both compare every row of the first set with every row of the second; the plain form holds the B x B logits in
memory. `ring=True` never does: each device keeps its own rows of the first set, and the rows of the second
travel from device to device until all have met all. The softmax needs, besides the log-sum-exp of its rows,
that of its columns, which travels with them. The backward pass goes round once more: with R and C complete,

    d loss / d logit_ij = (exp(logit_ij - R_i) + exp(logit_ij - C_j)) / 2 - [i = j]             softmax
                        = -z sigmoid(-z logit_ij),  z = 1 where i = j, else -1                  sigmoid

so that nothing of the forward pass is kept but R and C. With `chunk`, that many travelling rows are compared
at a time, and temporaries are linear in a device's share of the batch. A ring of one device is the chunked
loss. Under `jit` on a mesh the sets are the global batch, however many devices share it.

Axes: A rows of the first set, B of the second, E embedding. Logits are float32, or float64 where the vectors
are.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from mmjax.errors import UserError
from mmjax.layers.partitioning import mesh_axes


def softmax_contrastive(
    first: jax.Array, second: jax.Array, scale: jax.Array, *, ring: bool = False, chunk: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """CLIP's loss: cross-entropy over rows and over columns of the similarity matrix, averaged.

    Source: Radford et al. 2021, figure 3. The factor 1/2 is in the paper and in the released code.

    Args:
      first, second: unit vectors float[B, E]; row i of one belongs to row i of the other.
      scale: the inverse temperature, already exponentiated.
      ring: never hold the whole similarity matrix; see above.
      chunk: rows of `second` compared at a time, a divisor of a device's share of them; None for all of the
        share. Implies `ring`.

    Returns:
      (sum over pairs, number of pairs).

    Raises:
      UserError: `chunk` does not divide the share.
    """
    if ring or chunk:
        return _in_ring(_SOFTMAX, *_arrays(first, second, scale, 0.0), chunk), jnp.float32(first.shape[0])
    logits = scale * _similarity(first, second)
    rows, columns = (jnp.sum(jax.nn.logsumexp(logits, axis=axis)) for axis in (1, 0))
    return 0.5 * (rows + columns) - jnp.trace(logits), jnp.float32(first.shape[0])


def sigmoid_contrastive(
    first: jax.Array,
    second: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    ring: bool = False,
    chunk: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """SigLIP's loss: every pair of the batch is a yes-or-no question of its own.

    Source: Zhai et al. 2023, algorithm 1: a sum over each row, a mean over rows. Arguments as above.

    Returns:
      (sum over rows, number of rows).
    """
    if ring or chunk:
        return _in_ring(_SIGMOID, *_arrays(first, second, scale, bias), chunk), jnp.float32(first.shape[0])
    logits = scale * _similarity(first, second) + bias
    return _questions(logits, _matching(logits, 0)), jnp.float32(first.shape[0])


def _accuracy(x: jax.Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


def _arrays(first: jax.Array, second: jax.Array, *scalars: jax.Array | float) -> list[jax.Array]:
    return [first, second, *(jnp.asarray(scalar, _accuracy(first)) for scalar in scalars)]


def _similarity(first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.einsum("AE,BE->AB", first, second, preferred_element_type=_accuracy(first))


def _matching(logits: jax.Array, start: int | jax.Array) -> jax.Array:
    """bool[A, B]: whose partner stands in which column, the first column being number `start`."""
    return jnp.arange(logits.shape[0])[:, None] == start + jnp.arange(logits.shape[1])


def _questions(logits: jax.Array, matching: jax.Array) -> jax.Array:
    return -jnp.sum(jax.nn.log_sigmoid(jnp.where(matching, logits, -logits)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Form:
    """A loss, block by block: sum of `value`s plus half the sums of what rows and columns have gathered.

    Attributes:
      start: what rows and columns have before the first block.
      value: (logits, matching) -> the block's own share.
      gather: (gathered float[A or B], logits, axis) -> the same, with this block.
      slope: (logits, matching, rows, columns) -> derivative of the loss by the logits.
    """

    start: float
    value: Callable[..., jax.Array]
    gather: Callable[..., jax.Array]
    slope: Callable[..., jax.Array]


_SOFTMAX = _Form(
    start=-jnp.inf,
    value=lambda logits, matching: -jnp.sum(jnp.where(matching, logits, 0)),
    gather=lambda seen, logits, axis: jnp.logaddexp(seen, jax.nn.logsumexp(logits, axis=axis)),
    slope=lambda logits, matching, rows, columns: (
        0.5 * (jnp.exp(logits - rows[:, None]) + jnp.exp(logits - columns)) - matching
    ),
)
_SIGMOID = _Form(
    start=0.0,
    value=_questions,
    gather=lambda seen, logits, axis: seen,
    slope=lambda logits, matching, rows, columns: jnp.where(
        matching, -jax.nn.sigmoid(-logits), jax.nn.sigmoid(logits)
    ),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 5))
def _in_ring(form: _Form, first, second, scale, bias, chunk: int | None) -> jax.Array:
    """The loss summed over the batch."""
    return _forward(form, first, second, scale, bias, chunk)[0]


def _forward(form: _Form, first, second, scale, bias, chunk):
    def local(axes, first, second, scale, bias):
        def meet(carry, some, start):
            (rows, value), (vectors, columns) = carry, some
            logits = scale * _similarity(first, vectors) + bias
            value += form.value(logits, _matching(logits, start))
            return (form.gather(rows, logits, 1), value), (vectors, form.gather(columns, logits, 0))

        empty = jnp.full(first.shape[0], form.start, _accuracy(first))
        carry = empty, jnp.zeros((), _accuracy(first))
        (rows, value), (_, columns) = _round(meet, carry, (second, empty), axes, chunk)
        gathered = value + 0.5 * (jnp.sum(rows) + jnp.sum(columns))
        return jax.lax.psum(gathered, axes) if axes else gathered, rows, columns

    total, rows, columns = _on_shares(local, first, second, scale, bias, out=(False, True, True))
    return total, (first, second, scale, bias, rows, columns)


def _backward(form: _Form, chunk, saved, cotangent):
    def local(axes, first, second, scale, bias, rows, columns, cotangent):
        def meet(carry, some, start):
            (d_first, d_scale, d_bias), (vectors, columns, d_vectors) = carry, some
            similarity = _similarity(first, vectors)
            logits = scale * similarity + bias
            slope = cotangent * form.slope(logits, _matching(logits, start), rows, columns)
            d_first += jnp.einsum("AB,BE->AE", slope, vectors.astype(slope.dtype))
            d_vectors += jnp.einsum("AB,AE->BE", slope, first.astype(slope.dtype))
            carry = d_first, d_scale + jnp.sum(slope * similarity), d_bias + jnp.sum(slope)
            return carry, (vectors, columns, d_vectors)

        empty, nothing = jnp.zeros(first.shape, _accuracy(first)), jnp.zeros((), _accuracy(first))
        travelling = second, columns, empty
        carry, (_, _, d_second) = _round(meet, (empty, nothing, nothing), travelling, axes, chunk)
        d_first, *d_scalars = carry
        d_scalars = jax.lax.psum(d_scalars, axes) if axes else d_scalars
        return scale * d_first, scale * d_second, *d_scalars

    gradients = _on_shares(local, *saved, cotangent, out=(True, True, False, False))
    return tuple(g.astype(of.dtype) for g, of in zip(gradients, saved[:4], strict=True))


_in_ring.defvjp(_forward, _backward)


def _on_shares(local: Callable, *arguments: jax.Array, out: tuple[bool, ...]) -> tuple[jax.Array, ...]:
    """`local(axes, *arguments)` on every device's rows; scalars are the same for all.

    Args:
      out: which results are rows rather than scalars summed over `axes`, the mesh axes that split the batch.
    """
    axes = mesh_axes("batch")
    if not axes:
        return local((), *arguments)
    spec = {True: PartitionSpec(axes), False: PartitionSpec()}
    inputs, outputs = (tuple(spec[rows] for rows in kind) for kind in ([x.ndim > 0 for x in arguments], out))
    run = functools.partial(local, axes)
    return jax.shard_map(run, in_specs=inputs, out_specs=outputs, check_vma=False)(*arguments)


def _round(meet: Callable, carry, travelling, axes: tuple[str, ...], chunk: int | None):
    """Every device's travelling rows meet every device's carry, `chunk` rows at a time, and come home.

    Args:
      meet: (carry, some travelling rows, number of the first among the carry's rows) -> both, updated.
    """
    share = len(travelling[0])
    chunk = chunk or share
    if share % chunk:
        raise UserError(f"a loss of {share} pairs does not split into chunks of {chunk}; change model.chunk")
    devices = jax.lax.axis_size(axes) if axes else 1
    onwards = [(device, (device + 1) % devices) for device in range(devices)]

    def visit(state, hop):
        carry, travelling = state
        parts = jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), travelling)
        # Rows meet their partners before they leave; afterwards the first of them has a number beyond all.
        starts = jnp.where(hop == 0, jnp.arange(0, share, chunk), share)
        carry, parts = jax.lax.scan(lambda carry, part: meet(carry, *part), carry, (parts, starts))
        travelling = jax.tree.map(lambda x: x.reshape(share, *x.shape[2:]), parts)
        return (carry, jax.lax.ppermute(travelling, axes, onwards) if axes else travelling), None

    return jax.lax.scan(visit, (carry, travelling), jnp.arange(devices))[0]
