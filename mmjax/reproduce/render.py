"""Outcomes as text for a person, as Markdown and as JSON."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from mmjax.reproduce.ledger import DIFFERS, REPRODUCED, UNCHECKED, Outcome
from mmjax.reproduce.row import EXACT, Row

SYMBOLS = {REPRODUCED: "✓", DIFFERS: "≠", UNCHECKED: "·"}
_WRONG = "✗"  # differs, and nobody has documented why
_NUMBER, _WIDEST = 22, 46


class Lines:
    """The table, line by line: a heading per family, and a line per row, with the reason below it."""

    def __init__(self, rows: Sequence[Row]):
        widest = max((len(_name(row)) for row in rows), default=0)
        self._width = min(widest, _WIDEST)
        self._family = None

    def heading(self) -> str:
        """What the columns are."""
        return f"{'':4}{'':{self._width}}  {'computed':>{_NUMBER}}  {'published':>{_NUMBER}}"

    def of(self, outcome: Outcome) -> Iterator[str]:
        """The lines of the next outcome."""
        row = outcome.row
        if row.family != self._family:
            self._family = row.family
            yield f"\n{row.family}"
        computed = "" if outcome.value is None else show(outcome.value, row.expected)
        published = show(row.expected)
        start = f"  {symbol(outcome)} {_name(row):<{self._width}}  "
        if max(len(computed), len(published)) <= _NUMBER:
            yield f"{start}{computed:>{_NUMBER}}  {published:>{_NUMBER}}  {row.what}"
        else:  # a list of figures has lines of its own
            yield f"{start}{'':{_NUMBER}}  {'':{_NUMBER}}  {row.what}"
            yield from (
                f"      {title}  {text}"
                for title, text in (("computed ", computed), ("published", published))
                if text
            )
        if outcome.reason:
            yield f"      {outcome.reason}"


def symbol(outcome: Outcome) -> str:
    """One sign for what became of a row."""
    return _WRONG if outcome.is_wrong else SYMBOLS[outcome.status]


def summary(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many rows came to what, in words."""
    count = Counter(outcome.status for outcome in outcomes)
    wrong = sum(outcome.is_wrong for outcome in outcomes)
    return {
        "rows": len(outcomes),
        "reproduced": count[REPRODUCED],
        "differ with a documented conflict": count[DIFFERS] - wrong,
        "differ": wrong,
        "not checkable here": count[UNCHECKED],
    }


def sentence(outcomes: Sequence[Outcome]) -> str:
    """The summary in one line."""
    counts = summary(outcomes)
    total = counts.pop("rows")
    if not counts["differ"]:
        del counts["differ"]
    return f"{total} published numbers: " + ", ".join(f"{n} {what}" for what, n in counts.items())


def markdown(outcomes: Sequence[Outcome]) -> str:
    """A document with one table per family."""
    parts = ["# Published numbers\n", f"{sentence(outcomes)}.\n"]
    for family, members in itertools.groupby(outcomes, key=lambda outcome: outcome.row.family):
        parts.append(f"## {family}\n\n| | number | computed | published | source |\n|---|---|---|---|---|")
        parts += map(_markdown_row, members)
        parts.append("")
    return "\n".join(parts)


def _markdown_row(outcome: Outcome) -> str:
    row = outcome.row
    computed = "" if outcome.value is None else show(outcome.value, row.expected)
    note = f"<br>*{outcome.reason}*" if outcome.reason else ""
    published = f"{show(row.expected)} ({allowed(row)})"
    cells = (symbol(outcome), f"`{_name(row)}`: {row.what}{note}", computed, published, row.source)
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def as_json(outcomes: Sequence[Outcome]) -> str:
    """{"summary": {...}, "rows": [...]}: everything that is known about every row."""
    rows = [
        {
            "id": outcome.row.id,
            "family": outcome.row.family,
            "group": outcome.row.group,
            "what": outcome.row.what,
            "source": outcome.row.source,
            "status": outcome.status,
            "computed": outcome.value,
            "published": outcome.row.expected,
            "tolerance": {
                "absolute": outcome.row.tolerance.absolute,
                "relative": outcome.row.tolerance.relative,
            },
            "conflict": outcome.row.conflict,
            "reason": outcome.reason,
            "needs": outcome.row.needs,
            "function": outcome.row.compute,
            "seconds": round(outcome.seconds, 3),
        }
        for outcome in outcomes
    ]
    return json.dumps({"summary": summary(outcomes), "rows": rows}, indent=2) + "\n"


def show(value: Any, like: Any = None) -> str:
    """A figure as a person writes it; floats get ten digits, and large ones separators."""
    match value:
        case bool() | str():
            return str(value)
        case int():
            return f"{value:,}" if not isinstance(like, float) else show(float(value))
        case float():
            return f"{value:,.0f}" if abs(value) >= 1e6 else f"{value:.10g}"
        case tuple() | list():
            return " ".join("(" + show(v) + ")" if isinstance(v, tuple) else show(v) for v in value)
    return str(value)


def allowed(row: Row) -> str:
    """The tolerance in words."""
    if row.tolerance == EXACT:
        return "exact"
    parts = [f"{row.tolerance.absolute:g}"] * bool(row.tolerance.absolute)
    parts += [f"{row.tolerance.relative:g} of it"] * bool(row.tolerance.relative)
    return "within " + " + ".join(parts)


def _name(row: Row) -> str:
    return row.id.removeprefix(f"{row.family}/")
