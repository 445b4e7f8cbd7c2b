"""Described TPU slices: devices that a program can be compiled for on a machine that has none.

libtpu brings the TPU compiler as a Python package; given a topology it compiles ahead of time, so what is
learned about a program here is what the pod would do with it.
"""

import dataclasses
import math
import os
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from mmjax.errors import UserError
from mmjax.sharding.chips import Chip, parse_topology

# libtpu asks the metadata server of a TPU VM for what these say, and locks the chips of one.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
    """Slices of one shape.

    Attributes:
      sides: of one slice, in chips.
      slices: equal slices, joined by the data-center network.
      devices: as JAX numbers them.
    """

    name: str
    chip: Chip
    sides: tuple[int, ...]
    slices: int
    devices: Sequence[jax.Device] = dataclasses.field(repr=False)

    @property
    def chips(self) -> int:
        return math.prod(self.sides) * self.slices


def describe(name: str, *, slices: int = 1) -> Topology:
    """The topology `name`, such as 'v5e:16x16', with devices to compile for.

    Raises:
      UserError: there is no such topology, or libtpu is not installed or cannot describe it.
    """
    chip, sides = parse_topology(name)
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    settings = {"num_slices": slices} if slices > 1 else {}
    if math.prod(sides) == 1:
        settings["chips_per_host_bounds"] = (1, 1, 1)
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name, **settings).devices
    except (RuntimeError, jax.errors.JaxRuntimeError) as error:
        if not installed():
            raise UserError(
                f"compiling for {name} needs the TPU compiler: pip install 'mmjax[tpu]'"
            ) from error
        raise UserError(
            f"--topology {name}: the TPU compiler refuses it ({str(error).splitlines()[0]}); "
            f"try one of {chip.examples}"
        ) from error
    return Topology(name=name, chip=chip, sides=sides, slices=slices, devices=devices)


def installed() -> bool:
    """Whether the TPU compiler is there."""
    try:
        import libtpu  # noqa: F401
    except ImportError:
        return False
    return True
