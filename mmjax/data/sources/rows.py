"""Rows of text tables: CSV, TSV, JSON lines, JSON. A row that is no row is a `BadRecord` in its place."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mmjax.data.records import BadRecord
from mmjax.data.sources import files
from mmjax.errors import UserError

Row = dict[str, Any]
DELIMITERS = ",;\t|"


def read(path: str) -> list[Row | BadRecord]:
    """The rows of a table in order.

    Raises:
      UserError: it cannot be read, has no header, or is a JSON file of another form.
    """
    return READERS[os.path.splitext(path)[1].lower()](path)


def csv_rows(text: str, name: str = "table.csv") -> Iterator[Row | BadRecord]:
    """The rows of a CSV with a header; quoted fields may span lines.

    A quote that is never closed would swallow what follows, so reading goes on at the line after a bad row.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    header_line = lines[0] if lines else ""
    delimiter = max(DELIMITERS, key=header_line.count)
    header, place = _csv_row(lines, 0, delimiter)
    names = _header(name, header)
    while place < len(lines):
        if not lines[place]:
            place += 1
            continue
        cells, after = _csv_row(lines, place, delimiter)
        if isinstance(cells, str) or len(cells) != len(names):
            told = cells if isinstance(cells, str) else f"{len(cells)} cells for {len(names)} columns"
            yield BadRecord(f"{name} line {place + 1}", "bad CSV row", told)
            after = place + 1
        else:
            yield dict(zip(names, cells, strict=True))
        place = after


def tsv_rows(text: str, name: str = "table.tsv") -> Iterator[Row | BadRecord]:
    """The rows of a TSV with a header: one line each; quotes are text unless they enclose a whole cell."""
    lines = text.replace("\r\n", "\n").split("\n")
    names = _header(name, lines[0].split("\t"))
    for number, line in enumerate(lines[1:], 2):
        cells = [_unquoted(cell) for cell in line.split("\t")]
        if line and len(cells) != len(names):
            told = f"{len(cells)} cells for {len(names)} columns"
            yield BadRecord(f"{name} line {number}", "bad TSV row", told)
        elif line:
            yield dict(zip(names, cells, strict=True))


def json_lines(text: str, name: str = "table.jsonl") -> Iterator[Row | BadRecord]:
    """One JSON object a line; blank lines are left out."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield json_object(line, f"{name} line {number}")


def json_object(text: str, id: str) -> Row | BadRecord:
    """A JSON object, or what is wrong with it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return BadRecord(id, "not JSON", str(error))
    return _object(value, id)


def json_list(path: str) -> list[Row | BadRecord]:
    """A JSON file that is a list of objects."""
    values = files.read_json(path)
    if not isinstance(values, list):
        raise UserError(
            f"{path} holds a {type(values).__name__}: a list of objects was expected; a published schema is "
            "read with its name in front, such as coco:DIR."
        )
    return [_object(value, f"{os.path.basename(path)} entry {i}") for i, value in enumerate(values)]


def _object(value: Any, id: str) -> Row | BadRecord:
    if isinstance(value, dict):
        return value
    return BadRecord(id, "not a JSON object", f"found {type(value).__name__}")


def _csv_row(lines: Sequence[str], place: int, delimiter: str) -> tuple[list[str] | str, int]:
    """The cells of the row that starts at a line, or what is wrong with it; and the line after it."""
    line = lines[place]
    if '"' not in line and len(line) < csv.field_size_limit():
        return line.split(delimiter), place + 1  # what the parser would give, many times faster
    used = 0

    def feed() -> Iterator[str]:
        nonlocal used
        for number in range(place, len(lines)):
            used += 1
            yield lines[number] + "\n"

    try:
        cells = next(csv.reader(feed(), delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        return str(error), place + 1
    return cells, place + max(used, 1)


def _header(name: str, cells: list[str] | str) -> list[str]:
    names = [cell.strip() for cell in cells] if isinstance(cells, list) else []
    if not any(names) or len(set(names)) < len(names):
        raise UserError(
            f"{name} has no header, or one that repeats a name: put column names in its first line."
        )
    return names


def _unquoted(cell: str) -> str:
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def _of_text(rows: Callable[[str, str], Iterator[Row | BadRecord]]) -> Callable[[str], list[Row | BadRecord]]:
    return lambda path: list(rows(files.read_text(path), os.path.basename(path)))


READERS: dict[str, Callable[[str], list[Row | BadRecord]]] = {
    ".csv": _of_text(csv_rows),
    ".tsv": _of_text(tsv_rows),
    ".jsonl": _of_text(json_lines),
    ".ndjson": _of_text(json_lines),
    ".json": json_list,
}
