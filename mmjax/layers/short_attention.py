"""A TPU kernel for sequences that fit on the chip whole, such as the patches of a picture or a caption.

One program reads the queries, keys and values of some heads of some rows, and everything between them and
what they read stays on the chip. Kernels for long sequences, which walk over tiles with a running softmax,
must keep its statistics, pad both lengths to tiles of 128 and lay heads out one by one: for 196 patches that
is more traffic than the logits they avoid. Here the backward pass keeps only the inputs.

A TPU works on 128 lanes at once, and heads are often narrower. They stay side by side, as the projection
writes them: a head is a range of lanes in a window of whole tiles. Its queries are zero outside of the range,
so that the product over the window is the product over the head, at the same cost.

Axes: R rows of a program, T queries, S keys, W lanes of a window, H heads, K head dimension.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

LANES = 128
MEMORY = 12 * 2**20  # bytes on the chip that a program may take; the compiler allows 16 MiB
LENGTH = 256  # of the rows of a program together, where one is shorter

_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


@dataclasses.dataclass(frozen=True)
class Shape:
    """Of one call: B, T, S, H, K, and the bytes of a number."""

    batch: int
    queries: int
    keys: int
    heads: int
    head_dim: int
    itemsize: int

    @property
    def block(self) -> int:
        """Lanes of a program: as few whole heads as make whole tiles."""
        together, width = math.lcm(self.head_dim, LANES), self.heads * self.head_dim
        return together if width % together == 0 else width

    @property
    def memory(self) -> int:
        """Bytes that a row takes: the seven blocks of the backward pass, twice since the next ones are being
        fetched, and a few arrays of weights."""
        blocks = 2 * (3 * self.queries + 4 * self.keys) * self.block * self.itemsize
        return blocks + 5 * 4 * self.queries * self.keys

    @property
    def rows(self) -> int:
        """Of the batch, for one program."""
        most = min(LENGTH // max(self.queries, self.keys), MEMORY // self.memory)
        return max(2**n for n in range(most.bit_length() or 1) if self.batch % 2**n == 0)

    def windows(self) -> Iterator[tuple[slice, jax.Array | None]]:
        """Per head of a program, its window and bool[1, 1, W] of its lanes there; None where they are all."""
        for start in range(0, self.block, self.head_dim):
            stop = start + self.head_dim
            window = slice(start // LANES * LANES, min(math.ceil(stop / LANES) * LANES, self.block))
            width = window.stop - window.start
            if width == self.head_dim:
                yield window, None
            else:
                lane = jax.lax.broadcasted_iota(jnp.int32, (1, 1, width), 2) + window.start
                yield window, (lane >= start) & (lane < stop)


def shape_of(query: jax.Array, key: jax.Array) -> Shape:
    """Of a call with queries [B, T, H, K] and keys [B, S, N, K]."""
    (batch, queries, heads, head_dim), keys = query.shape, key.shape[1]
    return Shape(batch, queries, keys, heads, head_dim, query.dtype.itemsize)


def fits(query: jax.Array, key: jax.Array) -> bool:
    """Whether queries [B, T, H, K] and keys [B, S, N, K] can be read so: short ones, heads not grouped."""
    return query.shape[2] == key.shape[2] and shape_of(query, key).memory <= MEMORY


def attend(
    query, key, value, *, order, interpret, query_segment=None, key_segment=None, reach=None
) -> jax.Array:
    """One device's share of `attention.attend`, segments int[B, T] and int[B, S] written out, and reach
    int[B, T], the last key each query may see."""
    integers = {"query_segment": query_segment, "key_segment": key_segment, "reach": reach}
    integers = {name: x[:, None] for name, x in integers.items() if x is not None}  # int[B, 1, L]
    scaled = query * query.shape[-1] ** -0.5
    joined = (x.reshape(*x.shape[:2], -1) for x in (scaled, key, value))
    return _read(_Kernel(shape_of(query, key), order, interpret), *joined, integers).reshape(query.shape)


@dataclasses.dataclass(frozen=True)
class _Kernel:
    shape: Shape
    order: str
    interpret: bool

    def __call__(self, body, integers, arrays, like, *, name, products):
        """Runs `body(allowed, *arrays, *results)` on blocks of all arrays; one result for each of `like`.

        products: of T x S x K for each head of a row.
        """
        shape, names = self.shape, tuple(integers)
        pairs = shape.batch * shape.heads * shape.queries * shape.keys

        def kernel(*refs):
            found = {name: ref[...] for name, ref in zip(names, refs, strict=False)}
            body(self._allowed(found), *refs[len(names) :])

        def block(x):  # float[B, L, H * K]
            return pl.BlockSpec((shape.rows, x.shape[1], shape.block), lambda row, heads: (row, 0, heads))

        def whole(x):  # int[B, 1, L]
            return pl.BlockSpec((shape.rows, 1, x.shape[2]), lambda row, heads: (row, 0, 0))

        return pl.pallas_call(
            kernel,
            grid=(shape.batch // shape.rows, shape.heads * shape.head_dim // shape.block),
            in_specs=[*map(whole, integers.values()), *map(block, arrays)],
            out_specs=[block(x) for x in like],
            out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in like],
            cost_estimate=pl.CostEstimate(
                flops=2 * products * pairs * shape.head_dim,
                transcendentals=pairs,
                bytes_accessed=sum(x.nbytes for x in (*integers.values(), *arrays, *like)),
            ),
            interpret=self.interpret,
            name=f"short_attention_{name}",
        )(*integers.values(), *arrays)

    def _allowed(self, integers) -> jax.Array | None:
        """bool[R or 1, T, S]; None where all may see all."""
        allowed, shape = None, (1, self.shape.queries, self.shape.keys)
        if self.order != "full":
            reach = integers.get("reach")
            reach = jax.lax.broadcasted_iota(jnp.int32, shape, 1) if reach is None else _column(reach)
            allowed = jax.lax.broadcasted_iota(jnp.int32, shape, 2) <= reach
        if "key_segment" in integers:
            segment = integers["key_segment"]
            same = (segment == _column(integers["query_segment"])) & (segment > 0)
            allowed = same if allowed is None else allowed & same
        return allowed


def _column(x: jax.Array) -> jax.Array:
    """int[R, 1, T] -> int[R, T, 1]."""
    return jnp.swapaxes(x, 1, 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _read(kernel, query, key, value, integers):
    return _forward(kernel, query, key, value, integers)[0]


def _weights(query, key, allowed):
    """float[R, T, W], float[R, S, W] -> float32[R, T, S]."""
    logits = _product("RTW,RSW->RTS", query, key)
    if allowed is not None:
        logits = jnp.where(allowed, logits, jnp.finfo(jnp.float32).min)
    weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    # Rows without any allowed key: softmax makes them uniform, not zero.
    return weights if allowed is None else jnp.where(allowed, weights, 0.0)


def _only(lanes, x, other=0.0):
    return x if lanes is None else jnp.where(lanes, x, other)


def _forward(kernel, query, key, value, integers):
    def body(allowed, query, key, value, read):
        for window, lanes in kernel.shape.windows():
            at = (slice(None), slice(None), window)
            weights = _weights(_only(lanes, query[at]), key[at], allowed)
            of_head = _product("RTS,RSW->RTW", weights.astype(value.dtype), value[at])
            read[at] = _only(lanes, of_head.astype(read.dtype), read[at])

    (read,) = kernel(body, integers, (query, key, value), (query,), name="forward", products=2)
    return read, (query, key, value, integers)


def _backward(kernel, saved, d_read):
    *arrays, integers = saved

    def body(allowed, query, key, value, d_read, d_query, d_key, d_value):
        for window, lanes in kernel.shape.windows():
            at = (slice(None), slice(None), window)
            q, d = _only(lanes, query[at]), _only(lanes, d_read[at])
            weights = _weights(q, key[at], allowed)
            d_weights = _product("RTW,RSW->RTS", d, value[at])
            inner = jnp.sum(weights * d_weights, axis=-1, keepdims=True)
            d_logits = (weights * (d_weights - inner)).astype(q.dtype)
            for ref, of_head in (
                (d_query, _product("RTS,RSW->RTW", d_logits, key[at])),
                (d_key, _product("RTS,RTW->RSW", d_logits, q)),
                (d_value, _product("RTS,RTW->RSW", weights.astype(d.dtype), d)),
            ):
                ref[at] = _only(lanes, of_head.astype(ref.dtype), ref[at])

    gradients = kernel(body, integers, (*arrays, d_read), arrays, name="backward", products=5)
    return *gradients, jax.tree.map(lambda x: None, integers)


_read.defvjp(_forward, _backward)
