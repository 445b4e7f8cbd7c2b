"""Attention kernels that never write the logits to memory, and the choice between them.

    xla     any mask, any device; the logits of a layer are in memory           `attention.attend`
    splash  TPU, long sequences; masks of a token's integers (`masks.SelfMask`) Pallas, in a `shard_map`
    short   TPU, sequences that fit on the chip whole; the same masks           `mmjax.layers.short_attention`
    cudnn   GPU; any mask, bfloat16 and float16                                 `jax.nn`

The kernels know a static mask, per query one number, and segments. Blocks are contiguous and ordered, so the
rule "my block and all earlier ones" is "all keys up to the last of my block": that is the number. Which tiles
of a long sequence may be skipped is static, so only a mask known to be causal skips any.

Axes: B batch, T queries, S keys, H query heads, N key-value heads, K head dimension.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention as splash_library
from jax.sharding import PartitionSpec

from mmjax.layers import short_attention
from mmjax.layers.masks import SelfMask
from mmjax.layers.partitioning import mesh_axes, mesh_size, platform

TILE = 128
LARGEST_TILE = 512
BACKENDS = ("xla", "splash", "short", "cudnn")
LONG = 1024  # queries from which the splash kernel pays for padding and for its own backward pass
SAVED = "attention"  # `checkpoint_name` of what the backward pass of a kernel needs


def choose(wanted: str | None, query: jax.Array, key: jax.Array, mask: jax.Array | SelfMask | None) -> str:
    """'xla', 'splash', 'short' or 'cudnn'.

    Args:
      wanted: the config's choice; None for the platform's. What a kernel cannot read runs on XLA whatever was
        wanted: on TPU a mask written out, and for 'short' what does not fit; anywhere single queries.
    """
    able = {"xla"}
    if query.shape[1] > 1:
        able.add("cudnn")
        if not isinstance(mask, jax.Array | np.ndarray):
            able |= {"splash", "short"} if short_attention.fits(query, key) else {"splash"}
    if wanted is None:
        wanted = "xla"
        if platform() == "gpu" and query.dtype in (jnp.bfloat16, jnp.float16):
            wanted = "cudnn"
        if platform() == "tpu":
            wanted = "splash" if query.shape[1] >= LONG else "short"
    return wanted if wanted in able else "xla"


def cudnn(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | SelfMask | None,
    *,
    implementation: str | None = "cudnn",
) -> jax.Array:
    """As `attention.attend`. A causal mask without segments is not written out."""
    attention = functools.partial(jax.nn.dot_product_attention, implementation=implementation)
    if isinstance(mask, SelfMask):
        if mask.order == "causal" and mask.segment is None:
            return attention(query, key, value, is_causal=True)
        mask = mask.dense(query.shape[1])
    if mask is None:
        return attention(query, key, value)
    mask = jnp.broadcast_to(mask, (query.shape[0], *mask.shape[1:]))
    read = attention(query, key, value, mask=mask[:, None])
    return jnp.where(jnp.any(mask, axis=-1)[:, :, None, None], read, 0)


def on_tpu(
    kernel: str, query: jax.Array, key: jax.Array, value: jax.Array, mask: SelfMask | None
) -> jax.Array:
    """As `attention.attend`, by 'splash' or 'short'; on other devices they are interpreted, which is slow.

    Over the axes of `sequence` queries stay split and keys and values are gathered.
    """
    batch, heads, kv_heads, sequence = (mesh_axes(n) for n in ("batch", "heads", "kv_heads", "sequence"))
    order = mask.order if mask else "full"
    if query.shape[1] % mesh_size("sequence"):
        sequence = ()  # a length that does not split stays whole, as in `constrain`
    if order == "causal" and sequence:
        order = "blocks"  # a device's queries do not start at 0, and the last device could skip nothing
    of_queries, of_keys = PartitionSpec(batch, sequence), PartitionSpec(batch)
    arrays = dict(query=query, key=key, value=value)
    specs = dict(
        query=PartitionSpec(batch, sequence, heads),
        key=PartitionSpec(batch, None, kv_heads),
        value=PartitionSpec(batch, None, kv_heads),
    )
    if mask is not None and mask.segment is not None:
        arrays |= dict(query_segment=mask.segment, key_segment=mask.segment)
        specs |= dict(query_segment=of_queries, key_segment=of_keys)
    if order == "blocks":
        reach = jnp.broadcast_to(mask.reach(query.shape[1]), query.shape[:2])
        arrays, specs = arrays | dict(reach=reach), specs | dict(reach=of_queries)

    def local(arrays):
        run = _splash if kernel == "splash" else short_attention.attend
        return run(**arrays, order=order, interpret=platform() != "tpu")

    if not (batch or heads or kv_heads or sequence):
        return local(arrays)
    return jax.shard_map(local, in_specs=(specs,), out_specs=specs["query"], check_vma=False)(arrays)


def _splash(
    query, key, value, *, order, interpret, query_segment=None, key_segment=None, reach=None
) -> jax.Array:
    """One device's share, lengths padded to whole tiles."""
    (batch, length, heads, _), keys = query.shape, key.shape[1]
    rows, columns = (math.ceil(n / TILE) * TILE for n in (length, keys))
    if columns > keys and key_segment is None:
        query_segment, key_segment = jnp.ones((batch, length), int), jnp.ones((batch, keys), int)
    if order == "blocks":
        reach = _pad(reach.astype(jnp.int32), rows)
    segments = None
    if key_segment is not None:
        real = query_segment > 0
        segments = _pad(query_segment.astype(jnp.int32), rows), _pad(key_segment.astype(jnp.int32), columns)

    def one_row(query, key, value, segments, reach):
        kernel = _kernel(order, rows, columns, heads, interpret)
        if reach is not None:
            infos = (kernel.fwd_mask_info, kernel.dq_mask_info, kernel.dkv_mask_info)
            infos = (info._replace(q_sequence=reach) for info in infos)
            kernel = type(kernel)(*infos, **kernel.kwargs)
        return kernel(query, key, value, segments and splash_library.SegmentIds(*segments))

    query = query * query.shape[-1] ** -0.5
    heads_first = (_pad(x, n).swapaxes(1, 2) for x, n in ((query, rows), (key, columns), (value, columns)))
    read = jax.vmap(one_row)(*heads_first, segments, reach).swapaxes(1, 2)[:, :length]
    # The kernel lets a padded row see all padding: zero it, as a row that may see nothing.
    return read if segments is None else jnp.where(real[:, :, None, None], read, 0)


def _pad(x: jax.Array, length: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (0, length - x.shape[1])) + ((0, 0),) * (x.ndim - 2))


class _UpTo(splash_library.CausalMask):
    """Keys up to a number per query that only the running program knows, so every tile must be looked at."""

    def __getitem__(self, index) -> np.ndarray:
        tile = np.zeros(super().__getitem__(index).shape, bool)
        tile[:, ::2] = True  # neither empty nor full
        return tile


MASKS = {"full": splash_library.FullMask, "causal": splash_library.CausalMask, "blocks": _UpTo}


def _kernel(order: str, rows: int, columns: int, heads: int, interpret: bool):
    q, kv = (math.gcd(n, LARGEST_TILE) for n in (rows, columns))
    sizes = splash_library.BlockSizes(
        block_q=q,
        block_kv=kv,
        block_q_dkv=q,
        block_kv_dkv=kv,
        block_q_dq=q,
        block_kv_dq=kv,
    )
    return splash_library.make_splash_mha(
        splash_library.MultiHeadMask([MASKS[order]((rows, columns))] * heads),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name=SAVED,
        interpret=interpret,
    )
