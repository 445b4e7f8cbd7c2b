"""Any data set becomes record files and a manifest, and can be checked later."""

import io
import json
import threading

import pytest
from pictures import encoded, noise
from PIL import Image
from reading import captions

from mmjax.cli.data import main
from mmjax.cli.main import main as entry
from mmjax.data.conversion import Preparation, convert, in_order, verify
from mmjax.data.records import Audio, Conversation, Document, Record, Turn, Video, decode
from mmjax.data.sources import open_dataset
from mmjax.data.worlds.world import World, write
from mmjax.errors import UserError

COUNT = 40


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder of pictures and a CSV, with four things wrong in it."""
    root = tmp_path_factory.mktemp("shop")
    for i in range(COUNT):
        (root / f"{i}.png").write_bytes(noise(i) if i != 7 else noise(i)[:-100])
    rows = [f"{i}.png,thing {i}" for i in range(COUNT)] + ["none.png,gone", "0.png,thing 0", "1.png"]
    (root / "shop.csv").write_text("file,title\n" + "\n".join(rows) + "\n")
    return root


def large(seed, size, format="JPEG"):
    with Image.open(io.BytesIO(noise(seed))) as image:
        return encoded(image.resize(size), format)


def test_any_number_of_workers_gives_the_same_bytes(shop, tmp_path):
    worlds = [convert(str(shop), tmp_path / str(n), workers=n, max_bad_share=0.2) for n in (1, 3)]
    files = [sorted((path.name, path.read_bytes()) for path in (tmp_path / str(n)).iterdir()) for n in (1, 3)]
    assert files[0] == files[1]
    manifest = worlds[0].manifest
    assert manifest["source"] == {"name": shop.name} and manifest["image_size"] == 0
    counted = {}
    for kinds in manifest["problems"].values():
        for kind, count in kinds.items():
            counted[kind] = counted.get(kind, 0) + count
    assert counted == {"broken picture": 1, "missing picture": 1, "repeated id": 1, "bad CSV row": 1}
    assert sum(entry["count"] for entry in manifest["splits"].values()) == COUNT - 1
    named = [json.loads(line) for line in (tmp_path / "1" / "problems.jsonl").read_text().splitlines()]
    assert {(one["id"], one["kind"]) for one in named} == {
        ("7.png", "broken picture"),
        ("none.png", "missing picture"),
        ("0.png", "repeated id"),
        ("shop.csv line 44", "bad CSV row"),
    }
    every = {text for split in captions(worlds[0].directory).values() for text in split}
    assert every == {f"thing {i}" for i in range(COUNT) if i != 7}


def test_pictures_are_scaled_down_and_never_up(tmp_path):
    sizes = {"wide.jpg": (64, 32), "tall.png": (24, 48), "small.jpg": (8, 9), "photo.webp": (40, 40)}
    formats = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
    for i, (name, size) in enumerate(sizes.items()):
        (tmp_path / name).write_bytes(large(i, size, formats[name.split(".")[1]]))
    (tmp_path / "t.csv").write_text("image,caption\n" + "".join(f"{name},a thing\n" for name in sizes))
    world = convert(f"{tmp_path}?held_out_share=0", tmp_path / "out", preparation=Preparation(image_size=16))
    source, found = world.source("train"), {}
    for i in range(len(source)):
        record = decode(source[i])
        with Image.open(io.BytesIO(record.image)) as image:
            found[record.id] = image.size, image.format
    assert found == {
        "wide.jpg": ((32, 16), "JPEG"),
        "tall.png": ((16, 32), "PNG"),
        "small.jpg": ((8, 9), "JPEG"),
        "photo.webp": ((16, 16), "JPEG"),
    }
    assert decode(source[2]).image == (tmp_path / "small.jpg").read_bytes()


def test_every_kind_of_record_is_converted_and_inspected(tmp_path, capsys):
    big, sound = large(0, (40, 40)), b"RIFF"
    records = [
        Record(id="r", image=big, caption="a picture", facts={"x": [1]}),
        Document(id="d", parts=("one", big, "two", noise(1)), similarity=(0.5, 0.25)),
        Conversation(id="c", images=(big,), turns=(Turn("user", "<image>\nwhat"), Turn("assistant", "it"))),
        Video(id="v", frames=(big, big), rate=2.0, caption="a clip"),
        Audio(id="a", sound=sound, caption="a sound"),
    ]
    source = write(tmp_path / "in", {"train": records}, {"licence": "CC0", "attribution": "nobody"}).directory
    world = convert(source, tmp_path / "out", preparation=Preparation(image_size=20))
    found = [decode(world.source("train")[i]) for i in range(5)]
    assert [type(one) for one in found] == [type(one) for one in records]
    assert (
        found[0].facts == {"x": [1]}
        and found[1].parts[::2] == ("one", "two")
        and found[1].parts[3] == noise(1)
    )
    assert found[2].turns == records[2].turns and found[4] == records[4] and len(found[3].frames) == 2
    for picture in (found[0].image, found[1].parts[1], found[2].images[0], found[3].frames[1]):
        with Image.open(io.BytesIO(picture)) as image:
            assert image.size == (20, 20)
    assert world.manifest["licence"] == "CC0" and world.manifest["attribution"] == "nobody"
    main(["inspect", world.directory, "--sheet", str(tmp_path / "sheet.png")])
    out = capsys.readouterr().out
    assert "Record 1, Document 1, Conversation 1, Video 1, Audio 1" in out
    assert "words in a record" in out and "formats             JPEG 5, PNG 1" in out
    assert (tmp_path / "sheet.png").is_file() and "licence CC0" in out


def test_a_split_of_several_files(shop, tmp_path, monkeypatch):
    monkeypatch.setattr("mmjax.data.conversion.CHUNK", 3)
    spec = f"{shop}?held_out_share=0"
    whole = convert(spec, tmp_path / "whole", max_bad_share=0.2)
    parts = convert(spec, tmp_path / "parts", max_bad_share=0.2, shard_megabytes=0, workers=2)
    assert [entry["file"] for entry in parts.files("train")][:2] == [
        "train-00000.arrayrecord",
        "train-00001.arrayrecord",
    ]
    assert len(parts.files("train")) == len(parts.source("train")) == COUNT - 1
    assert [parts.source("train")[i] for i in range(9)] == [whole.source("train")[i] for i in range(9)]
    assert verify(parts.directory)[1] == [] and len(parts.provenance("train")["sha256"]) == 64


def test_too_much_that_is_bad_stops_it_and_leaves_nothing(shop, tmp_path):
    with pytest.raises(UserError, match=r"more of split 'train' is bad than --max-bad-share allows"):
        convert(f"{shop}?held_out_share=0", tmp_path / "out", max_bad_share=0.02)
    assert not list(tmp_path.iterdir())


def test_what_is_in_the_way(shop, tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(UserError, match="not empty and holds no data set"):
        convert(str(shop), tmp_path)
    convert(str(shop), tmp_path / "out", limit=5)
    with pytest.raises(UserError, match="pass --force"):
        convert(str(shop), tmp_path / "out")
    assert (
        convert(str(shop), tmp_path / "out", limit=3, replace=True).manifest["splits"]["train"]["count"] == 3
    )
    with pytest.raises(UserError, match="--quality 0"):
        Preparation(quality=0)


def test_verify(shop, tmp_path, capsys):
    directory = tmp_path / "out"
    convert(str(shop), directory, max_bad_share=0.2)
    main(["verify", str(directory)])
    assert "train.arrayrecord: as the manifest says" in capsys.readouterr().out
    train, held_out = directory / "train.arrayrecord", directory / "held_out.arrayrecord"
    data = bytearray(train.read_bytes())
    data[len(data) // 2] ^= 1
    train.write_bytes(bytes(data))
    held_out.write_bytes(held_out.read_bytes()[:-1])
    (directory / "extra.arrayrecord").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        main(["verify", str(directory)])
    told = str(caught.value)
    assert "train.arrayrecord differs from its SHA-256" in told
    assert "held_out.arrayrecord has" in told and "extra.arrayrecord is not in the manifest" in told
    held_out.unlink()
    assert "held_out.arrayrecord is missing" in verify(directory)[1]


def test_the_command_converts_and_inspects(shop, tmp_path, capsys):
    out = str(tmp_path / "out")
    main(
        ["build", str(shop), "--output", out, "--workers", "2", "--max-bad-share", "0.2", "--image-size", "8"]
    )
    printed = capsys.readouterr().out
    assert f"{out}: train " in printed and "broken picture: 1" in printed and "problems.jsonl" in printed
    main(["inspect", f"{shop}?held_out_share=0", "--problems", str(tmp_path / "p.jsonl"), "--limit", "12"])
    printed = capsys.readouterr().out
    assert "train: 12 records, 1 with problems" in printed
    assert "width in pixels     5 % 16, median 16" in printed and "formats             PNG 11" in printed
    [problem] = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert problem["id"] == "7.png" and problem["kind"] == "broken picture"
    assert isinstance(open_dataset(out), World)


def test_a_published_schema_is_named_apart_from_its_place(tmp_path, capsys):
    from fixtures import vizwiz

    vizwiz(tmp_path / "in")
    main(["build", "vizwiz", "--from", str(tmp_path / "in"), "--output", str(tmp_path / "out")])
    assert "train 3, val 2" in capsys.readouterr().out


def test_the_settings_of_a_world_are_options(tmp_path, capsys):
    with pytest.raises(SystemExit):
        entry(["data", "build", "openmoji", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "--language" in told and "any of `emoji.LANGUAGES`" in told and "--image-size" not in told
    with pytest.raises(SystemExit):
        main(["build", "anything", "--help"])
    assert "--image-size" in capsys.readouterr().out


def test_results_come_in_order_and_few_are_held_back():
    started, release = [], threading.Event()

    def work(item):
        started.append(item)
        release.wait(5)
        return item

    results = in_order(work, range(100), workers=2, ahead=3)
    threading.Timer(0.05, release.set).start()
    assert next(results) == 0 and len(started) <= 2 * 3 + 2
    assert list(results) == list(range(1, 100))


def test_beam_gives_the_same_records(shop, tmp_path):
    pytest.importorskip("apache_beam")
    from mmjax.data import beam

    spec = f"{shop}?held_out_share=0.2"
    made = beam.convert(spec, tmp_path / "beam", records_per_file=10, max_bad_share=0.2)
    expected = convert(spec, tmp_path / "local", max_bad_share=0.2)
    assert made.splits == expected.splits and len(made.files("train")) > 1
    for split in made.splits:
        one, other = made.source(split), expected.source(split)
        assert [one[i] for i in range(len(one))] == [other[i] for i in range(len(other))]
    assert made.manifest["problems"] == expected.manifest["problems"]
    assert verify(made.directory)[1] == []
    with pytest.raises(UserError, match="--max-bad-share"):
        beam.convert(spec, tmp_path / "strict", max_bad_share=0.0)
    assert not (tmp_path / "strict" / "manifest.json").exists()
