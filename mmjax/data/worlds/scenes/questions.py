"""Questions about a scene, with short answers that follow from its truth.

The text of a question tells as little as can be about its answer: an object that is asked after although it
is absent comes from another scene, so that it is asked after as often as one that is there; yes and no are
equally likely; counts are evened out.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping

from mmjax.data.worlds.scenes.captions import located
from mmjax.data.worlds.scenes.scene import Scene, Thing
from mmjax.data.worlds.scenes.vocabulary import (
    COLOUR_SYNONYMS,
    NUMBERS,
    OPPOSITE,
    PLACE_SYNONYMS,
    RELATIONS,
    SIZE_SYNONYMS,
    article,
    by_name,
)

_COUNT_WEIGHT = {1: 1, 2: 3, 3: 6, 4: 8}  # against the count's own frequency


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """A question; the first of its answers is the one to give, the others are right too."""

    kind: str
    text: str
    answers: tuple[str, ...]


def synonyms(answer: str) -> tuple[str, ...]:
    """An answer, and the other words for it."""
    tables = (COLOUR_SYNONYMS, PLACE_SYNONYMS, SIZE_SYNONYMS)
    others = [word for table in tables for word, meant in table.items() if meant == answer]
    kind = by_name().get(answer)
    return (answer, *others, *(kind.synonyms if kind else ()))


def number(count: int) -> tuple[str, ...]:
    """A count as an answer: 'two', '2'."""
    return ("zero", "0", "none") if count == 0 else (NUMBERS[count], str(count))


def is_or_are(thing: Thing) -> tuple[str, str]:
    """('is', 'cat') or ('are', 'cats')."""
    return ("is", thing.name) if thing.count == 1 else ("are", by_name()[thing.name].plural)


def _absent(scene: Scene, decoy: Scene, rng: random.Random) -> Thing | None:
    others = [thing for thing in decoy.things if scene.thing(thing.name) is None]
    return rng.choice(others) if others else None


def existence(scene: Scene, decoy: Scene, rng: random.Random) -> Question | None:
    """Asks "is there a cat?": yes or no. None where a no is due and the decoy holds nothing else."""
    absent = _absent(scene, decoy, rng)
    thing, answer = (rng.choice(scene.things), "yes") if rng.random() < 0.5 else (absent, "no")
    if thing is None:
        return None
    return Question(kind="existence", text=f"is there {article(thing.name)}?", answers=(answer,))


def counting(scene: Scene, decoy: Scene, rng: random.Random) -> Question | None:
    """Asks "how many cats are there?": one to four."""
    weights = [_COUNT_WEIGHT[thing.count] for thing in scene.things]
    (thing,) = rng.choices(scene.things, weights)
    return Question(
        kind="counting",
        text=f"how many {by_name()[thing.name].plural} are there?",
        answers=number(thing.count),
    )


def attribute(scene: Scene, decoy: Scene, rng: random.Random) -> Question | None:
    """Asks "what colour is the cat?", "is the cat small or large?"; None where neither can be asked."""
    coloured = [thing for thing in scene.things if thing.colour]
    if coloured and rng.random() < 0.75:
        thing = rng.choice(coloured)
        are, noun = is_or_are(thing)
        return Question(
            kind="attribute", text=f"what colour {are} the {noun}?", answers=synonyms(thing.colour)
        )
    few = [thing for thing in scene.things if thing.count < 3]  # three and more are always small
    if not few:
        return None
    thing = rng.choice(few)
    are, noun = is_or_are(thing)
    return Question(kind="attribute", text=f"{are} the {noun} small or large?", answers=synonyms(thing.size))


def position(scene: Scene, decoy: Scene, rng: random.Random) -> Question | None:
    """Asks "where is the cat?": one of PLACES. None where no thing is alone of its kind."""
    single = [thing for thing in scene.things if thing.count == 1]
    if not single:
        return None
    thing = rng.choice(single)
    return Question(kind="position", text=f"where is the {thing.name}?", answers=synonyms(thing.places[0]))


def relation(scene: Scene, decoy: Scene, rng: random.Random) -> Question | None:
    """Asks "is the cat left of the owl?": yes or no. None without two things alone of their kind."""
    single = [thing for thing in scene.things if thing.count == 1]
    facts = [
        (one.name, word, other.name)
        for one in single
        for other in single
        for word in RELATIONS
        if scene.holds(one.name, word, other.name)
    ]
    if not facts:
        return None
    one, word, other = rng.choice(facts)
    answer = rng.choice(("yes", "no"))
    asked = word if answer == "yes" else OPPOSITE[word]
    return Question(kind="relation", text=f"is the {one} {asked} the {other}?", answers=(answer,))


def category(scene: Scene, decoy: Scene, rng: random.Random) -> Question | None:
    """Asks "what kind of thing is at the top?": the name of a category."""
    thing = rng.choice(scene.things)
    return Question(
        kind="category",
        text=f"what kind of thing is {located(rng.choice(thing.places))}?",
        answers=(thing.category,),
    )


def naming(scene: Scene, decoy: Scene, rng: random.Random) -> Question | None:
    """Asks "what is at the top?": the name of an object."""
    thing = rng.choice(scene.things)
    return Question(
        kind="naming", text=f"what is {located(rng.choice(thing.places))}?", answers=synonyms(thing.name)
    )


Ask = Callable[[Scene, Scene, random.Random], Question | None]
KINDS: Mapping[str, Ask] = {
    ask.__name__: ask for ask in (existence, counting, attribute, position, relation, category, naming)
}


def ask(scene: Scene, decoy: Scene, rng: random.Random, *, count: int = 1) -> tuple[Question, ...]:
    """`count` different questions of random kinds; decoy: another scene, for what is absent."""
    found: dict[str, Question] = {}
    while len(found) < count:
        question = KINDS[rng.choice(tuple(KINDS))](scene, decoy, rng)
        if question is not None:
            found.setdefault(question.text, question)
    return tuple(found.values())
