"""What one run of a compiled program costs each device: FLOPs, memory traffic and collectives.

The compiler's own `cost_analysis` counts the body of a loop once, however often it runs; a scanned stack of
24 layers then looks like one. Here the optimized program is read, and a loop's body counts as often as it
runs. Loops whose number of iterations only data tell (decoding) stand apart, at the cost of one iteration.

Bytes are counted twice over. `bytes_accessed` follows the compiler's convention: operands and results of
every instruction that is not inside a fusion, slices at their own size. `hbm_bytes` counts those among them
that live in HBM: the TPU compiler also places arrays in on-chip memory, whose traffic costs HBM nothing. What
is kept in the host's memory (rematerialisation by offloading) is counted as `host_bytes`.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

import numpy as np

from mmjax.sharding.collectives import Collective, kind_of, read
from mmjax.sharding.hlo import HBM, HOST, Array, Computation, Instruction, Module, parse

_ONE_EACH = re.compile(
    "abs|add|and|ceil|clamp|compare|convert|divide|floor|is-finite|maximum|minimum|multiply|negate|not|or|popcnt|"
    "remainder|round-.*|select|shift-.*|sign|subtract|xor"
)
_TRANSCENDENTAL = re.compile(
    "atan2|cbrt|cosine|erf|exponential|exponential-minus-one|log|log-plus-one|logistic|power|rsqrt|sine|sqrt|"
    "tan|tanh"
)
_FREE = re.compile(
    "parameter|constant|tuple|get-tuple-element|bitcast|after-all|iota|partition-id|replica-id|"
    "optimization-barrier|add-dependency|async-update|.*-done"
)
_SLICES = ("dynamic-slice", "slice", "gather")
_ATTENTION = re.compile("splash_mha_(fwd|dq|dkv)")
_PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}  # T x S x K each; the backward kernels compute the weights again
_ESTIMATE = re.compile(r'"cost_estimate":\{[^}]*?"flops":"?(\d+)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one device.

    Attributes:
      flops: all arithmetic but transcendentals, as the compiler counts it.
      matmul_flops: of those, matrix products and convolutions.
      collectives: exchange -> how often.
      loops: one iteration of each loop whose number of iterations only data tell; not in the other figures.
    """

    flops: float = 0.0
    matmul_flops: float = 0.0
    transcendentals: float = 0.0
    bytes_accessed: float = 0.0
    hbm_bytes: float = 0.0
    host_bytes: float = 0.0
    collectives: Mapping[Collective, float] = dataclasses.field(default_factory=dict)
    loops: tuple["Cost", ...] = ()

    def __add__(self, other: "Cost") -> "Cost":
        collectives = dict(self.collectives)
        for exchange, count in other.collectives.items():
            collectives[exchange] = collectives.get(exchange, 0) + count
        numbers = {name: getattr(self, name) + getattr(other, name) for name in _NUMBERS}
        return Cost(**numbers, collectives=collectives, loops=self.loops + other.loops)

    def times(self, count: float) -> "Cost":
        """The cost of `count` runs."""
        numbers = {name: getattr(self, name) * count for name in _NUMBERS}
        collectives = {exchange: n * count for exchange, n in self.collectives.items()}
        return Cost(**numbers, collectives=collectives, loops=self.loops)


_NUMBERS = ("flops", "matmul_flops", "transcendentals", "bytes_accessed", "hbm_bytes", "host_bytes")


def measure(text: str, *, devices: int = 1, count_loops: bool = True) -> Cost:
    """The cost of one run of the program whose `Compiled.as_text()` is given.

    Args:
      devices: that the program was compiled for.
      count_loops: False counts every loop's body once, as the compiler does.
    """
    return _Reader(parse(text), devices, count_loops).cost_of_entry()


