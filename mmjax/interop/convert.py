"""Public weights in the Hugging Face layout -> a checkpoint of ours, and back, tensor by tensor.

A converted checkpoint is like any other: `Trained.load`, `training.initialize` and the evaluators read it. It
keeps the files that came with the weights (configs, tokenizer) beside its parameters, and in its `run` item
what cannot be read off a system, so that the way back gives the same tensors and files, to the bit.

At any time there are in memory one tensor and a few chunks of it. Nothing appears at the target before all of
it is written.
"""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from mmjax import __version__
from mmjax import config as configs
from mmjax.data import tokenizer_files
from mmjax.data.images import ImageSpec
from mmjax.data.tokenizer import Tokenizer
from mmjax.errors import UserError
from mmjax.interop import family as families
from mmjax.interop import pixels, safetensors
from mmjax.interop.family import Family
from mmjax.interop.names import Link, links, reference_shapes
from mmjax.interop.safetensors import DTYPES, Entry
from mmjax.systems.system import System
from mmjax.training.checkpoints import load_run
from mmjax.training.state import abstract_params
from mmjax.training.streaming import Leaves

CONFIG = "config.json"
KEPT = "huggingface"  # folder of the workdir: the files that came with the weights
FLOATS = {"float32": DTYPES["F32"], "bfloat16": DTYPES["BF16"], "float16": DTYPES["F16"]}
COMPANIONS = (CONFIG, pixels.FILE, "generation_config.json", "processor_config.json", *tokenizer_files.FILES)
BUFFERS = "buffers"  # stem of the file there with the tensors that are no parameters
_SHOWN = 6  # names per list in an error


def from_hugging_face(source: str | Path, target: str | Path, *, dtype: str | None = None) -> None:
    """Writes a checkpoint of ours.

    Args:
      source: directory with config.json and safetensors files.
      target: a directory that does not exist yet.
      dtype: of the parameters; None for that of the files.

    Raises:
      UserError: an unknown family, damaged files, or tensors that do not fit the config; names both.
    """
    source, target = Path(source), _new(target)
    if source.suffix in safetensors.PICKLES and source.is_file():
        raise safetensors.pickle_error(source)
    if not source.is_dir():
        raise UserError(f"{source} is no directory: give one with {CONFIG} and safetensors files.")
    config = read_config(source)
    family = families.find(config, source / CONFIG)
    entries = safetensors.open_directory(source)
    system, image = _system(family, config, source)
    ours = nn.meta.unbox(abstract_params(system))
    tables = family.tables(system)
    wanted = [reference_shapes(ours, table) for table in tables]
    layout = min(range(len(tables)), key=lambda i: len(wanted[i].keys() - entries.keys()))
    table, buffers = tables[layout], _buffers(family, entries, wanted[layout])
    ties = {name: same for name, same in family.ties(system).items() if same in wanted[layout]}
    tensors = {name: entry for name, entry in entries.items() if name not in buffers}
    _require_fit(tensors, wanted[layout], ties, f"{source} is no {family.name} of its {CONFIG}")
    linked = {link.path: link for link in links(ours, table)}
    dtypes = {path: _dtype(link, entries, dtype) for path, link in linked.items()}
    repeated = {name: same for name, same in ties.items() if name in entries}
    record = {"family": family.name, "layout": layout, "ties": repeated}
    tokenizer = tokenizer_files.load(source, cleaning=family.cleaning) or Tokenizer.absent()
    run = _run(family, _computing(system, dtypes.values()), image, tokenizer, record)
    shapes = {path: leaf.shape for path, leaf in flatten_dict(ours).items()}
    with _appearing(target) as draft:
        leaves = Leaves.lay_out(draft, {path: dtypes.get(path, FLOATS["float32"]) for path in shapes}, run)
        for path, shape in shapes.items():
            link = linked.get(path)
            layers = _layers(link, entries, dtypes[path]) if link else iter([np.zeros(shape, np.float32)])
            leaves.write(path, layers, shape=shape, stacked=link.stacked if link else 0)
        (draft / KEPT).mkdir()
        for name in COMPANIONS:
            if (source / name).is_file():
                shutil.copyfile(source / name, draft / KEPT / name)
        if buffers:
            _copy(buffers, safetensors.Writer(draft / KEPT, _spelled(buffers), stem=BUFFERS))


