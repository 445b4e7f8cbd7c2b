"""The device mesh, and the two contexts a partitioned program runs in.

Mesh axes: `data` (batch rows, parameters copied), `fsdp` (batch rows, parameters split), `tensor` (heads, MLP
width, vocabulary split), `sequence` (tokens split).
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mmjax.errors import UserError
from mmjax.sharding.rules import AXES, BATCH_AXES, PRESETS, ShardingRules


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardingConfig:
    """How a run is spread over devices.

    Attributes:
      data, fsdp, tensor, sequence: sizes of the mesh axes; one may be -1, "whatever is left".
      rules: name of a preset of `mmjax.sharding.rules.PRESETS`.
      overrides: logical axis -> mesh axis or axes, replacing lines of the preset.
      max_replicated: largest share of parameter bytes that may stay replicated on a mesh that splits
        parameters.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    sequence: int = 1
    rules: str = "replicated"
    overrides: Mapping[str, str | tuple[str, ...]] = dataclasses.field(default_factory=dict)
    max_replicated: float = 0.25

    def mesh_sizes(self, devices: int) -> dict[str, int]:
        """Mesh axis -> size, for a number of devices.

        Raises:
          UserError: the axis sizes do not multiply to the number of devices.
        """
        sizes = {axis: getattr(self, axis) for axis in AXES}
        free = [axis for axis, size in sizes.items() if size == -1]
        fixed = math.prod(size for size in sizes.values() if size != -1)
        if len(free) > 1 or any(size < 1 for size in sizes.values() if size != -1):
            raise UserError(f"sharding axis sizes {sizes} must be positive, and at most one may be -1")
        if devices % fixed or (not free and fixed != devices):
            raise UserError(
                f"sharding axis sizes {sizes} do not fit {devices} devices; "
                f"set sharding.data=-1 and make the others divide {devices}"
            )
        return sizes | {axis: devices // fixed for axis in free}

    def make_mesh(self, devices: Sequence[jax.Device] | None = None) -> Mesh:
        """The mesh over `devices` (all of them by default); UserError where the sizes do not fit."""
        devices = jax.devices() if devices is None else devices
        sizes = tuple(self.mesh_sizes(len(devices)).values())
        return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)

    def make_rules(self) -> ShardingRules:
        """The preset with the overrides applied; UserError for an unknown preset or axis."""
        if self.rules not in PRESETS:
            raise UserError(f"sharding.rules={self.rules!r} is not one of {', '.join(PRESETS)}")
        return PRESETS[self.rules].override(self.overrides)


@contextlib.contextmanager
def activate(mesh: Mesh, rules: ShardingRules) -> Iterator[None]:
    """Everything traced inside sees the mesh AND the rules; with one alone a constraint would do nothing."""
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules.pairs()):
        yield


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch over (data, fsdp)."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def check_batch_size(mesh: Mesh, batch_size: int, *, accumulate: int = 1) -> None:
    """Raises a UserError unless every device gets the same number of rows in every microbatch."""
    shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    if batch_size % (shards * accumulate):
        raise UserError(
            f"training.batch_size={batch_size} must be divisible by {shards * accumulate} "
            f"({shards} batch shards (data x fsdp) times training.accumulate={accumulate})"
        )


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """The global batch from each process's local rows, laid over (data, fsdp)."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}
