"""Logical axis names on parameters and activations.

Layers name the axes of what they create ('embed', 'heads', 'mlp', ...); which mesh axis each name means is
decided elsewhere (`mmjax.sharding`), so a layer never changes when a run is partitioned differently.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

fan_in = nn.initializers.lecun_normal


def scaled_fan_in(scale: float) -> nn.initializers.Initializer:
    """Fan-in initialisation with standard deviation multiplied by `scale`."""
    return nn.initializers.variance_scaling(scale**2, "fan_in", "truncated_normal")


def named(init: nn.initializers.Initializer, *axes: str | None) -> nn.initializers.Initializer:
    """An initializer whose result carries the logical names of its axes."""
    return nn.with_logical_partitioning(init, axes)


class Dense(nn.Module):
    """A linear map over the last `contract` axes, with named kernel axes.

    Attributes:
      features: output axes, such as (width,) or (heads, head_dim).
      axes: logical names of the kernel's axes, inputs first.
      init: of the kernel, seen as one matrix [inputs, outputs].
    """

    features: tuple[int, ...]
    axes: tuple[str | None, ...]
    contract: int = 1
    bias: bool = True
    init: nn.initializers.Initializer = fan_in()
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float[..., *inputs] -> float[..., *features]."""
        inputs = x.shape[-self.contract :]

        def kernel_init(key, shape, dtype=jnp.float32):
            return self.init(key, (math.prod(inputs), math.prod(self.features)), dtype).reshape(shape)

        kernel = self.param("kernel", named(kernel_init, *self.axes), (*inputs, *self.features))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        bias = 0
        if self.bias:
            init = named(nn.initializers.zeros, *self.axes[self.contract :])
            bias = self.param("bias", init, self.features).astype(self.dtype)
        if self._split_inside():
            return jnp.tensordot(x, kernel, axes=self.contract) + bias
        # As one product of matrices. Of tensors, a TPU lays its output out head by head, to be laid out again
        # for whatever reads it. On CPU the kernel's gradient would be a sum over several axes, for which XLA
        # writes an operand out transposed, computing again all that it is fused from: in deep residual stacks
        # more than half of a step. There the rows are one axis too; elsewhere each has its own sharding.
        lead, width = x.shape[: -self.contract], math.prod(inputs)
        rows = (math.prod(lead),) if platform() == "cpu" else lead
        y = x.reshape(*rows, width) @ kernel.reshape(width, -1) + jnp.reshape(bias, -1)
        return y.reshape(*lead, *self.features)

    def _split_inside(self) -> bool:
        """Whether the axes of a side do not merge into one without an exchange: another than the first is
        split over devices."""
        sides = self.axes[: self.contract], self.axes[self.contract :]
        return any(mesh_axes(name) for side in sides for name in side[1:])


def dense(features: int | Sequence[int], axes: Sequence[str | None], **settings) -> Dense:
    """`Dense`, for one output width or several output axes."""
    features = (features,) if isinstance(features, int) else tuple(features)
    return Dense(features, tuple(axes), **settings)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Asks the partitioner to lay activation `x` out by the logical names of its axes.

    Linen's own helper does nothing unless it finds both a mesh and rules; finding only the mesh is a bug that
    costs memory in silence, so here it is an error. A sequence that does not split evenly (one decoded token,
    197 patches) stays whole.

    Raises:
      RuntimeError: a mesh of several devices is set but no logical axis rules are.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    if not nn.get_logical_axis_rules():
        raise RuntimeError("a mesh is set without logical axis rules: enter mmjax.sharding.activate instead")
    if "sequence" in axes and x.shape[axes.index("sequence")] % mesh_size("sequence"):
        axes = tuple(None if axis == "sequence" else axis for axis in axes)
    return nn.with_logical_constraint(x, axes)


def mesh_axes(name: str) -> tuple[str, ...]:
    """The mesh axes of several devices that the logical axis `name` is split over; () without a mesh."""
    mesh, rules = jax.sharding.get_abstract_mesh(), dict(nn.get_logical_axis_rules())
    axes = rules.get(name) or ()
    axes = (axes,) if isinstance(axes, str) else axes
    return tuple(axis for axis in axes if mesh.shape.get(axis, 1) > 1)


def mesh_size(name: str) -> int:
    """How many devices the logical axis `name` is split over."""
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape[axis] for axis in mesh_axes(name))


def platform() -> str:
    """'tpu', 'gpu' or 'cpu': what the mesh is made of, here or elsewhere; without one the default backend."""
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
    return device.platform if device is not None else jax.default_backend()
