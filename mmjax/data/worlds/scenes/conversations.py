"""Instruction dialogues about a scene: full sentences, false premises and what-ifs.

The false premises are the three kinds of LRV-Instruction (Liu et al. 2023): an object that is not there, an
object that is there but not so, and wrong knowledge.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from mmjax.data.worlds.scenes.captions import caption, located
from mmjax.data.worlds.scenes.questions import Question, is_or_are
from mmjax.data.worlds.scenes.scene import Box, Scene, Thing
from mmjax.data.worlds.scenes.vocabulary import BROADER, COLOURS, NUMBERS, article, by_name, categories

Draw = random.Random
Exchange = Question  # whose only answer is a sentence


def describe(scene: Scene, decoy: Scene, rng: Draw) -> Exchange | None:
    """Asks "What do you see?": a caption."""
    text = rng.choice(("Describe the picture.", "What do you see?", "What is in the picture?"))
    return _exchange("description", text, caption(scene, rng))


def counted(scene: Scene, decoy: Scene, rng: Draw) -> Exchange | None:
    """Asks "How many cats are there?" and answers "There are two cats" and the like."""
    thing = rng.choice(scene.things)
    are, noun = is_or_are(thing)
    answer = f"There {are} {NUMBERS[thing.count]} {noun}."
    return _exchange("counting", f"How many {by_name()[thing.name].plural} are there?", answer)


def coloured(scene: Scene, decoy: Scene, rng: Draw) -> Exchange | None:
    """Asks "What colour is the cat?": "The cat is red." None where every thing has its own colours."""
    if not (thing := _one(rng, [thing for thing in scene.things if thing.colour])):
        return None
    are, noun = is_or_are(thing)
    return _exchange("attribute", f"What colour {are} the {noun}?", f"The {noun} {are} {thing.colour}.")


def placed(scene: Scene, decoy: Scene, rng: Draw) -> Exchange | None:
    """Asks "Where is the cat?": "The cat is at the top." None where no thing is alone of its kind."""
    if not (thing := _one(rng, [thing for thing in scene.things if thing.count == 1])):
        return None
    answer = f"The {thing.name} is {located(thing.places[0])}."
    return _exchange("position", f"Where is the {thing.name}?", answer)


def not_there(scene: Scene, decoy: Scene, rng: Draw) -> Exchange | None:
    """A question about what is not there: "There is no owl in the picture" is the answer."""
    if not (thing := _one(rng, [thing for thing in decoy.things if scene.thing(thing.name) is None])):
        return None
    questions = (
        "What colour is the {}?", "Where is the {}?", "Is the {} small or large?", "What is next to the {}?"
    )  # fmt: skip
    return _exchange(
        "nonexistent object",
        rng.choice(questions).format(thing.name),
        f"There is no {thing.name} in the picture.",
    )


def not_so(scene: Scene, decoy: Scene, rng: Draw) -> Exchange | None:
    """Asks "Why is the cat blue?": "The cat is red, not blue." None where every thing has its own colours."""
    if not (thing := _one(rng, [thing for thing in scene.things if thing.colour])):
        return None
    are, noun = is_or_are(thing)
    wrong = rng.choice([colour for colour in COLOURS if colour != thing.colour])
    answer = f"The {noun} {are} {thing.colour}, not {wrong}."
    return _exchange("wrong attribute", f"Why {are} the {noun} {wrong}?", answer)


def not_known(scene: Scene, decoy: Scene, rng: Draw) -> Exchange | None:
    """Asks "Why is the cat a tool?"; "A cat is an animal, not a tool" is the answer."""
    thing = rng.choice(scene.things)
    fitting = (thing.category, BROADER.get(thing.category))
    wrong = rng.choice([category for category in categories() if category not in fitting])
    answer = f"{article(thing.name).capitalize()} is {article(thing.category)}, not {article(wrong)}."
    return _exchange("wrong knowledge", f"Why is the {thing.name} {article(wrong)}?", answer)


def what_if_one_left(scene: Scene, decoy: Scene, rng: Draw) -> Exchange | None:
    """Asks "If one cat were taken away, how many cats would be left?"; the answer is a sentence."""
    thing = rng.choice(scene.things)
    plural, left = by_name()[thing.name].plural, thing.count - 1
    noun = thing.name if left == 1 else plural
    answer = f"{NUMBERS[left].capitalize()} {noun} would be left."
    question = f"If one {thing.name} were taken away, how many {plural} would be left?"
    return _exchange("counterfactual", question, answer)


def what_if_they_swapped(scene: Scene, decoy: Scene, rng: Draw) -> Exchange | None:
    """Asks "If the cat and the owl changed places, ...": None without two things alone of their kind."""
    single = [thing for thing in scene.things if thing.count == 1]
    if len(single) < 2:
        return None
    one, other = rng.sample(single, 2)
    question = f"If the {one.name} and the {other.name} changed places, where would the {one.name} be?"
    return _exchange("counterfactual", question, f"It would be {located(other.places[0])}.")


Ask = Callable[[Scene, Scene, Draw], Exchange | None]
ASKS: Sequence[Ask] = (
    describe, counted, coloured, placed, not_there, not_so, not_known, what_if_one_left, what_if_they_swapped,
)  # fmt: skip


def dialogue(scene: Scene, decoy: Scene, rng: Draw, *, turns: int = 4) -> tuple[Exchange, ...]:
    """`turns` exchanges, no question twice; decoy: another scene, for what is absent."""
    found: dict[str, Exchange] = {}
    while len(found) < turns:
        exchange = rng.choice(ASKS)(scene, decoy, rng)
        if exchange is not None:
            found.setdefault(exchange.text, exchange)
    return tuple(found.values())


def boxed(scene: Scene, rng: Draw) -> Exchange:
    """A thing to find; the answer is its boxes, see `written`."""
    thing = rng.choice(scene.things)
    return _exchange("boxes", f"Give the boxes of every {thing.name}.", written(thing.boxes))


def written(boxes: Sequence[Box]) -> str:
    """Boxes as text: left, top, right, bottom as shares of the side. '[0.12, 0.30, 0.36, 0.54]'."""
    ordered = sorted(boxes, key=lambda box: (box[1], box[0]))
    return " ".join(f"[{', '.join(f'{edge:.2f}' for edge in box)}]" for box in ordered)


def _exchange(kind: str, question: str, answer: str) -> Exchange:
    return Question(kind=kind, text=question, answers=(answer,))


def _one(rng: Draw, things: Sequence[Thing]) -> Thing | None:
    return rng.choice(things) if things else None