class _Reader:
    def __init__(self, module: Module, devices: int, count_loops: bool):
        self.module, self.devices, self.count_loops = module, devices, count_loops
        self.of_computation = functools.cache(self._of_computation)

    def cost_of_entry(self) -> Cost:
        return self.of_computation(self.module.entry)

    def _of_computation(self, name: str) -> Cost:
        """A computation whose instructions run one by one, with buffers between them."""
        computation, total, seen = self.module.computations[name], Cost(), set()
        for instruction in computation.instructions.values():
            if not _FREE.fullmatch(instruction.opcode):
                total += self._of_instruction(computation, instruction)
                total += self._exchanges(computation, instruction, seen)
        return total

    def _of_instruction(self, at: Computation, i: Instruction) -> Cost:
        if i.opcode == "while":
            parts = [i.attribute(name).lstrip("%") for name in ("body", "condition")]
            once = self.of_computation(parts[0]) + self.of_computation(parts[1])
            trips = self.module.trip_count(at, i) if self.count_loops else 1
            return Cost(loops=(once,)) if trips is None else once.times(trips)
        if i.opcode == "conditional":
            return max((self.of_computation(name) for name in i.branches), key=lambda cost: cost.flops)
        if i.opcode in ("call", "async-start") and i.called:
            return self.of_computation(i.called[0])
        flops = self._arithmetic(at, i)
        return flops + _traffic(self.module, at, i)

    def _arithmetic(self, at: Computation, i: Instruction) -> Cost:
        elements = i.arrays[0].elements if i.arrays else 0
        if i.opcode == "fusion":
            inner = self.module.computations[i.called[0]]
            parts = (self._arithmetic(inner, each) for each in inner.instructions.values())
            return functools.reduce(Cost.__add__, parts, Cost())
        if i.opcode in ("dot", "convolution"):
            shapes = [at.instructions[name].arrays[0] for name in i.operands]
            flops = _dot(i, shapes[0]) if i.opcode == "dot" else _convolution(i, *shapes)
            return Cost(flops=flops, matmul_flops=flops)
        if i.opcode in ("reduce", "reduce-window"):
            read = at.instructions[i.operands[0]].arrays[0].elements
            return Cost(flops=read - elements if i.opcode == "reduce" else read)
        if i.opcode == "custom-call":
            flops = _kernel(at, i)
            return Cost(flops=flops, matmul_flops=flops)
        if _TRANSCENDENTAL.fullmatch(i.opcode):
            return Cost(transcendentals=elements)
        return Cost(flops=elements) if _ONE_EACH.fullmatch(i.opcode) else Cost()

    def _exchanges(self, at: Computation, i: Instruction, seen: set) -> Cost:
        """The collectives an instruction starts.

        One that the compiler has spread over several fusions, to overlap it with their work, carries the same
        channel and chain in all of them; it counts once.
        """
        if i.opcode != "fusion":
            return self._exchange(at, i) if kind_of(i) else Cost()
        inner, total = self.module.computations[i.called[0]], Cost()
        for each in inner.instructions.values():
            if each.opcode == "fusion":
                total += self._exchanges(inner, each, seen)
            elif kind_of(each):
                chain = re.search(r'chain_id="(\d+)"', each.attributes)
                key = (each.attribute("channel_id"), chain and chain[1])
                if chain is None or key not in seen:
                    total += self._exchange(inner, each, scattered="all-reduce-scatter" in inner.name)
                seen.add(key)
        return total

    def _exchange(self, at: Computation, i: Instruction, *, scattered: bool = False) -> Cost:
        size = sum(array.bytes for name in i.operands for array in at.instructions[name].arrays)
        found = read(i, size, devices=self.devices)
        if found is None:
            return Cost()
        if scattered:  # an all-reduce fused with the slice that each device keeps
            found = dataclasses.replace(found, kind="reduce-scatter")
        return Cost(collectives={found: 1.0})


def _kernel(at: Computation, i: Instruction) -> float:
    """What a hand-written kernel declares, or the products of splash attention, which declares nothing: of
    queries [..., T, K] and keys [..., S, K] as if each saw all, as model FLOPs are counted too."""
    if found := _ESTIMATE.search(i.attributes):
        return float(found[1])
    kernel = _ATTENTION.match(i.name)
    if not kernel:
        return 0.0
    arrays = (array for name in i.operands for array in at.instructions[name].arrays)
    query, key = [a.sizes for a in arrays if a.dtype in ("bf16", "f32") and len(a.sizes) >= 3][:2]
    return 2.0 * _PRODUCTS[kernel[1]] * math.prod(query) * key[-2]


def _dot(i: Instruction, left: Array) -> float:
    contracted = [int(axis) for axis in re.findall(r"\d+", i.attribute("lhs_contracting_dims"))]
    return 2.0 * i.arrays[0].elements * math.prod(left.sizes[axis] for axis in contracted)


def _convolution(i: Instruction, left: Array, right: Array) -> float:
    """Two per multiply-add that does not meet padding.

    A TPU program writes all its matrix products so; the windows and dilations of batched ones have few real
    positions.
    """
    inputs, kernel, outputs = re.match(r"(\w+)_(\w+)->(\w+)", i.attribute("dim_labels")).groups()
    window = {
        name: value.split("x") for name, value in re.findall(r"(\w+)=([\d_x\-]+)", i.attribute("window"))
    }
    positions = 1
    for axis in filter(str.isdigit, kernel):
        at = int(axis)

        def setting(name: str, default: str, at: int = at) -> str:
            return window[name][at] if name in window else default

        positions *= _real_positions(
            left.sizes[inputs.index(axis)],
            right.sizes[kernel.index(axis)],
            i.arrays[0].sizes[outputs.index(axis)],
            stride=int(setting("stride", "1")),
            before=int(setting("pad", "0_0").split("_")[0]),
            spread=int(setting("lhs_dilate", "1")),
            dilation=int(setting("rhs_dilate", "1")),
        )
    groups = int(i.attribute("batch_group_count") or 1)
    size = left.sizes[inputs.index("b")] // groups
    return 2.0 * right.sizes[kernel.index("i")] * right.sizes[kernel.index("o")] * size * positions


