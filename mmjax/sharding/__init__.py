"""How a run is spread over devices: mesh, rules, and the shardings that follow from them."""

from mmjax.sharding.mesh import (
    ShardingConfig,
    activate,
    batch_sharding,
    check_batch_size,
    put_batch,
    replicated,
    with_mesh,
)
from mmjax.sharding.rules import PRESETS, ShardingRules
from mmjax.sharding.state import check_replication, parameter_shardings

__all__ = [
    "PRESETS",
    "ShardingConfig",
    "ShardingRules",
    "activate",
    "batch_sharding",
    "check_batch_size",
    "check_replication",
    "parameter_shardings",
    "put_batch",
    "replicated",
    "with_mesh",
]
