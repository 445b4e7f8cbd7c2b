"""Looking into a data set: what it holds, how long and large its parts are, and every problem."""

from __future__ import annotations

import collections
import dataclasses
import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmjax.data import decode as decoding
from mmjax.data import records
from mmjax.data.conversion import LEFT_OUT, in_order
from mmjax.data.images import ImageSpec
from mmjax.data.records import BadRecord
from mmjax.data.sources.access import Source

COLUMNS, PICTURES, PIXELS, TEXT = 8, 24, 112, 44  # of a contact sheet; sizes in pixels

T = TypeVar("T")


class Seen(NamedTuple):
    """What one record is: its pictures as (format, width, height, bytes)."""

    id: str
    kind: str
    words: int
    pictures: tuple[tuple[str, int, int, int], ...]
    lost: tuple[str, ...]


@dataclasses.dataclass(kw_only=True)
class Report:
    """What a split holds. `good` are the numbers of its good records."""

    count: int = 0
    kinds: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    formats: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    words: list[int] = dataclasses.field(default_factory=list)
    pictures: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    problems: list[BadRecord] = dataclasses.field(default_factory=list)
    good: list[int] = dataclasses.field(default_factory=list)

    def lines(self, *, problems_shown: int) -> list[str]:
        """The report as text."""
        lines = [f"  kinds               {_counts(self.kinds)}"] if set(self.kinds) != {"Record"} else []
        if self.words:
            of = "caption" if set(self.kinds) == {"Record"} else "record "
            lines.append(f"  words in a {of}  {quantiles(self.words)}")
        if self.pictures:
            widths, heights, sizes = zip(*self.pictures, strict=True)
            lines += [
                f"  bytes in a picture  {quantiles(sizes)}",
                f"  width in pixels     {quantiles(widths)}",
                f"  height in pixels    {quantiles(heights)}",
                f"  formats             {_counts(self.formats)}",
            ]
        kinds = collections.Counter(bad.kind for bad in self.problems)
        lines += [f"  {kind}: {count}" for kind, count in kinds.most_common()]
        shown: collections.Counter = collections.Counter()
        for bad in self.problems:
            shown[bad.kind] += 1
            if shown[bad.kind] <= problems_shown:
                lines.append(f"    {bad}")
        hidden = sum(max(0, count - problems_shown) for count in kinds.values())
        return lines + ([f"    and {hidden} more; --problems FILE writes all of them"] if hidden else [])


def inspect(
    source: Source,
    seen: set[str],
    *,
    limit: int | None = None,
    workers: int = 0,
    progress: Callable[[Iterable[T], int], Iterable[T]] = lambda items, total: items,
) -> Report:
    """Reads the records of a split, each picture decoded.

    Args:
      seen: ids met in other splits; gains those of this one.
      limit: only the first so many records.
      workers: threads; 0 for one per core.
      progress: wraps the records, given their number.
    """
    count = min(len(source), limit or len(source))
    report = Report(count=count)
    looked = in_order(lambda index: look(source, index), range(count), workers=workers, ahead=64)
    for index, found in enumerate(progress(looked, count)):
        if isinstance(found, Seen) and found.id in seen:
            found = BadRecord(found.id, "repeated id", "another record has the same id")
        if isinstance(found, BadRecord):
            report.problems.append(found)
            continue
        seen.add(found.id)
        report.good.append(index)
        report.kinds[found.kind] += 1
        report.words.append(found.words)
        report.problems += [BadRecord(found.id, "picture left out", told) for told in found.lost]
        for format, *shape in found.pictures:
            report.formats[format] += 1
            report.pictures.append(tuple(shape))
    return report


def look(source: Source, index: int) -> Seen | BadRecord:
    """What record `index` is, or what is wrong with it."""
    id = f"number {index}"
    try:
        record = records.decode(source[index])
        id = record.id
        pictures = tuple(_picture(data) for data in records.pictures(record))
    except BadRecord as bad:
        return BadRecord(bad.id or id, bad.kind, bad.message)
    words = sum(len(text.split()) for text in records.texts(record))
    return Seen(id, type(record).__name__, words, pictures, tuple(record.facts.get(LEFT_OUT, ())))


def quantiles(values: Sequence[int]) -> str:
    """The 5 %, 50 % and 95 % quantiles and the largest, as text."""
    five, half, most, largest = np.percentile(values, [5, 50, 95, 100]).round().astype(int)
    return f"5 % {five}, median {half}, 95 % {most}, largest {largest}"


def samples(source: Source, good: Sequence[int]) -> list[tuple[bytes, str]]:
    """(picture, text) of records spread evenly over the good ones; those without a picture are left out."""
    step = max(1, len(good) // PICTURES)
    chosen = (records.decode(source[index]) for index in good[::step][:PICTURES])
    return [
        (records.pictures(one)[0], " ".join(records.texts(one))) for one in chosen if records.pictures(one)
    ]


def contact_sheet(pictures: Sequence[tuple[bytes, str]]) -> Image.Image:
    """A grid of pictures with their texts underneath."""
    font = ImageFont.load_default(size=11)
    rows = -(-len(pictures) // COLUMNS) or 1
    height = PIXELS + TEXT
    sheet = Image.new("RGB", (COLUMNS * PIXELS, rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (picture, text) in enumerate(pictures):
        row, column = divmod(place, COLUMNS)
        x, y = column * PIXELS, row * height
        sheet.paste(ImageSpec(size=PIXELS - 8).decode(picture), (x + 4, y + 4))
        lines = textwrap.wrap(text, width=17, max_lines=3, placeholder=" ...")
        pen.multiline_text((x + 4, y + PIXELS), "\n".join(lines), fill="black", font=font, spacing=1)
    return sheet


def _picture(data: bytes) -> tuple[str, int, int, int]:
    decoding.decode_nearly(decoding.opened(data, lambda size: size))
    with Image.open(io.BytesIO(data), formats=decoding.FORMATS) as image:
        return image.format, image.width, image.height, len(data)


def _counts(counter: collections.Counter) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())
