"""One published number: what it is, who says so, and which function computes it here.

A row holds literals only. The function that computes its figure is named by a string and gets the arguments
`of`; it never receives the row, so it cannot know what is expected of it.
"""

import dataclasses
from typing import Any

WEIGHTS, DATA = "weights/", "data/"  # how the files that a row needs begin


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """How far a computed figure may be from the published one; both zero asks for equality."""

    absolute: float = 0.0
    relative: float = 0.0

    def accepts(self, value: Any, expected: Any) -> bool:
        """Compares numbers, texts, and sequences of them element by element."""
        if isinstance(expected, tuple):
            same_length = isinstance(value, tuple) and len(value) == len(expected)
            return same_length and all(map(self.accepts, value, expected))
        if isinstance(expected, str | bool) or self == EXACT:
            return type(value) is type(expected) and value == expected
        if not isinstance(value, int | float):
            return False
        return abs(value - expected) <= self.absolute + self.relative * abs(expected)


EXACT = Tolerance()


def within(absolute: float) -> Tolerance:
    """An absolute tolerance."""
    return Tolerance(absolute=absolute)


def relative(share: float) -> Tolerance:
    """A tolerance relative to the published value."""
    return Tolerance(relative=share)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """What the computing code gets to see of a row.

    Attributes:
      function: 'module.name' in `mmjax.reproduce.measures`.
      arguments: literals.
      needs: files it reads, beginning with 'weights/' or 'data/'; with any, `Files` is its first argument.
    """

    function: str
    arguments: tuple
    needs: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A published number.

    Attributes:
      id: unique; its first part is the family, e.g. 'clip/ViT-B/32/parameters'.
      what: the quantity, with its unit, in words.
      source: paper section or table, or file of the official code.
      expected: number, text, or a tuple of them, as published.
      compute: the function that computes it, 'module.name' in `mmjax.reproduce.measures`; None when mmjax has
        no evaluator for it, and then `lacks` says what is missing.
      of: arguments of the function.
      conflict: why the published number cannot come out, when that is known and documented.
      needs: the exact files without which it cannot be checked.
      lacks: what is missing here besides files.
    """

    id: str
    what: str
    source: str
    expected: Any
    tolerance: Tolerance = EXACT
    compute: str | None = None
    of: tuple = ()
    conflict: str | None = None
    needs: tuple[str, ...] = ()
    lacks: str | None = None

    @property
    def family(self) -> str:
        """The table that the row stands in."""
        return self.id.split("/")[0]

    @property
    def group(self) -> str:
        """'exact' (needs nothing), 'needs weights' or 'needs data'."""
        if not self.needs:
            return "exact"
        weights = any(name.startswith(WEIGHTS) for name in self.needs)
        return "needs weights" if weights else "needs data"

    @property
    def question(self) -> Question:
        """The row without its answer."""
        return Question(function=self.compute, arguments=self.of, needs=self.needs)
