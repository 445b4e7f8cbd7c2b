import collections
import dataclasses
import random

import pytest

from mmjax.data.worlds.scenes import captions, conversations, preferences, probes, questions
from mmjax.data.worlds.scenes.checker import Claim, check, is_right, normal, parse
from mmjax.data.worlds.scenes.scene import Scene, Scenes, Thing

SCENES = Scenes(seed=3)
COUNT = 1500


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [SCENES.scene("train", index) for index in range(COUNT)]


@pytest.fixture
def scene() -> Scene:
    """Two red cats on the left, a large blue dog at the top right, an owl as it is at the bottom."""

    def thing(name, category, colour, size, *cells):
        half = 0.12
        boxes = tuple((x - half, y - half, x + half, y + half) for x, y in cells)
        return Thing(name=name, category=category, colour=colour, size=size, boxes=boxes)

    return Scene(
        background="sand",
        things=(
            thing("cat", "animal", "red", "small", (0.2, 0.2), (0.2, 0.5)),
            thing("dog", "animal", "blue", "large", (0.8, 0.2)),
            thing("owl", "bird", None, "small", (0.5, 0.8)),
        ),
    )


def wrong(scene: Scene, text: str) -> list[tuple[str, str, str]]:
    return [(claim.kind, claim.subject, claim.value) for claim in check(scene, text).hallucinated]


def test_captions_are_true_and_complete(scenes):
    said = collections.Counter()
    for index, scene in enumerate(scenes):
        text = captions.caption(scene, random.Random(index))
        verdict = check(scene, text)
        assert not verdict.hallucinated and verdict.recall == 1 == verdict.precision, text
        said.update({claim.kind for claim in verdict.claims})
    assert set(said) == {"object", "count", "colour", "size", "place", "relation", "background"}
    assert min(said.values()) > COUNT / 20


def test_a_perturbed_caption_has_exactly_one_error(scenes):
    changed = collections.Counter()
    for index, scene in enumerate(scenes):
        strangers = [thing.name for thing in scenes[index - 1].things]
        pair = preferences.preference(scene, random.Random(index), strangers)
        assert not check(scene, pair.chosen).hallucinated
        (found,) = check(scene, pair.rejected).hallucinated
        assert found.kind == pair.changed, pair
        start, stop = pair.rejected_span
        assert start < found.span[1] and found.span[0] < stop  # of 'tennis ball', only 'tennis' may differ
        chosen = (
            pair.chosen[: pair.chosen_span[0]]
            + pair.rejected[start:stop]
            + pair.chosen[pair.chosen_span[1] :]
        )
        assert chosen == pair.rejected
        changed[pair.changed] += 1
    assert set(changed) == {"object", "count", "colour", "size", "place", "relation", "background"}


def test_difference_is_in_whole_words():
    assert preferences.difference("two red cats", "two blue cats") == ((4, 7), (4, 8))
    assert preferences.difference("a cat.", "a dog.") == ((2, 5), (2, 5))
    assert preferences.difference("same", "same")[0][0] == preferences.difference("same", "same")[0][1]


@pytest.mark.parametrize(
    "text",
    [
        "Two red cats and a big dog.",
        "There is a puppy in the upper right corner of the picture, and there are 2 kittens",
        "The cats are red, not blue; the dog isn't red.",
        "In the top right you can see a blue dog. The owl sits below the dog.",
        "There is no cow, and there are no pigs or bananas.",
        "Four animals on sand, one of them an owl",
        "The dog is to the right of two cats. The background is sand.",
        "a green owl",  # in its own colours: nobody knows
        "",
    ],
)
def test_true_in_other_words(scene, text):
    assert wrong(scene, text) == []


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("three red cats", [("count", "cat", "three")]),
        ("two blue cats and a small dog", [("colour", "cat", "blue"), ("size", "dog", "small")]),
        ("a huge yellow banana at the top", [("object", "banana", "")]),  # its attributes do not count again
        ("the dog is left of the cats", [("relation", "dog", "left of")]),
        ("the owl is in the middle", [("place", "owl", "middle")]),
        ("There is no dog.", [("object", "dog", "")]),
        ("The dog is not blue.", [("colour", "dog", "blue")]),
        ("two vehicles", [("category", "vehicle", ""), ("count", "vehicle", "two")]),
        ("a dog on snow", [("background", "", "snow")]),
        ("hot dogs", [("object", "hot dog", "")]),  # and no dog
    ],
)
def test_errors_are_found(scene, text, errors):
    assert wrong(scene, text) == errors


def test_precision_recall_and_spans(scene):
    text = "Two red cats and three birds"
    verdict = check(scene, text)
    assert verdict.recall == pytest.approx(1 / 3)
    assert verdict.precision == pytest.approx(4 / 5)
    assert [text[slice(*claim.span)] for claim in verdict.claims] == ["cats", "Two", "red", "birds", "three"]
    assert check(scene, "nothing of note").precision == 1 and check(scene, "hm").recall == 0
    assert parse("A cat. The cat. A cat.") == (Claim(kind="object", subject="cat", span=(2, 5)),)


