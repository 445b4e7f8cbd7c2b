"""Scaled dot-product attention: grouped key-value heads, a static cache, qk-norm, rotation and ALiBi.

Axes: B batch, T queries, S keys, H query heads, N key-value heads, G query heads per key-value head
(H = N * G), K head dimension, D width.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from mmjax.errors import UserError
from mmjax.layers import fused_attention
from mmjax.layers.masks import SelfMask
from mmjax.layers.normalization import normalization
from mmjax.layers.partitioning import constrain, dense, scaled_fan_in
from mmjax.layers.rotary import Rotation, rotate


class KeysValues(NamedTuple):
    """Projected keys and values: float[B, S, N, K] each. As a cache, S is the capacity."""

    key: jax.Array
    value: jax.Array


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | SelfMask | None = None,
    *,
    bias: jax.Array | None = None,
    backend: str | None = None,
) -> jax.Array:
    """softmax(q k^T / sqrt(K) + bias) v, with logits and softmax in float32.

    Args:
      query: float[B, T, H, K]. key, value: float[B, S, N, K], N divides H.
      mask: bool[B, T, S], True where attention is allowed, or the integers it follows from; None allows all.
      bias: float32[B, H, T, S], not learned: no gradient reaches it. With one it is always 'xla'.
      backend: 'xla', 'splash', 'short' or 'cudnn'; None for the platform's (`mmjax.layers.fused_attention`).

    Returns:
      float[B, T, H, K]; exactly zero for a query that may see nothing.
    """
    chosen = "xla" if bias is not None else fused_attention.choose(backend, query, key, mask)
    if chosen == "splash":  # which names what it keeps itself, with statistics of the softmax
        return fused_attention.on_tpu(chosen, query, key, value, mask)
    if chosen == "short":
        return _saved(fused_attention.on_tpu(chosen, query, key, value, mask), fused_attention.SAVED)
    if chosen == "cudnn":
        return fused_attention.cudnn(query, key, value, mask)
    if isinstance(mask, SelfMask):
        mask = mask.dense(query.shape[1])
    # Where a sequence is split over devices, its queries stay where they are and read all keys.
    key, value = (constrain(x, "batch", None, "kv_heads", None) for x in (key, value))
    return _attend(query, key, value, mask, bias)


def _attend(query, key, value, mask: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    groups = query.shape[2] // key.shape[2]
    allowed, bias = _of_groups(mask, bias, groups)
    read = _read(_by_group(query, groups), key.swapaxes(1, 2), value.swapaxes(1, 2), allowed, bias)
    return _by_token(read, groups)


def attend_cached(
    query: jax.Array,
    new: KeysValues,
    cache: KeysValues,
    mask: jax.Array,
    write_at: jax.Array,
    *,
    bias: jax.Array | None = None,
) -> jax.Array:
    """`attend` over a cache into which the keys and values of the queries are still to be written.

    The cache is only read: what is new in all layers is written at once behind their scan, in place, where a
    scan that hands on the cache itself would copy all of it for every token.

    Args:
      query: float[B, T, H, K]; new: of the same tokens; cache: of S slots.
      mask: bool[B, T, S], and bias: float32[B, H, T, S], for the cache as it will be.
      write_at: int[], the slot of the first token.

    Returns:
      float[B, T, H, K].
    """
    length, slots, groups = query.shape[1], cache.key.shape[2], query.shape[2] // cache.key.shape[1]
    written = (jnp.arange(slots) >= write_at) & (jnp.arange(slots) < write_at + length)

    def split(x):  # [..., S] -> [..., S + T], the slots of the new tokens behind the others
        return jnp.concatenate([x, jax.lax.dynamic_slice_in_dim(x, write_at, length, axis=-1)], axis=-1)

    mask = split(mask) & jnp.append(~written, jnp.ones(length, bool))
    allowed, bias = _of_groups(mask, None if bias is None else split(bias), groups)
    query = _by_group(query, groups)
    logits = jnp.concatenate([_logits(query, key) for key in (cache.key, new.key)], axis=-1)
    weights = _weights(logits, allowed, bias).astype(cache.value.dtype)
    old, fresh = weights[..., :slots], weights[..., slots:]
    return _by_token(_weighted(old, cache.value) + _weighted(fresh, new.value), groups)


def _by_group(query: jax.Array, groups: int) -> jax.Array:
    """float[B, T, H, K] -> float[B, N, G * T, K], scaled.

    With heads next to the batch, and the query heads of a group next to the queries, both products are plain
    batched matrix products, which matters on CPU (1.7x against the same einsum over [B, T, N, G, K]).
    """
    batch, length, heads, head_dim = query.shape
    query = (query * head_dim**-0.5).reshape(batch, length, heads // groups, groups, head_dim)
    return query.transpose(0, 2, 3, 1, 4).reshape(batch, heads // groups, groups * length, head_dim)


def _by_token(read: jax.Array, groups: int) -> jax.Array:
    """float[B, N, G * T, K] -> float[B, T, H, K]."""
    batch, kv_heads, rows, head_dim = read.shape
    read = read.reshape(batch, kv_heads, groups, rows // groups, head_dim).transpose(0, 3, 1, 2, 4)
    return read.reshape(batch, rows // groups, kv_heads * groups, head_dim)


def _of_groups(mask: jax.Array | None, bias: jax.Array | None, groups: int):
    """bool[B, T, S] and float32[B, H, T, S] -> bool[B, 1, G * T, S] and float32[B, N, G * T, S]."""
    allowed = None if mask is None else jnp.tile(mask, (1, groups, 1))[:, None]
    if bias is not None:
        batch, heads, length, keys = bias.shape
        bias = bias.reshape(batch, heads // groups, groups * length, keys)
    return allowed, bias


def _logits(query, key):
    return jnp.einsum("BNQK,BNSK->BNQS", query, key, preferred_element_type=jnp.float32)


def _weights(logits, allowed, bias):
    """Exactly zero where nothing is allowed; softmax alone makes a row without any allowed key uniform."""
    if bias is not None:
        logits = logits + bias
    if allowed is None:
        return jax.nn.softmax(logits)
    hidden = jnp.finfo(logits.dtype).min
    logits = jnp.where(allowed, logits, hidden)
    return jax.nn.softmax(logits) * (jnp.max(logits, axis=-1, keepdims=True) > hidden)


def _weighted(weights, value):
    return jnp.einsum("BNQS,BNSK->BNQK", weights, value)


@jax.custom_vjp
def _read(query, key, value, allowed: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    """float[B, N, Q, K] from queries of that shape, keys and values float[B, N, S, K], bool[B, 1, Q, S] and
    float[B, N, Q, S].

    The backward pass keeps the weights W in the type of the values and nothing else of size Q x S. With
    R = W V, dL/dlogits = W * (dR V^T - rowsum(dR * R)), as flash attention has it (Dao et al. 2022, B.2).
    """
    return _read_forward(query, key, value, allowed, bias)[0]


def _read_forward(query, key, value, allowed, bias):
    weights = _weights(_logits(query, key), allowed, bias).astype(value.dtype)
    read = _weighted(weights, value)
    return read, (query, key, value, weights, read)


def _read_backward(saved, d_read):
    query, key, value, weights, read = saved
    d_weights = jnp.einsum("BNQK,BNSK->BNQS", d_read, value, preferred_element_type=jnp.float32)
    inner = jnp.sum(d_read.astype(jnp.float32) * read.astype(jnp.float32), axis=-1, keepdims=True)
    d_logits = (weights * (d_weights - inner)).astype(query.dtype)
    d_query = jnp.einsum("BNQS,BNSK->BNQK", d_logits, key)
    d_key = jnp.einsum("BNQS,BNQK->BNSK", d_logits, query)
    return d_query, d_key, jnp.einsum("BNQS,BNQK->BNSK", weights, d_read), None, None


_read.defvjp(_read_forward, _read_backward)


def _saved(x: jax.Array, name: str) -> jax.Array:
    """`checkpoint_name` of float[B, T, H, K], heads joined: a TPU pads the last two axes of what it keeps to
    tiles of 8 x 128, which makes 2.7 times as much of 12 heads of 64."""
    return checkpoint_name(x.reshape(*x.shape[:2], -1), name).reshape(x.shape)


def linear_biases(positions: jax.Array, key_positions: jax.Array, heads: int) -> jax.Array:
    """ALiBi (Press et al. 2022): what a head loses of a logit per token between the query and the key.

    Head i of a power of two loses 2^(-8 i / H), i from 1. Of any other number the first are those of the next
    lower power of two and the rest every second one of the next higher, as in the paper and in MPT.

    positions: int[B, T], key_positions: int[B, S] -> float32[B, H, T, S].
    """
    power = 2 ** math.ceil(math.log2(heads))
    slopes = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    if power != heads:
        slopes = np.concatenate([slopes[1::2], slopes[::2]])[:heads]
    distance = jnp.abs(positions[:, :, None] - key_positions[:, None, :]).astype(jnp.float32)
    return -np.float32(slopes)[:, None, None] * distance[:, None]


class Attention(nn.Module):
    """Multi-head attention of a sequence over itself, over a context, or over cached keys and values.

    Attributes:
      features: output width D.
      kv_heads: key-value heads N; None means one per query head.
      qk_norm: None or a kind of norm of queries and keys before the product, per head.
      qk_norm_joint: normalise all heads together instead (MPT-1B).
      alibi: add `linear_biases` of the positions.
      output_scale: multiplies the initial standard deviation of the output projection.
      backend: of `attend`.
    """

    features: int
    heads: int
    head_dim: int
    kv_heads: int | None = None
    bias: bool = True
    qk_norm: str | None = None
    qk_norm_joint: bool = False
    epsilon: float = 1e-5
    alibi: bool = False
    output_scale: float = 1.0
    backend: str | None = None
    dtype: str = "float32"

    def setup(self):
        def project(heads, axis):
            return dense(
                (heads, self.head_dim), ("embed", axis, "head_dim"), bias=self.bias, dtype=self.dtype
            )

        kv_heads = self.kv_heads or self.heads
        self.query = project(self.heads, "heads")
        self.key = project(kv_heads, "kv_heads")
        self.value = project(kv_heads, "kv_heads")
        self.output = dense(
            self.features,
            ("heads", "head_dim", "embed"),
            contract=2,
            bias=self.bias,
            init=scaled_fan_in(self.output_scale),
            dtype=self.dtype,
        )
        if self.qk_norm:

            def norm(axis):
                axes = (axis, "head_dim") if self.qk_norm_joint else ("head_dim",)
                return normalization(self.qk_norm, epsilon=self.epsilon, axis_names=axes, dtype=self.dtype)

            self.query_norm, self.key_norm = norm("heads"), norm("kv_heads")

    def keys_values(self, context: jax.Array, rotation: Rotation | None = None) -> list[jax.Array]:
        """context: float[B, S, D'] -> keys and values float[B, S, N, K], normalised and rotated."""
        key, value = self.key(context), self.value(context)
        if self.qk_norm:
            key = self.key_norm(key)
        if rotation is not None:
            key = rotate(key, rotation)
        return [constrain(x, "batch", "sequence", "kv_heads", None) for x in (key, value)]

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array | KeysValues | None = None,
        *,
        mask: jax.Array | None = None,
        rotation: Rotation | None = None,
        positions: jax.Array | None = None,
        key_positions: jax.Array | None = None,
        cache: KeysValues | None = None,
        write_at: jax.Array | None = None,
    ) -> tuple[jax.Array, KeysValues]:
        """Reads from `memory`, or from `x` itself when there is none.

        Args:
          x: float[B, T, D].
          memory: float[B, S, D'] to project, or keys and values that are ready.
          mask: of `attend`; with a cache bool[B, T, S] for its slots.
          rotation: of the queries and of the keys of `x`, by their rotary positions; None for none.
          positions: int[B, T], for ALiBi.
          key_positions: int[B, S] of the slots of a cache or of `memory`, for ALiBi.
          cache: of earlier tokens, which are read too.
          write_at: int[], the slot of the cache that the first token of `x` is going to have.

        Returns:
          float[B, T, D], and the keys and values of `memory` or `x`; writing these into the cache is left to
          the caller.

        Raises:
          UserError: ALiBi without positions.
        """
        query = self.query(x)
        if self.qk_norm:
            query = self.query_norm(query)
        if rotation is not None:
            query = rotate(query, rotation)
        query = constrain(query, "batch", "sequence", "heads", None)

        if isinstance(memory, KeysValues):
            key, value = (each.swapaxes(1, 2) for each in memory)
        elif memory is not None:
            key, value = self.keys_values(memory)
        else:
            key, value = self.keys_values(x, rotation)
        query, key, value = (_saved(each, "queries_keys_values") for each in (query, key, value))
        ready = KeysValues(key.swapaxes(1, 2), value.swapaxes(1, 2))
        reads_itself = memory is None and cache is None
        bias = self._linear_biases(positions, positions if reads_itself else key_positions)
        if cache is None:
            read = attend(query, key, value, mask, bias=bias, backend=self.backend)
        else:
            read = attend_cached(query, ready, cache, mask, write_at, bias=bias)
        return constrain(self.output(read), "batch", "sequence", "embed"), ready

    def _linear_biases(self, positions: jax.Array | None, key_positions: jax.Array | None):
        if not self.alibi:
            return None
        if positions is None or key_positions is None:
            raise UserError(
                "alibi needs the position of every token, which is not known here: set it to False"
            )
        return linear_biases(positions, key_positions, self.heads)
