"""`open_dataset(spec)`: every way to say where the data is, opened the same way.

A spec is `[kind:]path[?option=value&...]`:

    data/openmoji                                a built world or data set
    pictures.csv?image=file&caption=title        a table and the pictures it names
    shards/{00000..00099}.tar                    WebDataset
    coco:/data/coco?year=2014                    a published schema, see `mmjax.data.readers`
    tfds:coco_captions                           TensorFlow Datasets, without TensorFlow

Without a kind, what is found at the path decides. A kind is the name of a module of this package or of
`mmjax.data.readers`, so adding one costs one file.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Protocol

from etils import epath

from mmjax.data.sources.access import Source
from mmjax.errors import UserError

# In the order in which they are asked whether they know what is at a path.
FORMATS = {
    "world": "mmjax.data.worlds.world",
    "arrayrecord": "mmjax.data.sources.array_record",
    "webdataset": "mmjax.data.sources.webdataset",
    "huggingface": "mmjax.data.sources.huggingface",
    "table": "mmjax.data.sources.table",
    "folder": "mmjax.data.sources.folder",
}
ON_REQUEST = {"tfds": "mmjax.data.sources.tfds"}
READERS = "mmjax.data.readers"
_SPEC = re.compile(r"^(?:(?P<kind>[a-z][a-z0-9_]+):(?!//))?(?P<path>.*?)(?:\?(?P<options>\w+=[^?]*))?$", re.S)


class Dataset(Protocol):
    """Named splits of records."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        ...

    def source(self, split: str) -> Source:
        """The records of a split; UserError if there is none of that name."""
        ...

    def provenance(self, split: str) -> dict[str, Any]:
        """{count, sha256} of a split, for the record of what a figure rests on."""
        ...


def open_dataset(spec: str | os.PathLike) -> Dataset:
    """Opens a data set; the module docstring shows what `spec` can be.

    Raises:
      UserError: unknown kind or option, nothing there, or nothing that any kind knows.
    """
    kind, path, options = parsed(spec)
    module = _module(kind) if kind else _claiming(path)
    return module.open_path(path, **converted(module.open_path, options, where=str(spec)))


def parsed(spec: str | os.PathLike) -> tuple[str, str, dict[str, str]]:
    """(kind or "", path, options) of a spec."""
    match = _SPEC.match(os.fspath(spec))
    options = dict(urllib.parse.parse_qsl(match["options"] or "", keep_blank_values=True))
    return match["kind"] or "", match["path"], options


def converted(function: Callable, options: Mapping[str, str], *, where: str) -> dict[str, Any]:
    """Options as the keyword arguments of a function, each of the type of its default.

    Raises:
      UserError: unknown option, or a value of another type.
    """
    known = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    values = {}
    for name, text in options.items():
        if name not in known:
            raise UserError(
                f"{where}: there is no option {name!r}: use {', '.join(known) or 'none'} or correct it."
            )
        try:
            values[name] = type(known[name])(text)
        except ValueError as error:
            raise UserError(
                f"{where}: {name} is {text!r}: a {type(known[name]).__name__} was expected."
            ) from error
    return values


def _module(kind: str) -> ModuleType:
    name = (FORMATS | ON_REQUEST).get(kind, f"{READERS}.{kind}")
    if importlib.util.find_spec(name) is None:
        known = ", ".join(sorted([*FORMATS, *ON_REQUEST, *readers()]))
        raise UserError(f"there is no kind of data set {kind!r}: use one of {known}, or a path.")
    return importlib.import_module(name)


def readers() -> list[str]:
    """The names of the published schemas."""
    folder = importlib.util.find_spec(READERS).submodule_search_locations[0]
    return sorted(name[:-3] for name in os.listdir(folder) if name.endswith(".py") and name[0] != "_")


def _claiming(path: str) -> ModuleType:
    for name in FORMATS.values():
        module = importlib.import_module(name)
        if module.claims(path):
            return module
    also = ", nor any other data set that can be read there" if epath.Path(path).exists() else ""
    raise UserError(
        f"there is no world in {path}{also}: run `mmjax data build openmoji --output {path}` or correct "
        "data.source."
    )
