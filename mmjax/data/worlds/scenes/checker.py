"""Checks what a text says about a scene against the truth.

The text is read sentence by sentence for noun phrases ("two small red cats") and for what stands between
them ("is left of", "at the top,"). From these come claims: an object is there, so many of them, of this
colour, size or place, related so to another one, on this background. A claim that the scene contradicts is a
hallucination. What is claimed further of an absent object is not counted again; a colour claimed of an object
in its own colours is left out, as nobody knows.

Source of the idea: CHAIR (Rohrbach et al. 2018), for objects alone.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence

from mmjax.data.worlds.scenes import vocabulary
from mmjax.data.worlds.scenes.scene import Scene
from mmjax.data.worlds.scenes.vocabulary import (
    BACKGROUNDS,
    COLOUR_SYNONYMS,
    COLOURS,
    NUMBERS,
    PLACE_SYNONYMS,
    PLACES,
    RELATION_SYNONYMS,
    RELATIONS,
    SIZE_SYNONYMS,
    SIZES,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of a text.

    Attributes:
      kind: 'object', 'category', 'count', 'colour', 'size', 'place', 'relation' or 'background'.
      subject: the object's or category's name; '' for a background.
      value: what is claimed of it: 'two', 'red', 'top left', 'left of', 'grass'; '' for its existence.
      other: the second object of a relation.
      negated: the text denies it: 'there is no cat'.
      span: where in the text, [start, stop).
    """

    kind: str
    subject: str
    value: str = ""
    other: str = ""
    negated: bool = False
    span: tuple[int, int] = (0, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is right and wrong in a text. things: how many kinds of object the scene has."""

    claims: tuple[Claim, ...]
    hallucinated: tuple[Claim, ...]
    named: frozenset[str]
    things: int

    @property
    def precision(self) -> float:
        """The share of the claims that are true; 1 where nothing is claimed."""
        return 1 - len(self.hallucinated) / len(self.claims) if self.claims else 1.0

    @property
    def recall(self) -> float:
        """The share of the scene's kinds of object that are named."""
        return len(self.named) / self.things


def check(scene: Scene, text: str) -> Verdict:
    """Every claim of a text, held against the scene."""
    present = {thing.name for thing in scene.things}
    claims = parse(text)
    # Of what is not there, only its existence is judged.
    asserted = {claim.subject for claim in claims if claim.kind == "object" and not claim.negated}
    absent = {name for name in asserted if name not in present}
    judged = []
    for claim in claims:
        follows = claim.kind not in ("object", "category", "background")
        if follows and (claim.subject in absent or claim.other in absent):
            continue
        if _truth(scene, claim) is not None:
            judged.append(claim)
    return Verdict(
        claims=tuple(judged),
        hallucinated=tuple(claim for claim in judged if _truth(scene, claim) == claim.negated),
        named=frozenset(asserted & present),
        things=len(scene.things),
    )


def is_right(answer: str, answers: Sequence[str]) -> bool:
    """Whether a short answer is one of the right ones, up to case, articles, number words and punctuation."""
    return normal(answer) in {normal(one) for one in answers}


def normal(answer: str) -> str:
    """Example: 'At the Top-Left.' -> 'top left'; 'It is grey' -> 'gray'; '2' -> 'two'."""
    text = " ".join(re.findall(r"[a-z0-9-]+", answer.lower()))
    text = re.sub(r"^(?:yes|no)\b.*", lambda found: found[0].split()[0], text)
    text = re.sub(r"^(?:(?:it|they|there) (?:is|are) )?(?:(?:at|in|on) )?(?:(?:the|a|an) )?", "", text)
    words = {**COLOUR_SYNONYMS, **PLACE_SYNONYMS, **SIZE_SYNONYMS, "0": "zero", "none": "zero"}
    words |= {str(value): word for value, word in enumerate(NUMBERS) if value}
    return words.get(text, _nouns().get(text, ("", text))[1])


def _truth(scene: Scene, claim: Claim) -> bool | None:
    """Whether a claim, not its denial, holds; None where nobody can tell."""
    if claim.kind == "background":
        return claim.value == scene.background
    if claim.kind == "category":
        return bool(scene.of_category(claim.subject))
    thing = scene.thing(claim.subject)
    if claim.kind == "object":
        return thing is not None
    if claim.kind == "count":
        is_category = claim.subject in vocabulary.categories()
        things = scene.of_category(claim.subject) if is_category else scene.things
        total = sum(one.count for one in things if is_category or one is thing)
        return claim.value == NUMBERS[total]
    if thing is None:
        return False
    if claim.kind == "colour":
        return None if thing.colour is None else claim.value == thing.colour
    if claim.kind == "size":
        return claim.value == thing.size
    if claim.kind == "place":
        return claim.value in thing.places
    return scene.holds(claim.subject, claim.value, claim.other)


def parse(text: str) -> tuple[Claim, ...]:
    """The claims of a text in order, each once."""
    claims: dict[tuple, Claim] = {}
    for sentence in re.finditer(r"[^.!?;\n]+", text.lower()):
        for claim in _sentence(sentence[0], sentence.start()):
            claims.setdefault(dataclasses.astuple(claim)[:5], claim)
    return tuple(claims.values())


def _sentence(text: str, start: int) -> list[Claim]:
    phrases = list(_grammar().phrase.finditer(text))
    claims = []
    for found in _grammar().background.finditer(text):
        span = (start + found.start(1), start + found.end(1))
        claims.append(Claim(kind="background", subject="", value=found[1], span=span))
    told, denied = 0, False  # how far the text has been read; whether the last phrase was denied
    for number, phrase in enumerate(phrases):
        before = text[told : phrase.start()]
        denied = _is_denied(phrase, before) or (denied and bool(_grammar().also.fullmatch(before)))
        claims += _phrase(phrase, denied, start)
        kind, name = _nouns()[phrase["noun"]]
        if kind == "object" and (fronted := _grammar().fronted.search(before)):
            span = (start + told + fronted.start(1), start + told + fronted.end(1))
            claims.append(Claim(kind="place", subject=name, value=_meant(fronted[1]), span=span))
        told = phrase.end()
        if kind == "object":
            following = phrases[number + 1] if number + 1 < len(phrases) else None
            after = text[told : following.start() if following else len(text)]
            claims += _related(name, after, following, start + told)
            predicates, length = _predicate(name, after, start + told)
            claims, told = claims + predicates, told + length
    return claims


def _is_denied(phrase: re.Match, before: str) -> bool:
    return phrase["number"] == "no" or bool(_grammar().denied.search(before))


def _phrase(phrase: re.Match, denied: bool, start: int) -> list[Claim]:
    """What a noun phrase says by itself."""
    kind, name = _nouns()[phrase["noun"]]
    number = phrase["number"] or ""
    span = (start + phrase.start("noun"), start + phrase.end("noun"))
    claims = [Claim(kind=kind, subject=name, negated=denied, span=span)]
    if denied:  # 'no red cat' may be true of a blue one: it is not judged
        return claims if not phrase["adjectives"] else []
    if number.isdigit() and int(number) < len(NUMBERS):
        number = NUMBERS[int(number)]
    if number in NUMBERS:
        place = (start + phrase.start("number"), start + phrase.end("number"))
        claims.append(Claim(kind="count", subject=name, value=number, span=place))
    for found in _grammar().adjective.finditer(phrase["adjectives"]) if kind == "object" else ():
        offset = start + phrase.start("adjectives")
        claims.append(_attribute(name, found[0], (offset + found.start(), offset + found.end())))
    return claims


def _related(name: str, between: str, following: re.Match | None, start: int) -> list[Claim]:
    """What stands between two noun phrases: 'is left of'."""
    found = _grammar().relation.fullmatch(between)
    kind, other = _nouns()[following["noun"]] if following else ("", "")
    if not found or kind != "object":
        return []
    span, value = (start + found.start(2), start + found.end(2)), _meant(found[2])
    return [Claim(kind="relation", subject=name, value=value, other=other, negated=bool(found[1]), span=span)]


def _predicate(name: str, after: str, start: int) -> tuple[list[Claim], int]:
    """What follows a noun phrase, 'is red, not blue' or 'at the top left', and how long it is."""
    claims, length = [], 0
    if found := _grammar().is_attribute.match(after):
        length = found.end()
        for group, negated in ((2, bool(found[1])), (3, True)):
            if found[group]:
                span = (start + found.start(group), start + found.end(group))
                claims.append(dataclasses.replace(_attribute(name, found[group], span), negated=negated))
    if found := _grammar().is_placed.match(after):
        length = found.end()
        span = (start + found.start(2), start + found.end(2))
        claims.append(
            Claim(kind="place", subject=name, value=_meant(found[2]), negated=bool(found[1]), span=span)
        )
    return claims, length


def _attribute(name: str, word: str, span: tuple[int, int]) -> Claim:
    value = _meant(word)
    return Claim(kind="size" if value in SIZES else "colour", subject=name, value=value, span=span)


def _meant(word: str) -> str:
    """The word of the vocabulary that a synonym stands for."""
    for table in (COLOUR_SYNONYMS, SIZE_SYNONYMS, PLACE_SYNONYMS, RELATION_SYNONYMS):
        word = table.get(word, word)
    return word


@functools.cache
def _nouns() -> dict[str, tuple[str, str]]:
    """Every singular, plural and synonym -> ('object' or 'category', name)."""
    nouns = {}
    for name in vocabulary.categories():
        nouns |= {name: ("category", name), vocabulary.plural(name): ("category", name)}
    nouns["pieces of clothing"] = ("category", "piece of clothing")
    for kind in vocabulary.kinds():
        words = (kind.name, kind.plural, *kind.synonyms, *map(vocabulary.plural, kind.synonyms))
        nouns |= {word: ("object", kind.name) for word in words}
    return nouns


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Grammar:
    phrase: re.Pattern
    adjective: re.Pattern
    background: re.Pattern
    fronted: re.Pattern
    denied: re.Pattern
    also: re.Pattern
    is_attribute: re.Pattern
    is_placed: re.Pattern
    relation: re.Pattern


@functools.cache
def _grammar() -> _Grammar:
    def either(*tables) -> str:  # the longest first, so that no word hides a longer one
        words = sorted({word for table in tables for word in table}, key=lambda word: (-len(word), word))
        return "|".join(map(re.escape, words))

    adjective = either(COLOURS, COLOUR_SYNONYMS, SIZES, SIZE_SYNONYMS)
    place = rf"(?:at|in|on) the ({either(PLACES, PLACE_SYNONYMS)})(?! of the (?!picture|image|scene))\b"
    place += r"(?: corner| side| edge)?(?: of the (?:picture|image|scene))?"
    is_ = r"\s*(?:that |which )?(?:is|are|stands?|sits?|lies?)?( not|n't)?"
    return _Grammar(
        phrase=re.compile(
            rf"(?:\b(?P<number>{either(NUMBERS)}|\d+|a|an|the|another|some)\s+)?"
            rf"(?P<adjectives>(?:\b(?:{adjective})(?:\s*,\s*|\s+and\s+|\s+))*)"
            rf"\b(?P<noun>{either(_nouns())})\b"
        ),
        adjective=re.compile(rf"\b(?:{adjective})\b"),
        background=re.compile(
            rf"\b(?:(?:on|at|in|over|against)\s+(?:the\s+)?|background is )({either(BACKGROUNDS)})\b"
        ),
        fronted=re.compile(
            rf"{place}\s*,?\s*(?:(?:there|we see|you can see|you see) ?)?(?:is|are|stands?|sits?|lies?)?\s*$"
        ),
        also=re.compile(r"\s*(?:,|,? or|,? nor)\s*"),
        denied=re.compile(r"(?:\bnot|n't|\bwithout|\bnever)\s*$"),
        is_attribute=re.compile(
            rf"\s+(?:is|are)( not|n't)?\s+({adjective})\b(?:,? (?:and )?not ({adjective})\b)?"
        ),
        is_placed=re.compile(rf"{is_}\s*{place}"),
        relation=re.compile(rf"{is_}\s*({either(RELATIONS, RELATION_SYNONYMS)})\s*"),
    )
