"""Moving clips: one or two objects that move in a direction, slowly or fast, and may collide.

What meets head-on bounces back; what crosses another's path goes on. Held out of training is an object in a
direction, besides what its scene holds out.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmjax.data.worlds.scenes.captions import Mention
from mmjax.data.worlds.scenes.picture import Painter
from mmjax.data.worlds.scenes.scene import Box, Scene, Thing, is_held_out

FRAMES, RATE = 12, 8.0  # a second and a half
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SPEEDS = {"slowly": 0.02, "fast": 0.04}  # sides of the picture per frame
COLLIDING = 0.4  # share of the clips


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mover:
    """One moving object; `centres` is where it is in each frame, in sides of the picture."""

    thing: Thing
    direction: str
    speed: str
    centres: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        mention = Mention(name=self.thing.name, count=1, colour=self.thing.colour)
        return f"{mention} moves {self.direction} {self.speed}"

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Its box in each frame."""
        half = (self.thing.boxes[0][2] - self.thing.boxes[0][0]) / 2
        return tuple((x - half, y - half, x + half, y + half) for x, y in self.centres)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """The truth about a clip; collision: the frame in which its movers touch, None if they never do."""

    background: str
    look: int
    movers: tuple[Mover, ...]
    collision: int | None = None

    @property
    def caption(self) -> str:
        """Example: 'A red car moves left slowly, an owl moves right fast, and they collide.'"""
        said = [str(mover) for mover in self.movers]
        if self.collision is not None:
            said.append("they collide")
        *first, last = said
        text = f"{', '.join(first)}{',' if len(first) > 1 else ''} and {last}" if first else last
        return f"{text[0].upper()}{text[1:]}."

    def to_dict(self) -> Mapping[str, Any]:
        """The clip as JSON-able values."""
        movers = [
            {
                "name": mover.thing.name,
                "colour": mover.thing.colour,
                "direction": mover.direction,
                "speed": mover.speed,
                "boxes": [[round(edge, 4) for edge in box] for box in mover.boxes],
            }
            for mover in self.movers
        ]
        return {"background": self.background, "movers": movers, "collision": self.collision}

    def paint(self, painter: Painter) -> list[np.ndarray]:
        """FRAMES pictures u8[H, W, 3]."""
        frames = []
        for number in range(FRAMES):
            canvas = painter.background(self.background, self.look)
            for mover in self.movers:
                painter.put(canvas, mover.thing.name, mover.thing.colour, mover.boxes[number])
            frames.append(canvas)
        return frames


def clip(scene: Scene, split: str, rng: random.Random) -> Clip:
    """A clip of one or two of a scene's things."""
    things = rng.sample(scene.things, 2)
    pair = rng.choice((("right", "left"), ("down", "up")))
    shown = [_is_shown(thing, direction, split) for thing, direction in zip(things, pair, strict=True)]
    if rng.random() < COLLIDING and all(shown):
        return _colliding(scene, things, pair, rng)
    movers = [_moving(thing, split, rng) for thing in things[: rng.choice((1, 2))]]
    return Clip(background=scene.background, look=scene.look, movers=tuple(movers), collision=_touch(movers))


def _is_shown(thing: Thing, direction: str, split: str) -> bool:
    return split != "train" or not is_held_out(("direction", thing.name, direction))


def _moving(thing: Thing, split: str, rng: random.Random) -> Mover:
    """Moves from side to side through where the thing stood; in the held-out split as held out if it can."""
    shown = [direction for direction in DIRECTIONS if _is_shown(thing, direction, split)]
    held_out = [direction for direction in shown if is_held_out(("direction", thing.name, direction))]
    direction, speed = rng.choice(held_out or shown), rng.choice(tuple(SPEEDS))
    left, top, right, bottom = thing.boxes[0]
    half = SPEEDS[speed] * (FRAMES - 1) / 2
    middle = []
    for centre, step in zip(((left + right) / 2, (top + bottom) / 2), DIRECTIONS[direction], strict=True):
        margin = 0.2 + half * abs(step)
        middle.append(min(max(centre, margin), 1 - margin))
    path = [SPEEDS[speed] * number - half for number in range(FRAMES)]
    x, y = DIRECTIONS[direction]
    centres = tuple((middle[0] + x * way, middle[1] + y * way) for way in path)
    return Mover(thing=thing, direction=direction, speed=speed, centres=centres)


def _colliding(scene: Scene, things: list[Thing], pair: tuple[str, str], rng: random.Random) -> Clip:
    """Two things on one line, towards each other; each bounces back when they touch."""
    speed, axis = rng.choice(tuple(SPEEDS)), pair == ("down", "up")
    halves = [(thing.boxes[0][2] - thing.boxes[0][0]) / 2 for thing in things]
    contact = rng.randrange(5, 7)  # the frame in which they touch
    meeting, line = rng.uniform(0.46, 0.54), rng.uniform(0.25, 0.75)
    movers = []
    for thing, direction, half, side in zip(things, pair, halves, (-1, 1), strict=True):
        centres = []
        for number in range(FRAMES):
            along = meeting + side * (half + SPEEDS[speed] * abs(number - contact))
            centres.append((line, along) if axis else (along, line))
        movers.append(Mover(thing=thing, direction=direction, speed=speed, centres=tuple(centres)))
    return Clip(background=scene.background, look=scene.look, movers=tuple(movers), collision=contact)


def _touch(movers: list[Mover]) -> int | None:
    """The first frame in which two boxes overlap, None if they never do or there is one mover."""
    if len(movers) < 2:
        return None
    for number, (one, other) in enumerate(zip(*(mover.boxes for mover in movers), strict=True)):
        if all(max(one[a], other[a]) <= min(one[a + 2], other[a + 2]) + 1e-6 for a in (0, 1)):
            return number
    return None