def _real_positions(
    inputs: int, kernel: int, outputs: int, *, stride: int, before: int, spread: int, dilation: int
) -> int:
    """Pairs (output, kernel position) that meet an input rather than padding or a gap."""
    total, at = 0, np.arange(outputs, dtype=np.int64) * stride - before
    for position in range(kernel):
        where = at + position * dilation
        total += int(np.sum((where >= 0) & (where % spread == 0) & (where // spread < inputs)))
    return total


def _traffic(module: Module, at: Computation, i: Instruction) -> Cost:
    """Bytes between buffers: what is read of each operand, and what is written of each result."""
    results, operands = i.arrays, [at.instructions[name].arrays for name in i.operands]
    if i.opcode in ("copy-start", "slice-start"):  # (to, from, context) and ((from), to, context)
        pair = results[:2]
        moved = min(array.bytes for array in pair)
        return _accessed([(moved, array.space) for array in pair])
    if i.opcode == "dynamic-update-slice-start":  # ((to, update, ...), to, context)
        return _accessed([(results[1].bytes, results[1].space), (results[1].bytes, results[0].space)])
    if i.opcode == "dynamic-slice-start":  # ((from, ...), result, context)
        return _accessed([(results[-2].bytes, results[0].space), (results[-2].bytes, results[-2].space)])
    if kind_of(i):  # an asynchronous start repeats its operands in its result
        read = [(array.bytes, array.space) for arrays in operands for array in arrays]
        written = results[-1:] if i.opcode.endswith("-start") else results
        return _accessed(read + [(array.bytes, array.space) for array in written])
    if i.opcode == "fusion":
        return _accessed(_fusion_traffic(module, i, operands))
    if i.opcode == "dynamic-update-slice":
        size = operands[1][0].bytes
        return _accessed([(size, operands[1][0].space), (size, results[0].space)])
    if i.opcode in _SLICES:
        size = results[0].bytes
        return _accessed([(size, operands[0][0].space), (size, results[0].space)])
    if i.opcode == "custom-call" and "AllocateBuffer" in i.attributes:
        return Cost()
    arrays = [array for arrays in [*operands, results] for array in arrays]
    return _accessed([(array.bytes, array.space) for array in arrays])


def _fusion_traffic(module: Module, i: Instruction, operands: list) -> list[tuple[int, int]]:
    inner, found = module.computations[i.called[0]], []
    for parameter, arrays in zip(inner.parameters, operands, strict=False):
        if arrays:
            found.append((_bytes_read(module, inner, parameter.name, arrays[0].bytes), arrays[0].space))
    for index, array in enumerate(i.arrays):
        found.append((_bytes_written(module, inner, inner.root, index, array.bytes), array.space))
    return found


def _bytes_read(module: Module, inner: Computation, name: str, size: int) -> int:
    """Of a parameter of a fusion: only the slices taken, nothing of what is updated in place or passed on."""
    total = 0
    for user in inner.users.get(name, ()):
        first = user.operands[0] == name
        if user.opcode in _SLICES and first:
            total += user.arrays[0].bytes
        elif user.opcode == "bitcast":
            total += _bytes_read(module, inner, user.name, size)
        elif user.opcode == "fusion":
            nested = module.computations[user.called[0]]
            for parameter, operand in zip(nested.parameters, user.operands, strict=False):
                if operand == name:
                    total += _bytes_read(module, nested, parameter.name, size)
        elif not (
            user.opcode == "tuple" or (user.opcode == "dynamic-update-slice" and first) or _moves(user)
        ):
            return size
    return min(total, size)


def _bytes_written(module: Module, inner: Computation, name: str, index: int, size: int) -> int:
    """Of element `index` of a result of a fusion: only the slices updated, nothing of what is passed on."""
    found = inner.instructions[name]
    if found.opcode == "parameter" or _moves(found):
        return 0
    if found.opcode == "dynamic-update-slice":
        return inner.instructions[found.operands[1]].arrays[0].bytes
    if found.opcode == "tuple":
        return _bytes_written(module, inner, found.operands[index], 0, size)
    if found.opcode == "bitcast":
        return _bytes_written(module, inner, found.operands[0], index, size)
    if found.opcode == "get-tuple-element":
        return _bytes_written(module, inner, found.operands[0], int(found.attribute("index")), size)
    if found.opcode == "fusion":
        nested = module.computations[found.called[0]]
        return _bytes_written(module, nested, nested.root, index, size)
    return size


def _moves(i: Instruction) -> bool:
    """Whether an instruction is a part of an exchange, whose traffic counts by itself."""
    return kind_of(i) is not None or "AsyncCollective" in i.attributes


def _accessed(parts: list[tuple[int, int]]) -> Cost:
    def within(memory: int) -> int:
        return sum(size for size, space in parts if space == memory)

    total = sum(size for size, _ in parts)
    return Cost(bytes_accessed=total, hbm_bytes=within(HBM), host_bytes=within(HOST))