def to_hugging_face(
    checkpoint: str | Path, target: str | Path, *, dtype: str | None = None, shard_bytes: int = 5 * 10**9
) -> None:
    """Writes a directory in the Hugging Face layout, from a converted checkpoint or one that we trained.

    Args:
      checkpoint: a workdir, or one of its checkpoints.
      target: a directory that does not exist yet.
      dtype: of the tensors; None for that of the parameters.
      shard_bytes: largest size of a file; with more than one there is an index.

    Raises:
      UserError: no such checkpoint, or a system that no family can say.
    """
    target = _new(target)
    leaves, run = Leaves.open(checkpoint), load_run(checkpoint)
    system, record = configs.system(configs.from_json(run["config"])), run.get("interop") or {}
    known = families.discover().get(record.get("family"))
    family = known if known and known.difference(system) is None else families.holding(system)
    shapes = leaves.shapes()
    kept = leaves.directory.parents[1] / KEPT if record else None
    buffers = safetensors.read_header(kept / f"{BUFFERS}.safetensors") if _has_buffers(kept) else {}
    found = list(links(unflatten_dict(shapes), family.tables(system)[record.get("layout", 0)]))
    _require_nothing_lost(leaves, found)
    tensors = {
        name: (FLOATS[dtype] if dtype else np.dtype(shapes[link.path].dtype), link.reference_shape)
        for link in found
        for name in link.names
    }
    ties = record.get("ties", {})
    tensors |= {name: tensors[same] for name, same in ties.items()}
    with _appearing(target) as draft:
        draft.mkdir()
        _write_companions(draft, family, system, run, kept, tensors)
        everything = tensors | _spelled(buffers)
        writer = safetensors.Writer(draft, everything, stem=family.stem, shard_bytes=shard_bytes)
        for link in found:
            _write(link, leaves.read(link.path, stacked=link.stacked), writer)
        _copy({name: writer.entries[same] for name, same in ties.items()} | buffers, writer)


def _write(link: Link, values: Iterator[np.ndarray], writer: safetensors.Writer) -> None:
    """The layers of one of our parameters, each to its place or places."""
    for names in [link.names] if link.at.copies else [(name,) for name in link.names]:
        value = next(values)
        for name in names:
            with writer.open(name) as tensor:
                place = link.view(tensor)
                place[...] = value.reshape(place.shape)
        del value  # before the next one is read


def _copy(entries: Mapping[str, Entry], writer: safetensors.Writer) -> None:
    for name, entry in entries.items():
        with writer.open(name) as tensor:
            tensor[...] = entry.read()


def _spelled(entries: Mapping[str, Entry]) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    return {name: (entry.dtype, entry.shape) for name, entry in entries.items()}


def _buffers(family: Family, entries: Mapping[str, Entry], wanted: Iterable[str]) -> dict[str, Entry]:
    def is_one(name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in family.buffers)

    return {name: entry for name, entry in entries.items() if name not in wanted and is_one(name)}


def _has_buffers(kept: Path | None) -> bool:
    return kept is not None and (kept / f"{BUFFERS}.safetensors").is_file()


def read_config(directory: Path) -> dict[str, Any]:
    """config.json; UserError where there is none."""
    file = directory / CONFIG
    try:
        config = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}): give a directory that has one."
        ) from error
    except ValueError as error:
        raise UserError(f"{file} is no JSON ({error}): download it again.") from error
    if not isinstance(config, dict):
        raise UserError(f"{file} holds no JSON object: download it again.")
    return config


def _system(family: Family, config: Mapping[str, Any], source: Path) -> tuple[System, ImageSpec]:
    """The system with the published standardisation of its pictures, and the rest of their preprocessing."""
    try:
        system = family.read(config, None)
        if family.pixels is None:
            return system, ImageSpec()
        expected = family.pixels(system)
        found = pixels.read(source / pixels.FILE, expected)
        if found.spec.size != expected.spec.size:
            sizes = f"{found.spec.size} and {CONFIG} {expected.spec.size}"
            raise UserError(f"{source / pixels.FILE} makes pictures of {sizes} pixels: make them equal.")
        return family.read(config, found), found.spec
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        told = f"lacks {error}" if isinstance(error, KeyError) else f"does not fit: {error}"
        raise UserError(f"{source / CONFIG} {told}; mmjax cannot build this {family.name}.") from error


def _require_fit(
    entries: Mapping[str, Entry],
    wanted: Mapping[str, tuple[int, ...]],
    ties: Mapping[str, str],
    sentence: str,
) -> None:
    misshaped = [
        f"{name} is {list(entries[name].shape)} and should be {list(shape)}"
        for name, shape in wanted.items()
        if name in entries and entries[name].shape != tuple(shape)
    ]
    lists = {
        "missing": sorted(wanted.keys() - entries.keys()),
        "not expected": sorted(entries.keys() - wanted.keys() - ties.keys()),
        "mis-shaped": misshaped,
    }
    problems = [
        f"{what}: {', '.join(names[:_SHOWN])}{f' and {len(names) - _SHOWN} more' * (len(names) > _SHOWN)}"
        for what, names in lists.items()
        if names
    ]
    if problems:
        raise UserError(f"{sentence}: {'; '.join(problems)}")
    for name, same in ties.items():
        if name in entries and not safetensors.equal(entries[name], entries[same]):
            raise UserError(f"{sentence}: {name} differs from {same}, to which the config ties it")


