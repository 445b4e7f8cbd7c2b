"""A scene: what is in a picture, where, how many, how large and in which colour, before anything is drawn.

A scene is a pure function of (seed, split, index). Things stand in nine cells, jittered, at most one in each,
so that every place and every relation has one answer. The things of a scene come mostly from one theme and
some kinds are commoner than others: there is co-occurrence and popularity to be misled by.

The held-out split holds out combinations: an object in a colour, an object in a place, a pair of objects.
Training never shows a held-out combination, but shows its parts; every held-out scene has at least one.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import random
import zlib
from collections.abc import Mapping
from typing import Any

from mmjax.data.worlds.scenes import vocabulary
from mmjax.data.worlds.scenes.vocabulary import BACKGROUNDS, COLOURS, PLACES, SIZES, THEMES, Kind
from mmjax.errors import UserError

SPLITS = ("train", "held_out")
SIDES = {"small": (0.24, 0.27), "large": (0.34, 0.38)}  # of a thing, in sides of the picture
CELLS = (0.2, 0.5, 0.8)  # centres of the columns and rows
JITTER = 0.04
FROM_THEME = 0.75  # share of things that come from the scene's theme
HELD_OUT_ONE_IN = {"colour": 12, "place": 16, "pair": 25, "direction": 16}
MOST_OBJECTS, MOST_OF_A_KIND = 7, 4

Box = tuple[float, float, float, float]  # left, top, right, bottom, in sides of the picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thing:
    """All objects of one kind in a scene; they look alike.

    Attributes:
      colour: of the tinted drawing, None where it has its own colours.
      size: 'small' or 'large'.
      boxes: one per object. A drawing fills its box in its longer direction.
    """

    name: str
    category: str
    colour: str | None
    size: str
    boxes: tuple[Box, ...]

    @property
    def count(self) -> int:
        return len(self.boxes)

    @property
    def places(self) -> tuple[str, ...]:
        """The place of each object, one of PLACES."""
        return tuple(place(box) for box in self.boxes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """The whole truth about a picture; `look` seeds the shade and texture of its background."""

    background: str
    things: tuple[Thing, ...]
    look: int = 0

    def thing(self, name: str) -> Thing | None:
        """The things of this name, or None."""
        return next((thing for thing in self.things if thing.name == name), None)

    def of_category(self, category: str) -> tuple[Thing, ...]:
        """The things of a category, those of narrower ones included: a bird is an animal."""
        return tuple(
            thing
            for thing in self.things
            if category in (thing.category, vocabulary.BROADER.get(thing.category))
        )

    def holds(self, first: str, relation: str, second: str) -> bool:
        """Whether every `first` is left of, right of, above or below every `second`."""
        one, other = self.thing(first), self.thing(second)
        if one is None or other is None or one is other:
            return False
        return all(related(a, relation, b) for a in one.boxes for b in other.boxes)

    @functools.cached_property
    def combinations(self) -> frozenset[tuple[str, str, str]]:
        """(what, object, colour or place or other object) of all the scene's combinations."""
        found = []
        for number, thing in enumerate(self.things):
            if thing.colour:
                found.append(("colour", thing.name, thing.colour))
            found += [("place", thing.name, one) for one in thing.places]
            found += [("pair", *sorted((thing.name, other.name))) for other in self.things[:number]]
        return frozenset(found)

    def to_dict(self) -> dict[str, Any]:
        """The scene as JSON-able values, boxes to four decimals."""
        things = [
            {**vars(thing), "boxes": [[round(edge, 4) for edge in box] for box in thing.boxes]}
            for thing in self.things
        ]
        return {"background": self.background, "look": self.look, "things": things}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Scene:
        """The inverse of `to_dict`, up to the rounding of the boxes."""
        things = tuple(
            Thing(**{**thing, "boxes": tuple(tuple(box) for box in thing["boxes"])})
            for thing in fields["things"]
        )
        return cls(background=fields["background"], things=things, look=fields["look"])


def place(box: Box) -> str:
    """The place of a box: the ninth of the picture that its centre lies in."""
    column, row = (min(int(3 * (box[axis] + box[axis + 2]) / 2), 2) for axis in (0, 1))
    return PLACES[3 * row + column]


