"""Metrics to `metrics.jsonl` and TensorBoard, from process 0 only."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from tensorboardX import SummaryWriter

FILE = "metrics.jsonl"


class Metrics:
    """Writes scalars of a step to WORKDIR/metrics.jsonl and WORKDIR/tensorboard.

    A run that resumes at step s writes the steps after s again, so what an earlier, killed run wrote about
    them is removed first, as is a last line it did not finish.
    """

    def __init__(self, workdir: Path, *, start_step: int):
        self._file = self._board = None
        if jax.process_index():
            return
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / FILE
        _keep_until(path, start_step)
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """One line `{"step": step, **values}`; numbers go to TensorBoard as well."""
        if self._file is None:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, int | float):
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._board.close()

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a metrics.jsonl; a line cut short by a kill is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def _keep_until(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = "".join(json.dumps(line) + "\n" for line in read(path) if line["step"] <= step)
    replacement = path.with_suffix(".tmp")
    replacement.write_text(kept, encoding="utf-8")
    os.replace(replacement, path)