def _dtype(link: Link, entries: Mapping[str, Entry], dtype: str | None) -> np.dtype:
    """The type of one of our parameters; its layers must agree."""
    first = entries[link.names[0]]
    for name in link.names:
        entry = entries[name]
        if entry.dtype not in FLOATS.values() or entry.dtype != first.dtype:
            found = f"{entry.dtype} beside {first.dtype}" if entry.dtype != first.dtype else entry.dtype
            raise UserError(f"{entry.file}: {name} is {found}: give weights of one of {', '.join(FLOATS)}.")
        if link.at.copies and not safetensors.equal(entry, first):
            raise UserError(f"{entry.file}: {name} differs from {link.names[0]}, of which it is a copy.")
    return FLOATS[dtype] if dtype else first.dtype


def _layers(link: Link, entries: Mapping[str, Entry], dtype: np.dtype) -> Iterator[np.ndarray]:
    for name in link.names[:1] if link.at.copies else link.names:
        yield link.view(entries[name].read()).astype(dtype, copy=False)


def _computing(system: System, dtypes: Iterable[np.dtype]) -> System:
    """The system with its activations in bfloat16 where its parameters are."""
    half = FLOATS["bfloat16"] in dtypes

    def change(value: Any) -> Any:
        if not dataclasses.is_dataclass(value):
            return value
        fields = {f.name: change(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields | ({"dtype": "bfloat16"} if "dtype" in fields else {}))

    return change(system) if half else system


def _run(
    family: Family, system: System, image: ImageSpec, tokenizer: Tokenizer, record: Mapping[str, Any]
) -> dict[str, Any]:
    """The item that makes the checkpoint one of ours: see `mmjax.training.checkpoints`."""
    kind = type(system)
    data = {"source": "", "image_size": image.size, "image": image, "augment": None, **family.data(system)}
    config = configs.complete(
        {
            "system": f"{kind.__module__}.{kind.__qualname__}",
            "model": {field.name: getattr(system, field.name) for field in dataclasses.fields(system)},
            "data": data,
            "training": {"steps": 1, "batch_size": 1},
            "evaluators": dict(family.evaluators),
        }
    )
    return {
        "config": configs.to_json(config),
        "tokenizer": tokenizer.to_json(),
        "image_spec": dataclasses.asdict(image),
        "versions": {"mmjax": __version__},
        "interop": dict(record),
    }


def _require_nothing_lost(leaves: Leaves, found: list[Link]) -> None:
    for path in leaves.kinds.keys() - {link.path for link in found}:
        if any(np.any(value) for value in leaves.read(path, stacked=0)):
            name = "/".join(path)
            raise UserError(f"{name} of {leaves.directory} has no place in this layout, and is not zero.")


def _write_companions(
    draft: Path,
    family: Family,
    system: System,
    run: Mapping[str, Any],
    kept: Path | None,
    tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
) -> None:
    """config.json, preprocessing and tokenizer: the kept files as they were, as far as they still hold."""
    if kept:
        for file in kept.iterdir():
            if file.name in COMPANIONS:
                shutil.copyfile(file, draft / file.name)
    image = configs.build(ImageSpec, run["image_spec"], "image_spec")
    seen = family.pixels and dataclasses.replace(family.pixels(system), spec=image)
    original = read_config(draft) if (draft / CONFIG).exists() else {}
    if not original or family.unlike(system, family.read(original, seen)):
        original = _merged(original, family.write(system))
    types = {np.dtype(dtype).name for dtype, _ in tensors.values()} & FLOATS.keys()
    key = "torch_dtype" if "torch_dtype" in original else "dtype"
    if len(types) == 1 and original.get(key, "float32") != min(types):
        original = original | {key: min(types)}
    if not (draft / CONFIG).exists() or original != read_config(draft):
        _write_json(draft / CONFIG, original)
    if seen and not kept:
        _write_json(draft / pixels.FILE, pixels.write(seen))
    tokenizer = Tokenizer.from_json(run["tokenizer"])
    if tokenizer.roles and not kept:
        (draft / "tokenizer.json").write_text(tokenizer.backend_json, encoding="utf-8")
        _write_json(draft / "tokenizer_config.json", tokenizer_files.describe(tokenizer))


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        k: _merged(old[k], v)
        for k, v in new.items()
        if isinstance(v, Mapping) and isinstance(old.get(k), Mapping)
    }
    return {**old, **new, **both}


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _new(target: str | Path) -> Path:
    target = Path(target).absolute()
    if target.exists():
        raise UserError(f"{target} exists and is left as it is: choose a new directory.")
    return target


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A place to write to that becomes the target at the end, or vanishes where anything goes wrong."""
    draft = target.parent / f".{target.name}.partial-{os.getpid()}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        os.rename(draft, target)
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror or error}): choose another.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
