"""Shardings of parameters from their logical axis names."""

import math
from typing import Any

import jax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mmjax.errors import UserError
from mmjax.sharding.rules import ShardingRules


def parameter_shardings(boxed: Any, mesh: Mesh, rules: ShardingRules) -> Any:
    """A NamedSharding per parameter.

    Args:
      boxed: `jax.eval_shape(system.init, key)`: abstract parameters in their `nn.LogicallyPartitioned` boxes.

    Raises:
      UserError: a collision or an indivisible dimension (`ShardingRules.spec`).
    """
    logical = flatten_dict(nn.get_partition_spec(boxed))
    shapes = flatten_dict(nn.meta.unbox(boxed))
    return unflatten_dict(
        {
            path: NamedSharding(
                mesh, rules.spec(logical[path] or PartitionSpec(), leaf.shape, mesh.shape, "/".join(path))
            )
            for path, leaf in shapes.items()
        }
    )


def check_replication(shapes: Any, shardings: Any, mesh: Mesh, *, max_replicated: float) -> float:
    """The share of parameter bytes that every device holds in full.

    Raises:
      UserError: the mesh splits parameters (fsdp or tensor above 1) yet more than `max_replicated` stays
        whole, which costs the memory the mesh was chosen to save.
    """
    whole = total = 0
    for leaf, sharding in zip(jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True):
        size = math.prod(leaf.shape) * leaf.dtype.itemsize
        total += size
        whole += size * sharding.is_fully_replicated
    share = whole / max(total, 1)
    if mesh.shape["fsdp"] * mesh.shape["tensor"] > 1 and share > max_replicated:
        raise UserError(
            f"sharding: {share:.0%} of the parameter bytes stay replicated on a mesh with "
            f"fsdp={mesh.shape['fsdp']} and tensor={mesh.shape['tensor']}; choose sharding.rules=fsdp (or "
            f"fsdp_tensor, fsdp_sequence), or allow it with "
            f"sharding.max_replicated={math.ceil(share * 100) / 100}"
        )
    return share
