import collections
import itertools

import numpy as np
import pytest

from mmjax.data.worlds.scenes import picture, vocabulary
from mmjax.data.worlds.scenes.picture import Painter, sides, tinted
from mmjax.data.worlds.scenes.scene import Scene, Scenes, Thing, is_held_out, place, related
from mmjax.data.worlds.scenes.vocabulary import COLOURS, OPPOSITE, PLACES, RELATIONS
from mmjax.errors import UserError

SMALL = Scenes(seed=1, objects=60)


@pytest.fixture(scope="module")
def scenes() -> dict[str, list[Scene]]:
    return {split: [SMALL.scene(split, index) for index in range(3000)] for split in ("train", "held_out")}


def test_a_few_hundred_kinds_in_a_dozen_categories():
    kinds = vocabulary.kinds()
    assert len(kinds) > 240 and len(vocabulary.categories()) > 12
    assert len({kind.name for kind in kinds}) == len({kind.code for kind in kinds}) == len(kinds)
    words = [{kind.name, kind.plural, *kind.synonyms} for kind in kinds]
    assert not any(one & other for one, other in itertools.combinations(words, 2))
    others = {*COLOURS, *PLACES, *vocabulary.SIZES, *vocabulary.categories(), *vocabulary.BACKGROUNDS}
    assert not others & set().union(*words)
    assert {category for theme in vocabulary.THEMES for category in theme} == set(vocabulary.categories())


def test_a_subset_is_spread_over_the_categories():
    subset = vocabulary.chosen(34)
    assert collections.Counter(kind.category for kind in subset) == dict.fromkeys(vocabulary.categories(), 2)
    with pytest.raises(UserError, match="--objects is 3: use 14 to"):
        Scenes(objects=3)


def test_a_scene_is_a_function_of_seed_split_and_index(scenes):
    assert Scenes(seed=1, objects=60).scene("train", 7) == scenes["train"][7]
    assert Scenes(seed=2, objects=60).scene("train", 7) != scenes["train"][7]
    assert len(set(map(str, scenes["train"]))) == 3000


def test_a_scene_survives_json(scenes):
    for scene in scenes["train"][:50]:
        again = Scene.from_dict(scene.to_dict())
        assert again.to_dict() == scene.to_dict() and again.combinations == scene.combinations


def test_held_out_combinations_are_never_trained_on_but_their_parts_are(scenes):
    trained = set().union(*(scene.combinations for scene in scenes["train"]))
    assert not any(map(is_held_out, trained))
    new = set()
    for scene in scenes["held_out"]:
        found = set(filter(is_held_out, scene.combinations))
        assert found
        new |= found
    assert {what for what, *_ in new} == {"colour", "place", "pair"}
    assert len(new) > 100 and not new & trained
    parts = {(what, part) for what, *both in trained for part in both}
    assert all((what, part) in parts for what, *both in new for part in both)


def test_things_stand_apart_and_inside(scenes):
    for scene in scenes["train"][:500]:
        names = [thing.name for thing in scene.things]
        assert 2 <= len(names) == len(set(names)) <= 4
        assert sum(thing.count for thing in scene.things) <= 7
        places = [place for thing in scene.things for place in thing.places]
        assert len(places) == len(set(places))
        for left, top, right, bottom in (box for thing in scene.things for box in thing.boxes):
            assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def test_what_goes_together_and_what_is_common_differ(scenes):
    names = collections.Counter(thing.name for scene in scenes["train"] for thing in scene.things)
    frequent = [count for _, count in names.most_common()]
    assert frequent[0] > 3 * frequent[-1] > 0
    themes = [{thing.category for thing in scene.things} for scene in scenes["train"]]
    together = np.mean([{"fruit", "vehicle"} <= one for one in themes])
    company = np.mean([{"fruit", "food"} <= one for one in themes])
    assert company > 2 * together > 0


