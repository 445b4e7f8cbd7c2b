"""The device mesh, and the two contexts a partitioned program runs in.

Mesh axes: `data` (batch rows, parameters copied), `fsdp` (batch rows, parameters split), `tensor` (heads, MLP
width, vocabulary split), `sequence` (tokens split).
"""

import contextlib
import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from flax import linen as nn
from jax.experimental import mesh_utils
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
      across_slices: the mesh axis that joins slices of TPUs, where there are several: its outermost steps go
        over the data-center network, all else stays inside a slice.
      max_replicated: largest share of parameter bytes that may stay replicated on a mesh that splits
        parameters.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    sequence: int = 1
    rules: str = "replicated"
    overrides: Mapping[str, str | tuple[str, ...]] = dataclasses.field(default_factory=dict)
    across_slices: str = "data"
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
                f"sharding axis sizes {_written(sizes)} do not fit {devices} devices; the nearest that fits "
                f"is {_written(_nearest_mesh(sizes, devices))}"
            )
        return sizes | {axis: devices // fixed for axis in free}

    @property
    def least_devices(self) -> int:
        """The smallest number of devices that the sizes fit."""
        return math.prod(max(getattr(self, axis), 1) for axis in AXES)

    def make_mesh(self, devices: Sequence[jax.Device] | None = None) -> Mesh:
        """The mesh over `devices`, all of this machine by default.

        On TPUs neighbours in the mesh are neighbours in the torus as far as possible; several slices are
        joined along `across_slices`.

        Raises:
          UserError: the sizes do not fit the devices or their slices.
        """
        devices = jax.devices() if devices is None else devices
        sizes = self.mesh_sizes(len(devices))
        slices = len({getattr(device, "slice_index", None) for device in devices})
        shape = tuple(sizes.values())
        if slices == 1:
            grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
        else:
            across = tuple(slices if axis == self._slice_axis(sizes, slices) else 1 for axis in AXES)
            inside = tuple(size // count for size, count in zip(shape, across, strict=True))
            grid = mesh_utils.create_hybrid_device_mesh(
                inside, across, devices, allow_split_physical_axes=True
            )
        return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))

    def _slice_axis(self, sizes: Mapping[str, int], slices: int) -> str:
        if self.across_slices not in AXES:
            raise UserError(f"sharding.across_slices={self.across_slices!r} is not one of {', '.join(AXES)}")
        if sizes[self.across_slices] % slices:
            raise UserError(
                f"sharding.{self.across_slices}={sizes[self.across_slices]} cannot run over {slices} slices; "
                f"make it a multiple of {slices}, or choose another axis with sharding.across_slices"
            )
        return self.across_slices

    def make_rules(self) -> ShardingRules:
        """The preset with the overrides applied; UserError for an unknown preset or axis."""
        if self.rules not in PRESETS:
            raise UserError(f"sharding.rules={self.rules!r} is not one of {', '.join(PRESETS)}")
        return PRESETS[self.rules].override(self.overrides)


def with_mesh(config: ShardingConfig, text: str | None) -> ShardingConfig:
    """The config with the axis sizes of 'data=4,fsdp=8' in place of its own; what is not named becomes 1.

    Raises:
      UserError: an unknown axis, or a size that is no integer.
    """
    if not text:
        return config
    sizes = dict.fromkeys(AXES, 1)
    for part in text.split(","):
        axis, _, size = part.strip().partition("=")
        if axis not in AXES:
            near = difflib.get_close_matches(axis, AXES, 1, 0.0)[0]
            raise UserError(
                f"--mesh {text}: {axis!r} is not a mesh axis, did you mean {near}? There are {AXES}"
            )
        if not size.removeprefix("-").isdigit():
            raise UserError(f"--mesh {text}: write the size of {axis} as in {axis}=4")
        sizes[axis] = int(size)
    return dataclasses.replace(config, **sizes)


def _written(sizes: Mapping[str, int]) -> str:
    return ",".join(f"{axis}={size}" for axis, size in sizes.items() if size != 1) or "data=1"


def _nearest_mesh(sizes: Mapping[str, int], devices: int) -> dict[str, int]:
    """Axis sizes that multiply to `devices`, each as near to what was asked for as its turn allows."""
    found, left = {}, devices
    for axis in reversed(AXES[1:]):
        fits = [size for size in range(1, left + 1) if left % size == 0]
        asked = max(sizes[axis], 1)
        found[axis] = min(fits, key=lambda size: abs(math.log(size / asked)))
        left //= found[axis]
    return {"data": left} | dict(reversed(found.items()))


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
    parts = shards * accumulate
    if batch_size % parts:
        raise UserError(
            f"training.batch_size={batch_size} must be divisible by {parts} ({shards} batch shards (data x "
            f"fsdp) times training.accumulate={accumulate}); the nearest is "
            f"{max(round(batch_size / parts), 1) * parts}"
        )


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """The global batch from each process's local rows, laid over (data, fsdp)."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}
