"""Asks every question first and compares afterwards: the only place where answers meet expectations."""

import dataclasses
import fnmatch
import functools
import importlib
import pkgutil
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mmjax.errors import UserError
from mmjax.reproduce import published
from mmjax.reproduce.files import Files
from mmjax.reproduce.row import Question, Row

REPRODUCED, DIFFERS, UNCHECKED = "reproduced", "differs", "not checkable here"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a row.

    Attributes:
      value: what was computed; None when nothing was.
      reason: the documented conflict, the failure, or what it would take to check the row.
      seconds: how long computing took; 0 when another row had asked the same.
    """

    row: Row
    status: str
    value: Any = None
    reason: str | None = None
    seconds: float = 0.0

    @property
    def is_wrong(self) -> bool:
        """Differs, and nobody has documented why; a failure to compute is never documented."""
        return self.status == DIFFERS and (self.row.conflict is None or self.value is None)


def rows(pattern: str | None = None) -> tuple[Row, ...]:
    """The rows of all published tables, or some: a family, one id, or ids that hold or match a pattern.

    Raises:
      UserError: no row does.
    """
    every = [row for module in sorted(_modules()) for row in importlib.import_module(module).ROWS]
    families = list(dict.fromkeys(row.family for row in every))
    every.sort(key=lambda row: families.index(row.family))
    if pattern is None:
        return tuple(every)
    if named := tuple(row for row in every if pattern in (row.family, row.id)):
        return named
    wanted = pattern.lower()
    chosen = [row for row in every if wanted in row.id.lower() or fnmatch.fnmatch(row.id.lower(), wanted)]
    if not chosen:
        raise UserError(f"--only {pattern!r} matches no row: the families are {', '.join(families)}.")
    return tuple(chosen)


def _modules() -> list[str]:
    return [f"{published.__name__}.{module.name}" for module in pkgutil.iter_modules(published.__path__)]


def run(asked: Iterable[Row], files: Files) -> Iterator[Outcome]:
    """The outcome of each row, as soon as it is known."""
    answer = functools.cache(functools.partial(_answer, files=files))
    for row in asked:
        absent = files.missing(row.needs)
        if absent or row.compute is None:
            yield Outcome(row=row, status=UNCHECKED, reason=_wanted(row, absent))
            continue
        started = time.perf_counter()
        value, failure = answer(row.question)
        yield judge(row, value, failure, seconds=time.perf_counter() - started)


def judge(row: Row, value: Any, failure: str | None = None, *, seconds: float = 0.0) -> Outcome:
    """Compares an answer with what was published."""
    if failure is not None and row.needs:
        return Outcome(row=row, status=UNCHECKED, reason=failure, seconds=seconds)
    if failure is None and row.tolerance.accepts(value, row.expected):
        return Outcome(row=row, status=REPRODUCED, value=value, seconds=seconds)
    return Outcome(row=row, status=DIFFERS, value=value, reason=failure or row.conflict, seconds=seconds)


def function(question: Question) -> Callable:
    """The function that a question names."""
    module, name = question.function.split(".")
    return getattr(importlib.import_module(f"mmjax.reproduce.measures.{module}"), name)


def _answer(question: Question, *, files: Files) -> tuple[Any, str | None]:
    """(value, None), or (None, why there is none): one broken row must not cost a person the others."""
    arguments = (files, *question.arguments) if question.needs else question.arguments
    try:
        return function(question)(*arguments), None
    except UserError as error:
        return None, str(error)
    except Exception as error:
        return None, f"{question.function} failed: {type(error).__name__}: {error}"


def _wanted(row: Row, absent: list[str]) -> str:
    parts = [f"needs {', '.join(absent or row.needs)}"]
    if row.lacks:
        parts.append(f"and mmjax has no {row.lacks}")
    return "; ".join(parts)
