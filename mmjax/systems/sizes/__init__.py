"""Published sizes, one module per family: `SIZES` maps the name a paper gives a size to the whole system.

A size is a config and nothing else, so naming one costs no memory; `mmjax parameters --system clip --size
ViT-B/32` counts it from shapes.
"""

import difflib
import importlib
import pkgutil

from mmjax.errors import UserError
from mmjax.systems.system import System


def families() -> list[str]:
    """The names that `load` knows."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(family: str, size: str) -> System:
    """The system of a published size.

    Raises:
      UserError: no such family or size; names the nearest.
    """
    _require("--system", family, families())
    sizes = importlib.import_module(f"{__name__}.{family}").SIZES
    _require(f"--size of {family}", size, list(sizes))
    return sizes[size]


def _require(what: str, name: str, known: list[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.0)[0]
        raise UserError(f"{what} {name!r} is unknown, did you mean {near}? There are {', '.join(known)}.")
