"""Experiment configs: load `file.py:variant`, apply overrides, build typed objects, round trip through JSON.

A config is an `ml_collections.ConfigDict` made by `get_config(arg)` of a Python file. It is plain data; its
meaning comes from the frozen dataclass each section feeds (`SECTIONS`). Missing fields are filled in from
that dataclass when the config is loaded, so that the config stored with a checkpoint is complete and every
field can be overridden on the command line.
"""

import ast
import dataclasses
import difflib
import functools
import importlib
import importlib.util
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from mmjax.errors import UserError

SECTIONS = {
    "data": "mmjax.data.pipeline.DataConfig",
    "training": "mmjax.training.loop.TrainingConfig",
    "optimizer": "mmjax.training.optimizers.OptimizerConfig",
    "sharding": "mmjax.sharding.mesh.ShardingConfig",
}
KEYS = ("system", "model", *SECTIONS, "evaluators")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A config turned into typed objects; `evaluators` maps a name to what its `call` builds."""

    system: Any
    data: Any
    training: Any
    optimizer: Any
    sharding: Any
    evaluators: Mapping[str, Any]


def load(location: str) -> ConfigDict:
    """The completed config at `path.py:variant`, or at the bare name of a shipped config such as `clip:tiny`.

    Raises:
      UserError: the file, its `get_config` or the variant does not exist.
    """
    name, _, variant = location.partition(":")
    path = Path(name) if name.endswith(".py") else shipped().get(name)
    if path is None:
        raise UserError(f"--config {name}: not a .py file and not one of the shipped {sorted(shipped())}")
    if not path.is_file():
        raise UserError(f"--config {location}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"mmjax_config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"--config {location}: {path} does not define get_config(arg)")
    try:
        config = module.get_config(variant or None)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"--config {location}: get_config rejects the variant {variant!r} ({error})"
        ) from error
    return complete(config)


def shipped() -> dict[str, Path]:
    """Name -> file of every config that comes with mmjax."""
    package = Path(__file__).parent
    folders = (package.parent / "configs", package / "configs")  # in a source tree; in the wheel
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.py"))}


def override(config: ConfigDict, arguments: Sequence[str]) -> ConfigDict:
    """A copy of `config` with `--config.x.y=value` arguments applied.

    Raises:
      UserError: an argument names a key that does not exist or a value of the wrong type.
    """
    arguments = ["mmjax", *arguments]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict(
            "config", ConfigDict(config.to_dict()), flag_values=values, sys_argv=arguments
        )
        values(arguments)
    except (AttributeError, KeyError) as error:
        raise UserError(_unknown_override(config, arguments)) from error
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(str(error).split("\n")[0].removeprefix("flag ")) from error
    return complete(values.config)


def _unknown_override(config: ConfigDict, arguments: Sequence[str]) -> str:
    for argument in arguments:
        node, parts = config, argument.split("=")[0].lstrip("-").split(".")
        for depth, part in enumerate(parts[1:], start=2):
            if not isinstance(node, ConfigDict) or part not in node:
                return _unknown(".".join(parts[:depth]), list(node) if isinstance(node, ConfigDict) else [])
            node = node[part]
    return f"an override does not fit the config: {' '.join(arguments[1:])}"


class _LiteralOrText(flags.ArgumentParser):
    """Reads the override of a key without a scalar type: a Python literal, or else the text itself."""

    def parse(self, argument: Any) -> Any:
        try:
            return ast.literal_eval(argument)
        except (ValueError, SyntaxError):
            return argument


config_flags.register_flag_parser_for_type(type(None), _LiteralOrText())
config_flags.register_flag_parser_for_type(ConfigDict, _LiteralOrText())  # so that a section can be None


def complete(config: Mapping[str, Any]) -> ConfigDict:
    """The config with every section present and every defaulted field written out."""
    config = _plain(config)
    if not isinstance(config.get("system"), str):
        raise UserError("the config needs a key `system`, the dotted path of a system class")
    classes = {"model": config["system"], **SECTIONS}
    for section, path in classes.items():
        config[section] = _with_defaults(resolve(path, section), config.get(section) or {})
    config.setdefault("evaluators", {})
    return ConfigDict(config)


def _with_defaults(cls: type, mapping: Mapping[str, Any]) -> dict[str, Any]:
    result, hints = dict(mapping), typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        value = result.get(field.name, default)
        if value is dataclasses.MISSING:
            continue
        nested = _dataclass_in(hints[field.name])
        if dataclasses.is_dataclass(value):
            kind = type(value)
            value = _with_defaults(kind, {f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
            if kind is not nested:  # the annotation is a base class or a protocol: say what to build
                value = {"call": f"{kind.__module__}.{kind.__qualname__}", **value}
        elif nested and isinstance(value, Mapping) and "call" not in value:
            value = _with_defaults(nested, value)
        elif hints[field.name] is float and type(value) is int:
            value = float(value)
        result[field.name] = value
    return result


def to_json(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON-able data; `from_json` inverts it (lists replace tuples; `build` takes either)."""
    return config.to_dict()


