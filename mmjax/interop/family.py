"""What a family of public releases is: how its config, pictures and tensors become one of our systems.

A file of `mmjax/interop/families` exports `FAMILIES`; it is found by the `model_type` (transformers) or the
`_class_name` (diffusers) that a config.json names, or by the system that it can hold.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from mmjax.errors import UserError
from mmjax.interop.names import At
from mmjax.interop.pixels import Pixels
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.system import System

Config = Mapping[str, Any]  # the content of a config.json
Table = Mapping[str, str | At | None]
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}
# Fields that say how to compute and not what; no config.json knows them.
_HOW = {"dtype": "float32", "remat": None, "unroll": 1, "chunk": None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One layout of public weights.

    Attributes:
      name: what config.json calls it.
      kind: the class of its systems.
      read: (config.json, preprocessing or None) -> the system.
      write: the system -> config.json.
      tables: the system -> the name tables of its releases (`mmjax.interop.names`), the usual one first.
      pixels: the preprocessing of a system's pictures where no file says it; None where it sees none.
      data: the system -> fields of `DataConfig` that lay examples out for it.
      evaluators: section of the config, for `mmjax evaluate`.
      buffers: patterns of the names of tensors that a release may hold but that are no parameters: position
        numbers, causal masks. They travel along.
      ties: the system -> names of tensors that a release may repeat, and whose they repeat.
      cleaning: what was done to a text before its tokens in training (`mmjax.data.tokenizer.CLEANINGS`).
      stem: of the weight files.
    """

    name: str
    kind: type[System]
    read: Callable[[Config, Pixels | None], System]
    write: Callable[[System], dict[str, Any]]
    tables: Callable[[System], tuple[Table, ...]]
    pixels: Callable[[System], Pixels] | None = None
    data: Callable[[System], Mapping[str, Any]] = lambda system: {}
    evaluators: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    ties: Callable[[System], Mapping[str, str]] = lambda system: {}
    cleaning: str = ""
    stem: str = "model"

    def difference(self, system: System) -> str | None:
        """What of a system the family cannot say, as 'field is a and not b'; None where it can say all."""
        try:
            pixels = self.pixels(system) if self.pixels else None
            back = self.read(self.write(system), pixels)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            return f"its config does not fit ({error})"
        return self.unlike(system, back)

    @staticmethod
    def unlike(system: System, other: System) -> str | None:
        """The first difference of what two systems compute, None where there is none."""
        return next(_differences(_canonical(system), _canonical(other), ""), None)


def discover() -> dict[str, Family]:
    """All families by name."""
    package = importlib.import_module("mmjax.interop.families")
    modules = (importlib.import_module(f"{package.__name__}.{m.name}") for m in _modules(package))
    return {family.name: family for module in modules for family in module.FAMILIES}


def _modules(package: Any) -> list[pkgutil.ModuleInfo]:
    return sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name)


def find(config: Config, where: Any) -> Family:
    """The family that a config.json names.

    Raises:
      UserError: none that is known; names those that are.
    """
    known = discover()
    key = "model_type" if "model_type" in config else "_class_name"
    if config.get(key) not in known:
        raise UserError(f"{where} has {key} {config.get(key)!r}: mmjax knows {', '.join(sorted(known))}.")
    return known[config[key]]


def holding(system: System) -> Family:
    """The family that can say all of a system.

    Raises:
      UserError: there is none; says what stands in the way.
    """
    reasons = []
    for family in discover().values():
        if type(system) is not family.kind:
            continue
        reason = family.difference(system)
        if reason is None:
            return family
        reasons.append(f"{family.name}: {reason}")
    kind = type(system).__name__
    told = f" ({'; '.join(reasons)})" if reasons else ""
    raise UserError(f"this {kind} has no counterpart in the Hugging Face layout{told}: change its config.")


def _canonical(value: Any) -> Any:
    """Dataclasses as dicts, with defaults that depend on other fields filled in and `_HOW` left out."""
    if not dataclasses.is_dataclass(value):
        return value
    fields = {f.name: _canonical(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, TransformerConfig):
        filled = dict(
            head_dim=value.width // value.heads, kv_heads=value.heads, mlp_width=4 * value.width, norm="layer"
        )
        fields |= {name: default for name, default in filled.items() if fields[name] is None}
    return {name: field for name, field in fields.items() if name not in _HOW}


def _differences(ours: Any, theirs: Any, where: str) -> Iterator[str]:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for name in ours:
            yield from _differences(ours[name], theirs.get(name), f"{where}.{name}" if where else name)
    elif ours != theirs and not (isinstance(ours, float) and np.isclose(ours, theirs or 0.0)):
        yield f"{where} is {ours!r} and would have to be {theirs!r}"
