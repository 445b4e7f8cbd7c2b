"""Preference pairs: a true caption, and the same words with exactly one thing wrong."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable

from mmjax.data.worlds.scenes.captions import Mention, Plan, Statement, plan, say
from mmjax.data.worlds.scenes.scene import MOST_OF_A_KIND, Scene
from mmjax.data.worlds.scenes.vocabulary import BACKGROUNDS, COLOURS, OPPOSITE, PLACES, SIZES

Span = tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preference:
    """Two captions that differ in one object, attribute or relation.

    Attributes:
      changed: 'object', 'count', 'colour', 'size', 'place', 'relation' or 'background'.
      chosen_span, rejected_span: [start, stop) in characters, the words that differ.
    """

    chosen: str
    rejected: str
    changed: str
    chosen_span: Span
    rejected_span: Span


def preference(scene: Scene, rng: random.Random, absent: Iterable[str]) -> Preference:
    """A pair for a scene. absent: names of objects to hallucinate; those of the scene are left out."""
    told, seed = plan(scene, rng), rng.random()
    absent = [name for name in absent if scene.thing(name) is None]
    options: dict[str, list[Plan]] = {}
    for changed, other in _falsified(scene, told, absent):
        options.setdefault(changed, []).append(other)
    changed = rng.choice(sorted(options))
    chosen, rejected = (say(one, random.Random(seed)) for one in (told, rng.choice(options[changed])))
    spans = difference(chosen, rejected)
    return Preference(
        chosen=chosen, rejected=rejected, changed=changed, chosen_span=spans[0], rejected_span=spans[1]
    )


def difference(one: str, other: str) -> tuple[Span, Span]:
    """The span of whole words, the same text before and after it, in which two texts differ.

    Example: 'two red cats', 'two blue cats' -> (4, 7), (4, 8).
    """
    words, others = one.split(" "), other.split(" ")
    shorter = min(len(words), len(others))
    before = next((place for place in range(shorter) if words[place] != others[place]), shorter)
    after = 0
    while after < shorter - before and words[-1 - after] == others[-1 - after]:
        after += 1
    spans = _span(words, before, after), _span(others, before, after)
    if one[spans[0][1] - 1 :][:1] == other[spans[1][1] - 1 :][:1] in (".", ","):  # the same full stop
        return tuple((start, stop - 1) for start, stop in spans)
    return spans


def _span(words: list[str], before: int, after: int) -> Span:
    start = len(" ".join(words[:before])) + (before > 0)
    return start, start + len(" ".join(words[before : len(words) - after]))


def _falsified(scene: Scene, told: Plan, absent: list[str]) -> Iterable[tuple[str, Plan]]:
    """Every plan with exactly one thing wrong, and what is wrong."""
    if told.background:
        for name in BACKGROUNDS:
            if name != scene.background:
                yield "background", dataclasses.replace(told, background=name)
    for number, statement in enumerate(told.statements):
        for changed, other in _false_statements(scene, statement, absent):
            statements = (*told.statements[:number], other, *told.statements[number + 1 :])
            yield changed, dataclasses.replace(told, statements=statements)


def _false_statements(
    scene: Scene, statement: Statement, absent: list[str]
) -> Iterable[tuple[str, Statement]]:
    for field in ("subject", "other"):
        if mention := getattr(statement, field):
            for changed, false in _false_mentions(scene, mention, absent):
                yield changed, dataclasses.replace(statement, **{field: false})
    if statement.place:
        for place in PLACES:
            if not set(place.split()) & set(statement.place.split()):  # so that the span is the whole place
                yield "place", dataclasses.replace(statement, place=place)
    if statement.relation:
        yield "relation", dataclasses.replace(statement, relation=OPPOSITE[statement.relation])


def _false_mentions(scene: Scene, mention: Mention, absent: list[str]) -> Iterable[tuple[str, Mention]]:
    for name in absent:
        yield "object", dataclasses.replace(mention, name=name)
    for count in range(2, MOST_OF_A_KIND + 1):  # 'a cat' is not wrong of two cats
        if abs(count - mention.count) == 1:
            yield "count", dataclasses.replace(mention, count=count)
    if mention.colour:
        for colour in COLOURS:
            if colour != mention.colour:
                yield "colour", dataclasses.replace(mention, colour=colour)
    if mention.size:
        (other,) = (size for size in SIZES if size != mention.size)
        yield "size", dataclasses.replace(mention, size=other)
