"""Captions: what is said of a scene (statements), and how (templates).

The two are apart so that one statement can be made false and said in the same words: see `preferences`. Every
thing of a scene is mentioned exactly once in its caption.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from mmjax.data.worlds.scenes.scene import Scene, Thing
from mmjax.data.worlds.scenes.vocabulary import NUMBERS, RELATIONS, article, by_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mention:
    """A thing as it is spoken of; None is left unsaid."""

    name: str
    count: int
    colour: str | None = None
    size: str | None = None

    def __str__(self) -> str:
        """'a small red cat', 'three red cats'."""
        noun = self.name if self.count == 1 else by_name()[self.name].plural
        words = " ".join(word for word in (self.size, self.colour, noun) if word)
        return article(words) if self.count == 1 else f"{NUMBERS[self.count]} {words}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statement:
    """That a thing is there; with `place`, where; with `relation`, how it stands to `other`."""

    subject: Mention
    place: str | None = None
    relation: str | None = None
    other: Mention | None = None

    @property
    def mentions(self) -> tuple[Mention, ...]:
        return (self.subject,) if self.other is None else (self.subject, self.other)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a caption says, in order; background None leaves it unsaid."""

    statements: tuple[Statement, ...]
    background: str | None = None


def located(place: str) -> str:
    """Example: 'top' -> 'at the top', 'middle' -> 'in the middle', 'left' -> 'on the left'."""
    if place == "middle":
        return "in the middle"
    return f"{'on' if place in ('left', 'right') else 'at'} the {place}"


def mention(thing: Thing, rng: random.Random) -> Mention:
    """A thing with its colour, where it has one, more often than not, and now and then its size."""
    return Mention(
        name=thing.name,
        count=thing.count,
        colour=thing.colour if rng.random() < 0.8 else None,
        size=thing.size if rng.random() < 0.3 else None,
    )


def plan(scene: Scene, rng: random.Random) -> Plan:
    """Chooses what to say: all things, and of some their place or how they stand to another one."""
    things = rng.sample(scene.things, len(scene.things))
    statements: list[Statement] = []
    if rng.random() < 0.4 and (pair := _pair(scene, things, rng)):
        one, relation, other = pair
        things = [thing for thing in things if thing not in (one, other)]
        statements.append(Statement(subject=mention(one, rng), relation=relation, other=mention(other, rng)))
    places = rng.random() < 0.6
    for thing in things:
        where = thing.places[0] if places and thing.count == 1 else None
        statements.append(Statement(subject=mention(thing, rng), place=where))
    background = scene.background if rng.random() < 0.5 else None
    return Plan(statements=tuple(statements), background=background)


def _pair(scene: Scene, things: Sequence[Thing], rng: random.Random) -> tuple[Thing, str, Thing] | None:
    pairs = [
        (one, relation, other)
        for one in things
        for other in things
        for relation in RELATIONS
        if scene.holds(one.name, relation, other.name)
    ]
    return rng.choice(pairs) if pairs else None


def say(plan: Plan, rng: random.Random) -> str:
    """A plan in words. How depends on the generator and on the shape of the plan, not on its words."""
    related = [one for one in plan.statements if one.relation]
    placed = [one for one in plan.statements if one.place]
    listed = [str(one.subject) for one in plan.statements if not one.relation and not one.place]
    style = rng.randrange(3)
    if style == 0 and not related:  # one sentence
        parts = [f"{one.subject} {located(one.place)}" for one in placed] + listed
        opening = rng.choice(("", "", "a picture of "))
        return opening + _listed(parts) + _on(plan.background)
    sentences = []
    for one in related:
        are = "is" if one.subject.count == 1 else "are"
        sentences.append(f"{one.subject} {are} {one.relation} {one.other}")
    for one in placed:
        if style == 1:
            sentences.append(f"{located(one.place)} there is {one.subject}")
        else:
            sentences.append(f"{one.subject} is {located(one.place)}")
    if listed:
        are = "are" if len(listed) > 1 or not listed[0].startswith(("a ", "an ")) else "is"
        also = " also" if sentences else ""
        sentences.append(f"there {are}{also} {_listed(listed)}")
    if plan.background:
        sentences.append(f"the background is {plan.background}")
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def caption(scene: Scene, rng: random.Random) -> str:
    """A caption of a scene in one of many forms."""
    return say(plan(scene, rng), rng)


def _listed(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _on(background: str | None) -> str:
    if background is None:
        return ""
    return f" {'at' if background == 'night' else 'on'} {background}"