def related(one: Box, relation: str, other: Box) -> bool:
    """Whether box `one` is `relation` box `other`: by the column or row of its centre."""
    numbers = PLACES.index(place(one)), PLACES.index(place(other))
    (row, column), (other_row, other_column) = (divmod(number, 3) for number in numbers)
    return {
        "left of": column < other_column,
        "right of": column > other_column,
        "above": row < other_row,
        "below": row > other_row,
    }[relation]


@functools.cache
def is_held_out(combination: tuple[str, str, str]) -> bool:
    """Whether a combination is kept out of training: by a hash, the same for every seed."""
    return zlib.crc32("/".join(combination).encode()) % HELD_OUT_ONE_IN[combination[0]] == 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenes:
    """An unlimited sequence of scenes per split.

    Attributes:
      objects: how many kinds of object there are, None for all of them.
      tinted: share of the things in one hue instead of the colours of their drawing, which tell kinds apart.
    """

    seed: int = 0
    objects: int | None = None
    tinted: float = 0.5

    def __post_init__(self):
        if not 0 <= self.tinted <= 1:
            raise UserError(f"--tinted is {self.tinted:g}: use a share from 0 to 1.")
        most = len(vocabulary.kinds())
        if self.objects is not None and not 2 * MOST_OBJECTS <= self.objects <= most:
            raise UserError(f"--objects is {self.objects}: use {2 * MOST_OBJECTS} to {most}.")

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return vocabulary.chosen(self.objects)

    def scene(self, split: str, index: int) -> Scene:
        """Scene number `index` of 'train' or 'held_out'."""
        rng = self.random(split, index, "scene")
        while True:
            scene = self._draw(rng)
            if any(map(is_held_out, scene.combinations)) == (split == "held_out"):
                return scene

    def random(self, split: str, index: int, purpose: str) -> random.Random:
        """The generator for one purpose of one scene, the same on every machine."""
        return random.Random(f"scenes/{self.seed}/{split}/{index}/{purpose}")

    def _draw(self, rng: random.Random) -> Scene:
        theme = rng.choice(self._themes)
        names: dict[str, Kind] = {}
        wanted = rng.choice((2, 3, 3, 4))
        while len(names) < wanted:
            pool = theme if rng.random() < FROM_THEME else self.kinds
            kind = pool[int(len(pool) * rng.random() ** 1.3)]  # the first of a pool are the popular ones
            names.setdefault(kind.name, kind)
        left, things = MOST_OBJECTS - wanted, []
        cells = rng.sample(range(len(PLACES)), len(PLACES))
        for kind in names.values():
            count = min(rng.choice((1, 1, 1, 1, 2, 2, 3, MOST_OF_A_KIND)), 1 + left)
            left -= count - 1
            size = rng.choice(SIZES) if count < 3 else "small"
            side = rng.choice(SIDES[size])
            colour = rng.choice(tuple(COLOURS)) if rng.random() < self.tinted else None
            things.append(
                Thing(
                    name=kind.name, category=kind.category, colour=colour, size=size,
                    boxes=tuple(_box(rng, cells.pop(), side) for _ in range(count)),
                )
            )  # fmt: skip
        background = rng.choice(tuple(BACKGROUNDS))
        return Scene(background=background, things=tuple(things), look=rng.getrandbits(31))

    @functools.cached_property
    def _themes(self) -> tuple[tuple[Kind, ...], ...]:
        # The commonest of each category first, so that popularity does not favour a whole category.
        themes = []
        for theme in THEMES:
            ranks = collections.Counter()
            ranked = []
            for kind in self.kinds:
                if kind.category in theme:
                    ranked.append((ranks[kind.category], len(ranked), kind))
                    ranks[kind.category] += 1
            themes.append(tuple(kind for *_, kind in sorted(ranked, key=lambda entry: entry[:2])))
        return tuple(themes)


def _box(rng: random.Random, cell: int, side: float) -> Box:
    row, column = divmod(cell, 3)
    edges = []
    for number in (column, row):
        centre = CELLS[number] + rng.uniform(-JITTER, JITTER)
        edges.append(min(max(centre, side / 2), 1 - side / 2) - side / 2)
    left, top = edges
    return left, top, left + side, top + side
