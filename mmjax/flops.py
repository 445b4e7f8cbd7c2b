"""How much a function multiplies: exact, from shapes alone, before anything is compiled or stored.

XLA's own cost analysis counts the body of a scanned stack once, and never sees a model that does not fit.
Here the traced program is walked instead: a scanned body counts once per iteration. One multiply-add is one
term of a matrix product or of a convolution, padding included, as the papers and the usual profilers count;
elementwise work is free. FLOPs are twice as many, though several papers (DiT, most of vision) print
multiply-adds under the name FLOPs.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core

_OPAQUE = ("pallas_call", "custom_linear_solve", "ragged_dot_general")


def multiply_adds(function: Callable, *abstract_args: Any) -> int:
    """Multiply-adds of one call of `function`.

    Of a conditional the dearest branch counts; of a `shard_map` the work of all devices together.

    Args:
      abstract_args: trees of arrays or of `jax.ShapeDtypeStruct`; nothing is computed.

    Raises:
      ValueError: the work does not follow from shapes (matrix products in a `while_loop`, whose number of
        iterations only the data tell, or a hand-written kernel).
    """
    return _count(jax.make_jaxpr(function)(*abstract_args).jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_COUNTS.get(eqn.primitive.name, _inside)(eqn) for eqn in jaxpr.eqns)


def _dot_general(eqn: core.JaxprEqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    terms = math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
    return math.prod(eqn.outvars[0].aval.shape) * terms


def _convolution(eqn: core.JaxprEqn) -> int:
    kernel = eqn.invars[1].aval.shape
    outputs = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
    return math.prod(eqn.outvars[0].aval.shape) * math.prod(kernel) // outputs


def _scan(eqn: core.JaxprEqn) -> int:
    return eqn.params["length"] * _inside(eqn)


def _cond(eqn: core.JaxprEqn) -> int:
    return max(map(_count, _jaxprs(eqn.params["branches"])))


def _while(eqn: core.JaxprEqn) -> int:
    if _inside(eqn):
        raise ValueError("a while_loop multiplies matrices: its cost depends on data, count its body instead")
    return 0


def _shard_map(eqn: core.JaxprEqn) -> int:
    return eqn.params["mesh"].size * _inside(eqn)


def _opaque(eqn: core.JaxprEqn) -> int:
    raise ValueError(f"the cost of a {eqn.primitive.name} does not follow from its shapes")


def _inside(eqn: core.JaxprEqn) -> int:
    """jit, remat, custom derivatives and every other primitive that calls a program once; 0 for the rest."""
    return sum(_count(jaxpr) for value in eqn.params.values() for jaxpr in _jaxprs(value))


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
    **dict.fromkeys(_OPAQUE, _opaque),
}