def from_json(data: Mapping[str, Any]) -> ConfigDict:
    """The config stored by `to_json`, with fields added since then at their defaults."""
    return complete(data)


def experiment(config: ConfigDict) -> Experiment:
    """Builds every section; the first unknown or ill-typed key is a `UserError` naming it."""
    plain = _plain(config)
    for key in plain:
        if key not in KEYS:
            raise UserError(_unknown(key, KEYS))
    sections = {name: build(resolve(path, name), plain[name], where=name) for name, path in SECTIONS.items()}
    return Experiment(
        system=system(config),
        evaluators={
            name: call(spec, where=f"evaluators.{name}") for name, spec in plain["evaluators"].items()
        },
        **sections,
    )


def system(config: Mapping[str, Any]) -> Any:
    """The typed system a config describes."""
    return build(resolve(config["system"], "system"), _plain(config["model"]), where="model")


def resolve(path: str, where: str) -> Any:
    """The object at dotted `path`; `where` is the config key to blame."""
    module, _, name = path.rpartition(".")
    try:
        found = importlib.import_module(module)
    except (ModuleNotFoundError, ValueError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and not module.startswith(error.name):
            raise
        raise UserError(f"{where} = {path!r}: there is no module {module!r}") from error
    if not hasattr(found, name):
        raise UserError(
            f"{where} = {path!r}: {_unknown(name, [n for n in vars(found) if n[0] != '_'], 'name')}"
        )
    return getattr(found, name)


def call(spec: Mapping[str, Any], *, where: str) -> Any:
    """Builds `{"call": "dotted.path", **fields}`: a dataclass instance, or a function, fields bound."""
    if not isinstance(spec, Mapping) or "call" not in spec:
        raise UserError(f"{where} needs a key `call`, the dotted path of what to build")
    fields = {key: value for key, value in spec.items() if key != "call"}
    target = resolve(spec["call"], f"{where}.call")
    return (
        build(target, fields, where=where)
        if dataclasses.is_dataclass(target)
        else functools.partial(target, **fields)
    )


def build(cls: type, mapping: Mapping[str, Any], where: str = "model") -> Any:
    """An instance of dataclass `cls` from plain data, checked field by field against the annotations.

    Nested dataclasses are built from nested mappings, lists become tuples, integers may fill floats, and a
    mapping with a key `call` becomes what that dotted path builds.

    Raises:
      UserError: an unknown or missing key, or a value of the wrong type; names the full key.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key in mapping:
        if key not in fields:
            raise UserError(_unknown(f"{where}.{key}", fields))
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in mapping:
            raise UserError(
                f"missing key {where}.{name}; set it to a value of type {_type_name(hints[name])}"
            )
    values = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in mapping.items()}
    try:
        return cls(**values)
    except ValueError as error:  # what a constructor refuses, such as a width its heads do not divide
        raise UserError(f"{where}: {error}") from error


def replaced(node: Any, **fields: Any) -> Any:
    """A copy of nested dataclasses with a field replaced wherever one has that name."""
    if not dataclasses.is_dataclass(node) or isinstance(node, type):
        return node
    changes = {}
    for field in dataclasses.fields(node):
        if field.init:
            value = getattr(node, field.name)
            changes[field.name] = fields.get(field.name, replaced(value, **fields))
    return dataclasses.replace(node, **changes)


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if isinstance(value, Mapping) and "call" in value:
        return call(value, where=where)
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return build(kind, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise UserError(_unknown(f"{where}={value}", [str(a) for a in arguments], "value"))
        return value
    if (origin or kind) is tuple and isinstance(value, list | tuple):
        if not arguments or arguments[-1] is Ellipsis:
            arguments = (arguments[0] if arguments else Any,) * len(value)
        if len(arguments) != len(value):
            raise UserError(f"{where} needs {len(arguments)} values, not {len(value)}")
        return tuple(
            _convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(arguments, value, strict=True))
        )
    if kind is float and type(value) is int:
        return float(value)
    expected = origin or kind
    fits = not isinstance(expected, type) or isinstance(value, expected)
    if not fits or (isinstance(value, bool) and kind in (int, float)):
        raise UserError(f"{where} must be of type {_type_name(kind)}, not {value!r}")
    return value


def _convert_union(options: Sequence[Any], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    failure = None
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert(option, value, where)
        except UserError as error:
            failure = failure or error
    raise failure


def _dataclass_in(kind: Any) -> type | None:
    options = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    found = [option for option in options if dataclasses.is_dataclass(option)]
    return found[0] if found else None  # of a union, a mapping without `call` means the first


def _plain(value: Any) -> Any:
    if isinstance(value, ConfigDict):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _unknown(key: str, known: Any, what: str = "key") -> str:
    near = difflib.get_close_matches(key.rpartition(".")[2].rpartition("=")[2], list(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known)) or 'nothing'}"
    return f"unknown {what} {key}; {hint}"


def _type_name(kind: Any) -> str:
    return (
        kind.__name__
        if isinstance(kind, type) and not typing.get_args(kind)
        else str(kind).replace("typing.", "")
    )