def test_places_and_relations():
    left, right = (0.0, 0.1, 0.25, 0.35), (0.7, 0.15, 0.95, 0.4)
    assert (place(left), place(right)) == ("top left", "top right")
    assert [name for name in RELATIONS if related(left, name, right)] == ["left of"]
    assert [name for name in RELATIONS if related(right, name, left)] == ["right of"]
    one, other = (
        Thing(name=name, category="animal", colour=None, size="small", boxes=boxes)
        for name, boxes in (("cat", (left,)), ("dog", (right, (0.1, 0.7, 0.3, 0.9))))
    )
    scene = Scene(background="grass", things=(one, other))
    assert not scene.holds("cat", "left of", "dog")  # one of the dogs is below
    assert not scene.holds("cat", "left of", "cow") and not scene.holds("cat", "above", "cat")
    assert scene.of_category("animal") == (one, other)


def test_every_relation_has_an_opposite(scenes):
    for scene in scenes["held_out"][:200]:
        for one, other in itertools.permutations([thing.name for thing in scene.things], 2):
            for relation in RELATIONS:
                assert scene.holds(one, relation, other) == scene.holds(other, OPPOSITE[relation], one)


@pytest.fixture(scope="module")
def painter(tmp_path_factory) -> Painter:
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("MMJAX_CACHE", str(cache))
        picture.atlas.cache_clear()
        painter = Painter(64)
        (file,) = cache.iterdir()
        rendered = file.read_bytes()
        picture.atlas.cache_clear()
        Painter(64)
        assert file.read_bytes() == rendered
        picture.atlas.cache_clear()
        file.write_bytes(rendered[:1000])  # a cut file is rendered again
        Painter(64)
        assert len(file.read_bytes()) == len(rendered)
    return painter


def test_a_picture_shows_what_its_scene_says(painter, scenes):
    for scene in scenes["train"][:40]:
        shown = painter.paint(scene)
        assert shown.shape == (64, 64, 3) and shown.dtype == np.uint8
        np.testing.assert_array_equal(shown, Painter(64).paint(scene))
        changed = np.any(shown != painter.background(scene.background, scene.look), axis=-1)
        inside = np.zeros((64, 64), bool)
        for left, top, right, bottom in (box for thing in scene.things for box in thing.boxes):
            rows, columns = (
                slice(round(low * 64), round(high * 64) + 1) for low, high in ((top, bottom), (left, right))
            )
            assert changed[rows, columns].mean() > 0.08, scene
            inside[rows, columns] = True
        assert not changed[~inside].any()


def test_no_drawing_is_empty_or_has_a_seam(painter):
    for side in sides(64):
        sprites = picture.atlas(64)[side]
        assert sprites.shape == (len(vocabulary.kinds()), side, side, 4)
        assert (sprites[..., 3] > 128).mean(axis=(1, 2)).min() > 0.06
        assert (sprites[..., :3] <= sprites[..., 3:]).all()  # premultiplied: no sum can exceed 255


def test_a_tinted_drawing_has_the_colour(painter):
    sprite = picture.atlas(64)[sides(64)[-1]][0]
    for name, colour in COLOURS.items():
        pixels = tinted(sprite, colour)
        assert (pixels[..., :3] <= pixels[..., 3:]).all()
        drawn = pixels[sprite[..., 3] > 250][:, :3].astype(float)
        brightest = drawn[drawn.sum(axis=1).argmax()]
        nearest = min(COLOURS, key=lambda other: np.abs(np.array(COLOURS[other]) - brightest).sum())
        assert nearest == name


def test_what_leaves_the_canvas_is_cut_off(painter):
    canvas = painter.background("grass", 0)
    before = canvas.copy()
    painter.put(canvas, "dog", None, (2.0, 0.0, 2.38, 0.38))
    np.testing.assert_array_equal(canvas, before)
    painter.put(canvas, "dog", None, (-0.2, -0.2, 0.18, 0.18))
    assert (canvas != before).any() and (canvas[13:] == before[13:]).all()
