"""How much a function multiplies: exact, from shapes alone, before anything is compiled or stored.

XLA's own cost analysis counts the body of a scanned stack once, and never sees a model that does not fit.
Here the traced program is walked instead: a scanned body counts once per iteration. One multiply-add is one
term of a matrix product or of a convolution, padding included, as the papers and the usual profilers count;
elementwise work is free. FLOPs are twice as many, though several papers (DiT, most of vision) print
multiply-adds under the name FLOPs.

Training costs more: a product of two arrays that both depend on trained parameters takes two more in the
backward pass, one for the gradient of each; a product with a frozen parameter or with data takes one more.
What rematerialisation computes again is no part of a model's cost.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

_OPAQUE = ("pallas_call", "custom_linear_solve", "ragged_dot_general")

Active = Sequence[bool]  # per variable: does it depend on what is differentiated?
Count = tuple[int, Active]  # multiply-adds, and which outputs are active


def multiply_adds(function: Callable, *abstract_args: Any) -> int:
    """Multiply-adds of one call of `function`.

    Of a conditional the dearest branch counts; of a `shard_map` the work of all devices together.

    Args:
      abstract_args: trees of arrays or of `jax.ShapeDtypeStruct`; nothing is computed.

    Raises:
      ValueError: the work does not follow from shapes (matrix products in a `while_loop`, whose number of
        iterations only the data tell, or a hand-written kernel).
    """
    jaxpr = jax.make_jaxpr(function)(*abstract_args).jaxpr
    return _count(jaxpr, [False] * len(jaxpr.invars))[0]


def training_multiply_adds(function: Callable, trained: Any, *abstract_args: Any) -> int:
    """Multiply-adds of `function(trained, *abstract_args)` and of its gradient with respect to `trained`.

    Raises:
      ValueError: as `multiply_adds`.
    """
    jaxpr = jax.make_jaxpr(function)(trained, *abstract_args).jaxpr
    leaves = len(jax.tree.leaves(trained))
    return _count(jaxpr, [index < leaves for index in range(len(jaxpr.invars))])[0]


def _count(jaxpr: core.Jaxpr, active: Active) -> Count:
    known = dict(zip(jaxpr.invars, active, strict=True))

    def is_active(atom: Any) -> bool:
        return not isinstance(atom, core.Literal) and known.get(atom, False)

    total = 0
    for eqn in jaxpr.eqns:
        count, outputs = _COUNTS.get(eqn.primitive.name, _inside)(eqn, [is_active(v) for v in eqn.invars])
        total += count
        for variable, output in zip(eqn.outvars, outputs, strict=True):
            known[variable] = output and jnp.issubdtype(variable.aval.dtype, jnp.inexact)
    return total, [is_active(variable) for variable in jaxpr.outvars]


def _dot_general(eqn: core.JaxprEqn, active: Active) -> Count:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    terms = math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
    return math.prod(eqn.outvars[0].aval.shape) * terms * (1 + sum(active)), [any(active)]


def _convolution(eqn: core.JaxprEqn, active: Active) -> Count:
    kernel = eqn.invars[1].aval.shape
    outputs = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
    products = math.prod(eqn.outvars[0].aval.shape) * math.prod(kernel) // outputs
    return products * (1 + sum(active)), [any(active)]


def _scan(eqn: core.JaxprEqn, active: Active) -> Count:
    body, constants, carries = eqn.params["jaxpr"].jaxpr, eqn.params["num_consts"], eqn.params["num_carry"]
    active, carried = list(active), slice(constants, constants + carries)
    while True:
        count, outputs = _count(body, active)
        grown = [a or b for a, b in zip(active[carried], outputs[:carries], strict=True)]
        if grown == active[carried]:
            return eqn.params["length"] * count, [*grown, *outputs[carries:]]
        active[carried] = grown  # what an iteration makes active is so in the next


def _cond(eqn: core.JaxprEqn, active: Active) -> Count:
    branches = [_count(jaxpr, active[1:]) for jaxpr in _jaxprs(eqn.params["branches"])]
    outputs = zip(*(outputs for _, outputs in branches), strict=True)
    return max(count for count, _ in branches), [any(output) for output in outputs]


def _while(eqn: core.JaxprEqn, active: Active) -> Count:
    if any(_count(jaxpr, [False] * len(jaxpr.invars))[0] for jaxpr in _bodies(eqn)):
        raise ValueError("a while_loop multiplies matrices: its cost depends on data, count its body instead")
    return 0, _spread(eqn, active)


def _shard_map(eqn: core.JaxprEqn, active: Active) -> Count:
    count, outputs = _inside(eqn, active)
    return eqn.params["mesh"].size * count, outputs


def _opaque(eqn: core.JaxprEqn, active: Active) -> Count:
    raise ValueError(f"the cost of a {eqn.primitive.name} does not follow from its shapes")


def _stop_gradient(eqn: core.JaxprEqn, active: Active) -> Count:
    return 0, [False]


def _inside(eqn: core.JaxprEqn, active: Active) -> Count:
    """jit, remat, custom derivatives and every other primitive that calls a program once; 0 for the rest."""
    bodies = list(_bodies(eqn))
    if len(bodies) == 1 and len(bodies[0].invars) == len(active):
        return _count(bodies[0], active)
    counts = [_count(body, [any(active)] * len(body.invars))[0] for body in bodies]
    return sum(counts), _spread(eqn, active)


def _spread(eqn: core.JaxprEqn, active: Active) -> Active:
    return [any(active)] * len(eqn.outvars)


def _bodies(eqn: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    for value in eqn.params.values():
        yield from _jaxprs(value)


def _jaxprs(value: Any) -> Iterator[core.Jaxpr]:
    match value:
        case core.Jaxpr():
            yield value
        case core.ClosedJaxpr():
            yield value.jaxpr
        case tuple() | list():
            for item in value:
                yield from _jaxprs(item)


_COUNTS = {
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "scan": _scan,
    "cond": _cond,
    "while": _while,
    "shard_map": _shard_map,
    "stop_gradient": _stop_gradient,
    **dict.fromkeys(_OPAQUE, _opaque),
}
