"""What building any world has in common: packages of the `demo` extra, and keeping what is built already."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmjax.data.worlds.world import MANIFEST, World
from mmjax.errors import UserError

LICENCE = "CC BY-SA 4.0"
ATTRIBUTION = (
    "All emojis designed by OpenMoji – the open-source emoji and icon project. License: CC BY-SA 4.0"  # noqa: RUF001
)


def package(module: str) -> Any:
    """A module of the `demo` extra; a UserError names the extra where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"the OpenMoji world needs the package `{error.name}`: run `pip install 'mmjax[demo]'`."
        ) from error


def built(directory: str | os.PathLike, settings: Mapping[str, Any], *, replace: bool) -> World | None:
    """The finished world in `directory` if it was built with these settings, None where one is to be built.

    Raises:
      UserError: something else is in the way, or a world with other settings that `replace` does not give up.
    """
    path = Path(directory)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    if not (path / MANIFEST).is_file():
        raise UserError(f"{os.fspath(directory)} is not empty and holds no world: choose another directory.")
    world = World.open(directory)
    if replace:
        return None
    if all(world.manifest.get(key) == value for key, value in settings.items()):
        return world
    raise UserError(
        f"{os.fspath(directory)} holds a world with other settings: choose another directory or "
        "pass --force to replace it."
    )
