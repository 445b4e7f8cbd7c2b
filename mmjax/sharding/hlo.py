"""Reading the text of a compiled program: computations, instructions, shapes, and how often a loop runs.

The text is what `jax.stages.Compiled.as_text()` gives; its grammar is documented with XLA's operation
semantics. Only what costs need is read.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.+?) ([a-z][a-z0-9\-]*)\((.*)$")
_BEGINS = re.compile(r"^  (?:ROOT )?%?[\w.\-]+ = ")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<= ]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_COMMENT = re.compile(r"/\*.*?\*/")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+)")
_TRIP_COUNT = re.compile(r'known_trip_count"?:\s*\{"n":\s*"?(\d+)')
_BITS = {"pred": 8, "token": 0, "opaque": 0, "s4": 4, "u4": 4, "s2": 2, "u2": 2, "c64": 64, "c128": 128}

HBM, HOST = 0, 5  # memory spaces


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of a shape. `space` is the memory it lives in: `HBM`, `HOST`, or another, on the chip."""

    dtype: str
    sizes: tuple[int, ...]
    space: int = HBM

    @property
    def elements(self) -> int:
        return math.prod(self.sizes)

    @property
    def bytes(self) -> int:
        """Without the padding of tiles."""
        digits = re.search(r"\d+", self.dtype)  # bf16, f8e4m3fn, s32; the first number is the width
        return -(-self.elements * _BITS.get(self.dtype, int(digits[0]) if digits else 0) // 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """`name = shape opcode(operands), attributes`."""

    name: str
    shape: str
    opcode: str
    arguments: str
    attributes: str

    @functools.cached_property
    def arrays(self) -> tuple[Array, ...]:
        """The result, tuples flattened."""
        return tuple(map(_array, _ARRAY.finditer(self.shape)))

    @functools.cached_property
    def operands(self) -> tuple[str, ...]:
        return () if self.opcode in ("constant", "parameter") else tuple(_NAME.findall(self.arguments))

    @functools.cached_property
    def called(self) -> tuple[str, ...]:
        """Names of the computations it runs, but for a while loop's condition once each."""
        return tuple(_CALLED.findall(self.attributes))

    @property
    def branches(self) -> tuple[str, ...]:
        """The computations of a conditional."""
        found = _BRANCHES.findall(self.attributes)
        return tuple(name for many, one in found for name in (_NAME.findall(many) if many else [one]))

    def attribute(self, name: str) -> str:
        """The value of `name=value` up to the next comma outside brackets; '' where there is none."""
        found = re.search(rf"\b{name}=", self.attributes)
        if not found:
            return ""
        depth, start = 0, found.end()
        for at in range(start, len(self.attributes)):
            character = self.attributes[at]
            depth += (character in "{[(") - (character in "}])")
            if depth < 0 or (depth == 0 and character == ","):
                return self.attributes[start:at]
        return self.attributes[start:]


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, in order; `root` is the result."""

    name: str
    instructions: Mapping[str, Instruction]
    root: str

    @functools.cached_property
    def users(self) -> Mapping[str, tuple[Instruction, ...]]:
        users: dict[str, list[Instruction]] = {}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                users.setdefault(operand, []).append(instruction)
        return {name: tuple(found) for name, found in users.items()}

    @functools.cached_property
    def parameters(self) -> tuple[Instruction, ...]:
        found = [i for i in self.instructions.values() if i.opcode == "parameter"]
        return tuple(sorted(found, key=lambda i: int(i.arguments)))


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program."""

    computations: Mapping[str, Computation]
    entry: str

    def trip_count(self, inside: Computation, loop: Instruction) -> int | None:
        """How often the body of a while loop runs; None where data decide.

        Either the compiler has written it down, or the loop counts: it starts at a constant, adds a constant
        and compares with a constant.
        """
        known = _TRIP_COUNT.search(loop.attributes)
        if known:
            return int(known[1])
        condition = self.computations[loop.attribute("condition").lstrip("%")]
        body = self.computations[loop.attribute("body").lstrip("%")]
        test = self._comparison(condition, condition.root, {})
        if test is None:
            return None
        direction, left, right = test
        if left[0] is None:  # constant < counter
            direction, left, right = _SWAPPED[direction], right, left
        if left[0] is None or right[0] is not None:
            return None
        step = self._element(body, body.root, left[0], {})
        start = self._element(inside, loop.operands[0], left[0], {})
        if step is None or step[0] != left[0] or start is None or start[0] is not None:
            return None
        return _count(direction, start[1] + left[1], right[1], step[1])

    # A value is (index, offset): the loop's state at `index` plus an offset, or (None, constant).

    def _comparison(self, at: Computation, name: str, bound: Mapping) -> tuple | None:
        found = at.instructions[name]
        if found.opcode == "compare":
            left, right = (self._value(at, operand, bound) for operand in found.operands)
            return None if left is None or right is None else (found.attribute("direction"), left, right)
        if found.opcode in ("fusion", "call"):
            inner, bound = self._enter(at, found, bound)
            return self._comparison(inner, inner.root, bound)
        return self._comparison(at, found.operands[0], bound) if found.opcode in _SAME else None

    def _value(self, at: Computation, name: str, bound: Mapping) -> tuple | None:
        found = at.instructions[name]
        if found.opcode == "constant":
            return (None, int(found.arguments)) if re.fullmatch(r"-?\d+", found.arguments) else None
        if found.opcode == "parameter":
            return bound.get(name)
        if found.opcode == "get-tuple-element":
            return self._element(at, found.operands[0], int(found.attribute("index")), bound)
        if found.opcode in ("fusion", "call"):
            inner, bound = self._enter(at, found, bound)
            return self._value(inner, inner.root, bound)
        if found.opcode in _SAME:
            return self._value(at, found.operands[0], bound)
        if found.opcode in ("add", "subtract"):
            left, right = (self._value(at, operand, bound) for operand in found.operands)
            if left is None or right is None:
                return None
            if found.opcode == "subtract":
                return None if right[0] is not None else (left[0], left[1] - right[1])
            if None not in (left[0], right[0]):
                return None
            return (right[0] if left[0] is None else left[0], left[1] + right[1])
        return None

    def _element(self, at: Computation, name: str, index: int, bound: Mapping) -> tuple | None:
        found = at.instructions[name]
        if found.opcode == "tuple":
            return self._value(at, found.operands[index], bound)
        if found.opcode == "parameter":
            return (index, 0)
        if found.opcode == "fusion":
            inner, bound = self._enter(at, found, bound)
            return self._element(inner, inner.root, index, bound)
        return self._element(at, found.operands[0], index, bound) if found.opcode in _SAME else None

    def _enter(self, at: Computation, call: Instruction, bound: Mapping) -> tuple[Computation, Mapping]:
        inner = self.computations[call.called[0]]
        values = (self._value(at, operand, bound) for operand in call.operands)
        return inner, {p.name: v for p, v in zip(inner.parameters, values, strict=False)}


_SAME = ("copy", "bitcast", "convert", "reshape", "copy-start", "copy-done", "optimization-barrier")
_SWAPPED = {"LT": "GT", "GT": "LT", "LE": "GE", "GE": "LE", "NE": "NE", "EQ": "EQ"}


def _count(direction: str, start: int, limit: int, step: int) -> int | None:
    if step == 0 or direction == "EQ":
        return None
    if direction == "NE":
        return (limit - start) // step if (limit - start) % step == 0 else None
    if direction in ("GT", "GE"):
        start, limit, step = -start, -limit, -step
    if step < 0:
        return None
    return max(-(-(limit + (direction in ("LE", "GE")) - start) // step), 0)


def _array(found: re.Match) -> Array:
    sizes = tuple(int(size.strip(" <=")) for size in found[2].split(",") if size.strip())
    space = re.search(r"S\((\d+)\)", found[3] or "")
    return Array(found[1], sizes, int(space[1]) if space else HBM)


def parse(text: str) -> Module:
    """The module of `Compiled.as_text()`.

    Raises:
      ValueError: there is no entry computation: this is not the text of a compiled program.
    """
    computations, entry = {}, None
    name, instructions, root = None, {}, ""
    for line in _joined(text):
        if name is None:
            found = _COMPUTATION.match(line)
            if found:
                name, instructions, root = found[2], {}, ""
                entry = name if found[1] else entry
        elif line.startswith("}"):
            computations[name] = Computation(name, instructions, root)
            name = None
        elif found := _INSTRUCTION.match(line):
            is_root, own, shape, opcode, rest = found.groups()
            end = _closing(rest)
            shape, arguments = (_COMMENT.sub("", part) for part in (shape, rest[:end]))
            instructions[own] = Instruction(own, shape, opcode, arguments, rest[end + 1 :])
            root = own if is_root else root
    if entry is None:
        raise ValueError("this text holds no entry computation of a compiled program")
    return Module(computations, entry)


def _joined(text: str) -> Iterator[str]:
    """Lines, with those that an attribute runs over (the metadata of a kernel) put together.

    Such an attribute may have a line that looks like the end of a computation; that comes behind its root.
    """
    held, after_root = None, False
    for line in text.splitlines():
        if held is None:
            yield line
            if _COMPUTATION.match(line):
                held, after_root = "", False
        elif _BEGINS.match(line):
            yield held
            held, after_root = line, line.startswith("  ROOT ")
        elif line.startswith("}") and after_root:
            yield held
            yield line
            held = None
        else:
            held += line


def _closing(text: str) -> int:
    """Where the bracket that was open before `text` closes."""
    depth = 0
    for found in re.finditer(r"[()]", text):
        depth += 1 if found[0] == "(" else -1
        if depth < 0:
            return found.start()
    return len(text)
