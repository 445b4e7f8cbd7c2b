"""mmjax data: make a data set, or look into one.

mmjax data build openmoji --output DIR [--size 64] [--language en] [--limit N] [--force]
    Renders the drawings of the installed OpenMoji package, captioned in any language of the `emoji` package
    (needs `mmjax[demo]`; no download). A finished data set in DIR is kept unless --force is given; --limit
    keeps about N pictures.

mmjax data inspect DIR [--sheet FILE]
    Counts, caption lengths, bad records, licence and attribution; --sheet writes a PNG of captioned pictures.
"""

from __future__ import annotations

import argparse
import collections
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from mmjax.data.images import ImageSpec
from mmjax.data.records import BadRecord, Record
from mmjax.data.worlds import openmoji
from mmjax.data.worlds.world import World, sha256
from mmjax.errors import UserError

WORLDS: dict[str, Callable[..., World]] = {"openmoji": openmoji.build}
PROBLEMS_SHOWN = 20
SHEET_COLUMNS, SHEET_PICTURES, SHEET_PIXELS, SHEET_TEXT = 8, 24, 112, 44


def main(argv: list[str]) -> None:
    """Runs `mmjax data ARGV...`; a mistake in the arguments exits with code 2."""
    arguments = _parser().parse_args(argv)
    arguments.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mmjax data", description="Make a data set, or look into one.")
    commands = parser.add_subparsers(required=True, metavar="build|inspect")
    build = commands.add_parser("build", help="make a data set from installed packages; no download")
    build.add_argument("world", choices=WORLDS)
    build.add_argument("--output", required=True, metavar="DIR", help="where to write it")
    build.add_argument("--size", type=int, default=64, help="side of the pictures in pixels")
    build.add_argument("--language", default="en", help="language of the captions, such as de or zh")
    build.add_argument("--limit", type=int, help="keep only about this many pictures")
    build.add_argument("--force", action="store_true", help="build again where there is one already")
    build.set_defaults(run=_build)
    inspect = commands.add_parser("inspect", help="counts, captions, problems and licence of a data set")
    inspect.add_argument("directory", metavar="DIR")
    inspect.add_argument("--sheet", metavar="FILE", help="write a contact sheet of captioned pictures (PNG)")
    inspect.set_defaults(run=_inspect)
    return parser


def _build(arguments: argparse.Namespace) -> None:
    world = WORLDS[arguments.world](
        arguments.output,
        size=arguments.size,
        language=arguments.language,
        limit=arguments.limit,
        replace=arguments.force,
        progress=lambda items: tqdm(items, unit=" pictures", desc=arguments.world),
    )
    counts = ", ".join(f"{name} {split['count']}" for name, split in world.manifest["splits"].items())
    print(f"{world.directory}: {counts}")
    _print_licence(world)


def _inspect(arguments: argparse.Namespace) -> None:
    world = World.open(arguments.directory)
    facts = {key: value for key, value in world.manifest.items() if isinstance(value, str | int)}
    print(", ".join(f"{key} {facts[key]}" for key in facts if key not in ("licence", "attribution")))
    samples: list[Record] = []
    seen: set[str] = set()
    for split in world.splits:
        samples += _inspect_split(world, split, seen)
    _print_licence(world)
    if arguments.sheet:
        _save(contact_sheet(samples), arguments.sheet)


def _inspect_split(world: World, split: str, seen: set[str]) -> list[Record]:
    """Prints what a split holds and returns the records for the contact sheet; `seen` gains its ids."""
    source = world.source(split)
    good, words, sizes, problems = [], [], [], []
    for index in range(len(source)):
        try:
            record = Record.decode(source[index])
            ImageSpec().decode(record.image)
            if record.id in seen:
                raise BadRecord(record.id, "repeated id", "another record has the same id")
        except BadRecord as bad:
            problems.append(BadRecord(bad.id or f"number {index}", bad.kind, bad.message))
            continue
        seen.add(record.id)
        good.append(index)
        words.append(len(record.caption.split()))
        sizes.append(len(record.image))
    print(f"{split}: {len(source)} records, {len(problems)} with problems")
    if good:
        print(f"  words in a caption  {_quantiles(words)}")
        print(f"  bytes in a picture  {_quantiles(sizes)}")
    if sha256(world.path(split)) != world.manifest["splits"][split]["sha256"]:
        print("  the file differs from the SHA-256 in the manifest")
    for kind, count in collections.Counter(bad.kind for bad in problems).most_common():
        print(f"  {kind}: {count}")
    for bad in problems[:PROBLEMS_SHOWN]:
        print(f"    {bad}")
    step = max(1, len(good) // SHEET_PICTURES)
    return [Record.decode(source[index]) for index in good[::step][:SHEET_PICTURES]]


def _quantiles(values: list[int]) -> str:
    five, half, most, largest = np.percentile(values, [5, 50, 95, 100]).round().astype(int)
    return f"5 % {five}, median {half}, 95 % {most}, largest {largest}"


def _print_licence(world: World) -> None:
    print(f"licence {world.manifest.get('licence', 'not stated')}")
    print(world.manifest.get("attribution", "no attribution stated"))


def contact_sheet(records: list[Record]) -> Image.Image:
    """A grid of pictures with their captions underneath."""
    font = ImageFont.load_default(size=11)
    rows = -(-len(records) // SHEET_COLUMNS) or 1
    height = SHEET_PIXELS + SHEET_TEXT
    sheet = Image.new("RGB", (SHEET_COLUMNS * SHEET_PIXELS, rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    for place, record in enumerate(records):
        row, column = divmod(place, SHEET_COLUMNS)
        x, y = column * SHEET_PIXELS, row * height
        sheet.paste(ImageSpec(size=SHEET_PIXELS - 8).decode(record.image), (x + 4, y + 4))
        lines = textwrap.wrap(record.caption, width=17, max_lines=3, placeholder=" ...")
        pen.multiline_text((x + 4, y + SHEET_PIXELS), "\n".join(lines), fill="black", font=font, spacing=1)
    return sheet


def _save(sheet: Image.Image, file: str) -> None:
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        sheet.save(file, format="PNG")
    except OSError as error:
        raise UserError(f"--sheet {file} cannot be written ({error.strerror or error}).") from error
    print(f"contact sheet {file}")