def test_short_answers():
    assert (
        normal("At the Top-Left.") == "top left" and normal("It is grey") == "gray" and normal("2") == "two"
    )
    assert is_right("yes, there is", ("yes",)) and not is_right("no", ("yes",))
    assert is_right("the centre", ("middle",)) and is_right("Puppies", ("dog",))
    assert not is_right("", ("dog",))


@pytest.fixture(scope="module")
def asked(scenes):
    return [
        (scene, question)
        for index, scene in enumerate(scenes)
        for question in questions.ask(scene, scenes[index - 1], random.Random(index), count=4)
    ]


def test_questions_are_answered_by_the_truth(asked):
    """Each answer, said as a sentence, passes the checker, and another answer does not."""
    told = collections.Counter()
    for scene, question in asked:
        words, answer = question.text.rstrip("?").split(), question.answers[0]
        told[question.kind, answer] += 1
        if question.kind == "existence":
            text = f"there is {'no' if answer == 'no' else 'a'} {' '.join(words[3:])}"
        elif question.kind == "counting":
            text = f"{answer} {' '.join(words[2:-2])}"
        elif question.kind == "attribute":
            noun = words[4:] if words[0] == "what" else words[2:-3]
            text = f"the {' '.join(noun)} is {answer}"
        elif question.kind == "position":
            text = f"{captions.located(answer)} there is a {' '.join(words[3:])}"
        elif question.kind == "relation":
            text = f"{' '.join(words[1:])}"
            assert bool(check(scene, text).hallucinated) == (answer == "no"), question
            continue
        elif question.kind == "naming":
            text = f"{' '.join(words[2:])} there is a {answer}"
        else:
            text = f"a {answer}"
        assert not check(scene, text).hallucinated, (question, text)
        assert check(scene, text).claims
    assert {kind for kind, _ in told} == set(questions.KINDS)


def test_questions_alone_give_little_away(asked):
    """Yes is half of the answers, no count is more than half, and no question text betrays its answer."""
    answers = collections.defaultdict(collections.Counter)
    for _, question in asked:
        answers[question.kind][question.answers[0]] += 1
    for kind in ("existence", "relation"):
        share = answers[kind]["yes"] / answers[kind].total()
        assert 0.44 < share < 0.56, kind
    for kind in ("counting", "attribute", "position"):
        assert answers[kind].most_common(1)[0][1] < 0.4 * answers[kind].total(), kind
    said = collections.defaultdict(collections.Counter)
    for _, question in asked:
        if question.kind == "existence":
            said[question.text][question.answers[0]] += 1
    often = [counts for counts in said.values() if counts.total() >= 10]
    assert sum(counts["yes"] > 0.8 * counts.total() for counts in often) < len(often) / 10


def test_dialogues_hold_no_false_sentence(scenes):
    kinds = collections.Counter()
    for index, scene in enumerate(scenes[:600]):
        exchanges = conversations.dialogue(scene, scenes[index - 1], random.Random(index), turns=4)
        assert len({one.text for one in exchanges}) == 4
        for one in exchanges:
            kinds[one.kind] += 1
            if one.kind not in ("counterfactual", "wrong knowledge"):
                assert not check(scene, one.answers[0]).hallucinated, one
    false_premises = {"nonexistent object", "wrong attribute", "wrong knowledge", "counterfactual"}
    assert false_premises < set(kinds)


def test_what_if(scene):
    draw = random.Random(0)
    asked = {conversations.what_if_one_left(scene, scene, draw) for _ in range(20)}
    told = {(one.text.split("one ")[1].split(" were")[0], one.answers[0]) for one in asked}
    assert told == {
        ("cat", "One cat would be left."),
        ("dog", "No dogs would be left."),
        ("owl", "No owls would be left."),
    }
    swapped = {conversations.what_if_they_swapped(scene, scene, draw).answers[0] for _ in range(20)}
    assert swapped == {"It would be at the top right.", "It would be at the bottom."}


def test_boxes_are_written_in_reading_order(scene):
    assert conversations.written(scene.things[0].boxes[::-1]) == (
        "[0.08, 0.08, 0.32, 0.32] [0.08, 0.38, 0.32, 0.62]"
    )


def test_probes_ask_for_what_keeps_company(scenes):
    company = probes.Company.of(scenes)
    for strategy in probes.STRATEGIES:
        rng, pairs, popularity = random.Random(0), [], []
        for scene in scenes[:300]:
            name = company.absent(scene, strategy, rng)
            assert scene.thing(name) is None
            pairs.append(max(company.pairs[thing.name][name] for thing in scene.things))
            popularity.append(company.frequency[name])
        told = sum(pairs) / 300, sum(popularity) / 300
        if strategy == "random":
            chance = told
        elif strategy == "popular":
            assert told[1] > 1.5 * chance[1]
        else:
            assert told[0] > 3 * chance[0]


def test_mentions_agree_in_number():
    owl = captions.Mention(name="owl", count=1)
    assert str(owl) == "an owl" and str(dataclasses.replace(owl, size="small")) == "a small owl"
    assert str(captions.Mention(name="knife", count=3, colour="red")) == "three red knives"
