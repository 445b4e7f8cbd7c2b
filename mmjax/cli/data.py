"""mmjax data: make a data set, look into one, or check that it is still what it was.

mmjax data build WORLD --output DIR [--force] [the settings of the world]
    Makes a world of the installed packages, no download: openmoji (named drawings) or scenes (composed
    pictures whose truth is known). `mmjax data build WORLD --help` shows its settings.

mmjax data build SOURCE --output DIR [--from DIR] [--image-size N] [--workers N] [--limit N] [--force]
    Converts any data set to record files that are read at random: a CSV, TSV, JSON-lines or Parquet table
    with its pictures, WebDataset tars, class folders, a Hugging Face `datasets` directory, tfds:NAME, or a
    published schema such as coco:DIR (or coco --from DIR). Every record is checked; what is wrong is left
    out, counted in the manifest and named in problems.jsonl. --image-size scales larger pictures down. --beam
    runs it as an Apache Beam pipeline, whose options follow `--`.

mmjax data inspect SOURCE [--sheet FILE] [--problems FILE] [--limit N]
    Counts, lengths, sizes, formats, every problem by kind, licence and attribution; --sheet writes a PNG of
    captioned pictures.

mmjax data verify DIR
    Hashes the record files anew and says which differ from the manifest.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect as signatures
import json
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmjax.data import conversion, inspection
from mmjax.data.sources import open_dataset
from mmjax.data.worlds.world import World
from mmjax.errors import UserError

EXPLAINS_ITSELF = True  # --help of a subcommand is answered here, not by the docstring
WORLDS = "mmjax.data.worlds"
PROBLEMS_SHOWN = 20  # of each kind
LARGE = 100_000  # records; with less, a progress bar would only flicker


def main(argv: list[str]) -> None:
    """Runs `mmjax data ARGV...`; a mistake in the arguments exits with code 2."""
    build = _world(argv[1]) if len(argv) > 1 and argv[0] == "build" else None
    end = argv.index("--") if "--" in argv else len(argv)
    arguments = _parser(build).parse_args(argv[:end])
    arguments.beam_options = argv[end + 1 :]
    arguments.run(arguments)


def _parser(world: Callable[..., World] | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmjax data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="build|inspect|verify")
    build = commands.add_parser("build", help="make a world, or convert any data set to record files")
    build.add_argument("source", metavar="WORLD|SOURCE", help="a world's name, a path, or KIND:PATH?OPTIONS")
    build.add_argument("--output", required=True, metavar="DIR", help="where to write it")
    build.add_argument("--force", action="store_true", help="build again where there is one already")
    if world is None:
        _conversion_options(build)
    else:
        for name, (kind, default) in _settings(world).items():
            told = _told(world, name)
            build.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=told)
        build.set_defaults(run=lambda arguments: _build_world(arguments, world))
    look = commands.add_parser("inspect", help="counts, lengths, sizes, problems and licence of a data set")
    look.add_argument("source", metavar="SOURCE", help="a path, or KIND:PATH?OPTIONS")
    look.add_argument("--sheet", metavar="FILE", help="write a contact sheet of captioned pictures (PNG)")
    look.add_argument("--problems", metavar="FILE", help="write every problem as a line of JSON")
    look.add_argument("--limit", type=_positive, help="look only at the first so many records of each split")
    look.set_defaults(run=_inspect)
    verify = commands.add_parser("verify", help="hash the files of a built data set anew")
    verify.add_argument("directory", metavar="DIR")
    verify.set_defaults(run=_verify)
    return parser


def _conversion_options(build: argparse.ArgumentParser) -> None:
    build.add_argument("--from", dest="path", metavar="DIR", help="where the files of a published schema are")
    build.add_argument(
        "--image-size", type=int, default=0, metavar="N", help="longest shorter side in pixels"
    )
    build.add_argument("--quality", type=int, default=92, help="of the JPEGs that were scaled")
    build.add_argument("--workers", type=int, default=0, metavar="N", help="threads; default one per core")
    build.add_argument("--limit", type=_positive, help="only the first so many records of each split")
    build.add_argument("--shard-megabytes", type=_positive, default=1024, help="size of a record file")
    build.add_argument("--max-bad-share", type=float, default=0.1, help="stop when more of a split is bad")
    build.add_argument("--beam", action="store_true", help="run as a Beam pipeline, its options after --")
    build.set_defaults(run=_convert)


def _world(name: str) -> Callable[..., World] | None:
    """The builder of a world, the function `build` of its module; None where there is no such world."""
    if not name.isidentifier() or importlib.util.find_spec(f"{WORLDS}.{name}") is None:
        return None
    return getattr(importlib.import_module(f"{WORLDS}.{name}"), "build", None)


def _settings(build: Callable[..., World]) -> dict[str, tuple[type, Any]]:
    """name -> (type, default) of the settings of a world: the keyword arguments that a user can type."""
    hints = typing.get_type_hints(build)
    found = {}
    for name, parameter in signatures.signature(build).parameters.items():
        kinds = [kind for kind in typing.get_args(hints[name]) if kind is not type(None)] or [hints[name]]
        if parameter.kind is parameter.KEYWORD_ONLY and kinds[0] in (int, float, str):
            found[name] = kinds[0], parameter.default
    return found


def _told(build: Callable[..., World], name: str) -> str:
    """What the docstring says of an argument."""
    lines = [line.strip() for line in (build.__doc__ or "").splitlines()]
    return next(
        (line.partition(": ")[2].replace("%", "%%") for line in lines if line.startswith(f"{name}: ")), ""
    )


def _build_world(arguments: argparse.Namespace, build: Callable[..., World]) -> None:
    world = build(
        arguments.output,
        **{name: getattr(arguments, name) for name in _settings(build)},
        replace=arguments.force,
        progress=lambda items: tqdm(items, unit=" records", desc=arguments.source),
    )
    _print_counts(world)
    _print_licence(world)


def _convert(arguments: argparse.Namespace) -> None:
    spec = f"{arguments.source}:{arguments.path}" if arguments.path else arguments.source
    preparation = conversion.Preparation(image_size=arguments.image_size, quality=arguments.quality)
    common = dict(
        preparation=preparation,
        limit=arguments.limit,
        max_bad_share=arguments.max_bad_share,
        replace=arguments.force,
    )
    if arguments.beam:
        beam = importlib.import_module("mmjax.data.beam")
        world = beam.convert(spec, arguments.output, options=arguments.beam_options, **common)
    else:
        world = conversion.convert(
            spec,
            arguments.output,
            workers=arguments.workers,
            shard_megabytes=arguments.shard_megabytes,
            progress=lambda split, items, total: tqdm(items, unit=" records", desc=split, total=total),
            **common,
        )
    _print_counts(world)
    for split, problems in world.manifest["problems"].items():
        for kind, count in problems.items():
            print(f"  {split}: {kind}: {count}")
    if any(world.manifest["problems"].values()):
        print(f"  every problem is named in {world.directory}/{conversion.PROBLEMS}")


def _inspect(arguments: argparse.Namespace) -> None:
    dataset = open_dataset(arguments.source)
    manifest = getattr(dataset, "manifest", {})
    facts = {key: value for key, value in manifest.items() if isinstance(value, str | int)}
    told = [f"{key} {facts[key]}" for key in facts if key not in ("licence", "attribution")]
    if told:
        print(", ".join(told))
    seen: set[str] = set()
    samples, problems = [], []
    for split in dataset.splits:
        source = dataset.source(split)
        report = inspection.inspect(
            source,
            seen,
            limit=arguments.limit,
            progress=lambda items, total: tqdm(items, total=total, leave=False, disable=total < LARGE),
        )
        print(f"{split}: {report.count} records, {len(report.problems)} with problems")
        print("\n".join(report.lines(problems_shown=PROBLEMS_SHOWN)))
        samples += inspection.samples(source, report.good)
        problems += [(split, bad) for bad in report.problems]
    if isinstance(dataset, World):
        for difference in conversion.verify(dataset.directory)[1]:
            print(f"  {difference}")
        _print_licence(dataset)
    if arguments.problems:
        lines = [dict(split=split, id=bad.id, kind=bad.kind, message=bad.message) for split, bad in problems]
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        _save("--problems", arguments.problems, lambda path: path.write_text(text, encoding="utf-8"))
        print(f"problems {arguments.problems}")
    if arguments.sheet:
        sheet = inspection.contact_sheet(samples)
        _save("--sheet", arguments.sheet, lambda path: sheet.save(path, format="PNG"))
        print(f"contact sheet {arguments.sheet}")


def _verify(arguments: argparse.Namespace) -> None:
    right, wrong = conversion.verify(arguments.directory)
    for file in right:
        print(f"{file}: as the manifest says")
    if wrong:
        raise UserError(
            f"{arguments.directory}: {'; '.join(wrong)}: build it again or fetch those files anew."
        )


def _print_counts(world: World) -> None:
    counts = ", ".join(f"{name} {split['count']}" for name, split in world.manifest["splits"].items())
    print(f"{world.directory}: {counts}")


def _print_licence(world: World) -> None:
    print(f"licence {world.manifest.get('licence', 'not stated')}")
    print(world.manifest.get("attribution", "no attribution stated"))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _save(flag: str, file: str, write: Callable[[Path], Any]) -> None:
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        write(Path(file))
    except OSError as error:
        raise UserError(f"{flag} {file} cannot be written ({error.strerror or error}).") from error
