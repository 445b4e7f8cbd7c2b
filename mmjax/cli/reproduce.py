"""usage: mmjax reproduce [--only PATTERN] [--json FILE] [--markdown FILE] [--weights DIR] [--data DIR]

Computes every published number that this library can check and compares it with what was published. A row is
reproduced (✓), differs for a documented reason (≠) or for none (✗), or is not checkable here (·), with the
files that would make it so. Exit code 0 when no row differs without a documented reason, 1 otherwise.

  --only      a family (clip, dit, ...), part of a row's name, or a pattern with * and ?
  --json      write everything that is known about every row
  --markdown  write the table as a document
  --weights   directory of public weights, as OWNER/REPOSITORY/... or REPOSITORY/... or a Hugging Face cache
  --data      directory of public data, under the paths that the rows name
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from mmjax.cli.evaluate import refuse
from mmjax.cli.main import parse
from mmjax.errors import UserError
from mmjax.reproduce import ledger, render
from mmjax.reproduce.files import Files


def main(arguments: list[str]) -> int:
    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_string("only", None, "which rows", flag_values=values)
        flags.DEFINE_string("json", None, "file to write", flag_values=values)
        flags.DEFINE_string("markdown", None, "file to write", flag_values=values)
        flags.DEFINE_string("weights", None, "directory of public weights", flag_values=values)
        flags.DEFINE_string("data", None, "directory of public data", flag_values=values)

    values, positional = parse(arguments, define)
    refuse(positional)
    directories = {name: _path(getattr(values, name)) for name in ("weights", "data")}
    outputs = [(_path(values.json), render.as_json), (_path(values.markdown), render.markdown)]
    for path, _ in outputs:  # before the minutes of computing, not after
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{path} cannot be written: {path.parent} is not a directory, create it first.")
    files, rows = Files(**directories), ledger.rows(values.only)

    started = time.perf_counter()
    outcomes = []
    lines = render.Lines(rows)
    print(lines.heading())
    for outcome in ledger.run(rows, files):
        outcomes.append(outcome)
        for line in lines.of(outcome):
            print(line, flush=True)
    print(f"\n{render.sentence(outcomes)}. {time.perf_counter() - started:.0f} s.")
    _write(outputs, outcomes)
    return int(any(outcome.is_wrong for outcome in outcomes))


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _write(outputs: Sequence[tuple[Path | None, Callable]], outcomes: Sequence[ledger.Outcome]) -> None:
    for path, write in outputs:
        if path is not None:
            path.write_text(write(outcomes), encoding="utf-8")
