"""Weights and data that a person already has, found in the layouts in which they are published.

A ledger row names files as 'weights/OWNER/REPOSITORY/FILE' or 'data/PATH'. Weights are looked for as
`OWNER/REPOSITORY/FILE` and `REPOSITORY/FILE` below `--weights`, in a Hugging Face cache
(`models--OWNER--REPOSITORY/snapshots/*/FILE`), and in the directory itself when it is that repository.
Data are looked for as `PATH` below `--data`. Nothing is downloaded. A few files have two published forms, and
either will do.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmjax.errors import UserError
from mmjax.reproduce.row import DATA, WEIGHTS

_OTHER_FORMS = {"model.safetensors": "model.safetensors.index.json", "tokenizer.json": "vocab.json"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """Where to look; None for a kind of file that was not given."""

    weights: Path | None = None
    data: Path | None = None

    def __post_init__(self):
        for flag in ("weights", "data"):
            path = getattr(self, flag)
            if path is not None and not path.is_dir():
                raise UserError(
                    f"--{flag} {path} is not a directory: give one that holds the published files."
                )

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are nowhere."""
        return [name for name in names if self._find(name) is None]

    def path(self, name: str) -> Path:
        """Where a file or directory is; UserError when it is nowhere."""
        if (found := self._find(name)) is None:
            raise UserError(f"{name} is not there: put it below --{name.split('/')[0]}.")
        return found

    def _find(self, name: str) -> Path | None:
        directory, _, file = name.rpartition("/")
        forms = (name, f"{directory}/{_OTHER_FORMS[file]}") if file in _OTHER_FORMS else (name,)
        return next((path for form in forms for path in self._places(form) if path.exists()), None)

    def _places(self, name: str) -> Iterator[Path]:
        if name.startswith(DATA) and self.data is not None:
            yield self.data / name.removeprefix(DATA)
        if name.startswith(WEIGHTS) and self.weights is not None:
            owner, repository, *rest = name.removeprefix(WEIGHTS).split("/")
            file = Path(*rest)
            yield self.weights / owner / repository / file
            yield self.weights / repository / file
            for snapshot in self.weights.glob(f"models--{owner}--{repository}/snapshots/*"):
                yield snapshot / file
            if self.weights.resolve().name == repository:
                yield self.weights / file
