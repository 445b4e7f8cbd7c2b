"""Each published schema, read from five records in the layout of its release."""

import json
from pathlib import Path

import fixtures
import pytest

from mmjax.data.conversion import Preparation, convert, verify
from mmjax.data.records import BadRecord, Conversation, Document, Record, decode, pictures
from mmjax.data.sources import caption, open_dataset
from mmjax.data.sources.dataset import readers
from mmjax.errors import UserError


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    root = tmp_path_factory.mktemp("releases")
    for name, write in fixtures.WRITERS.items():
        write(root / name)
    return root


def read(spec):
    """{split: [record or BadRecord]}"""
    dataset = open_dataset(spec)
    found = {}
    for split in dataset.splits:
        source = dataset.source(split)
        found[split] = [one(source, index) for index in range(len(source))]
    return found


def one(source, index):
    try:
        return decode(source[index])
    except BadRecord as bad:
        return bad


def turns(conversation):
    return [(turn.role, turn.text) for turn in conversation.turns]


def test_every_reader_has_a_fixture():
    assert set(readers()) == set(fixtures.WRITERS) - {"coco_official"}


@pytest.mark.parametrize("name", sorted(set(fixtures.WRITERS) - {"coco_official"}))
def test_every_record_is_good_and_its_text_known_without_its_picture(releases, name):
    dataset = open_dataset(f"{name}:{releases / name}")
    for split in dataset.splits:
        source = dataset.source(split)
        for index in range(len(source)):
            record = decode(source[index])
            assert Preparation()(source, index).data == source[index]
            said = caption(source, index)
            assert said and said.split()[0] in source[index].decode("utf-8", "replace")
            assert all(picture.startswith(b"\xff\xd8") for picture in pictures(record))


def test_coco_in_karpathys_splits(releases):
    found = read(f"coco:{releases / 'coco'}")
    assert {split: len(records) for split, records in found.items()} == {"train": 4, "val": 2, "test": 4}
    first = found["train"][0]
    assert first == Record(
        id="100-0",
        image=fixtures.jpeg(0),
        caption="picture 0 said 0",
        facts={"picture": fixtures.coco_name(0), "captions": ["picture 0 said 0", "picture 0 said 1"]},
    )
    assert found["train"][1].facts["captions"] == ["picture 0 said 1", "picture 0 said 0"]
    assert found["train"][2].id == "101-0"  # restval is trained on
    per_picture = read(f"coco:{releases / 'coco'}?captions=first")["test"]
    assert [record.id for record in per_picture] == ["103", "104"]
    assert len(per_picture[0].facts["captions"]) == 2


def test_coco_official(releases):
    found = read(f"coco:{releases / 'coco_official'}?year=2017&captions=first")
    assert {split: [record.id for record in records] for split, records in found.items()} == {
        "train": ["0", "1", "2"],
        "val": ["3", "4"],
    }
    assert found["val"][0].caption == "picture 3 said 0" and found["val"][0].image == fixtures.jpeg(3)


def test_flickr30k(releases):
    found = read(f"flickr30k:{releases / 'flickr30k'}")
    assert {split: len(records) for split, records in found.items()} == {"train": 4, "val": 2, "test": 4}
    assert found["val"][0].id == "1000092.jpg-0" and found["val"][0].image == fixtures.jpeg(2)


def test_nocaps(releases):
    [(split, found)] = read(f"nocaps:{releases / 'nocaps'}").items()
    assert split == "val" and len(found) == 5
    assert found[2].facts["domain"] == "out-domain" and len(found[2].facts["captions"]) == 2


def test_vqav2(releases):
    found = read(f"vqav2:{releases / 'vqav2'}")
    assert {split: len(records) for split, records in found.items()} == {"train": 3, "val": 2}
    asked = found["train"][1]
    assert asked.id == "1001" and asked.images == (fixtures.jpeg(1),)
    assert turns(asked) == [("user", "<image>\nIs it 1?"), ("assistant", "yes")]
    assert asked.facts == {
        "kind": "yes/no",
        "answers": ["yes"] * 7 + ["thing 1"] * 3,
        "question_type": "is it",
        "picture": "COCO_train2014_000000000001.jpg",
    }


def test_gqa(releases):
    found = read(f"gqa:{releases / 'gqa'}")
    assert {split: len(records) for split, records in found.items()} == {"train": 3, "testdev": 2}
    asked = found["testdev"][0]
    assert turns(asked) == [("user", "<image>\nWhat is on picture 3?"), ("assistant", "bowl")]
    assert asked.facts["kind"] == "rel" and asked.facts["full_answer"] == "It is a bowl."


def test_textvqa(releases):
    found = read(f"textvqa:{releases / 'textvqa'}")
    assert {split: len(records) for split, records in found.items()} == {"train": 3, "val": 2}
    asked = found["val"][0]
    assert (
        asked.turns[1].text == "stop" and asked.facts["ocr"] == ["STOP"] and len(asked.facts["answers"]) == 10
    )


def test_vizwiz(releases):
    found = read(f"vizwiz:{releases / 'vizwiz'}")
    asked = found["val"][1]
    assert asked.id == "VizWiz_val_00000004.jpg" and asked.images == (fixtures.jpeg(4),)
    assert asked.turns[1].text == "unanswerable" and asked.facts["answerable"] is False


def test_llava(releases):
    found = read(f"llava:{releases / 'llava'}?held_out_share=0")["train"]
    assert len(found) == 5
    assert turns(found[0])[0] == ("user", "<image>\nWhat is it?")  # the source left the mark out
    assert turns(found[1])[0] == ("user", "What is it?\n<image>")
    assert [turn.role for turn in found[1].turns] == ["user", "assistant"] * 2
    assert found[4].images == () and turns(found[4]) == [("user", "How are you?"), ("assistant", "Well.")]


def test_lrv_keeps_what_is_negative(releases):
    found = read(f"lrv:{releases / 'lrv'}?held_out_share=0")["train"]
    assert [one.facts["negative"] for one in found] == [True, False, True, False, False]
    assert found[1].facts["kind"] == "object detection" and found[1].facts["answers"] == ["There is 1."]


def test_pope(releases):
    found = read(f"pope:{releases / 'pope'}")
    assert list(found) == ["random", "popular", "adversarial"]
    assert [record.turns[1].text for record in found["popular"]] == ["yes", "no", "yes", "no", "yes"]


def test_amber(releases):
    [(split, found)] = read(f"amber:{releases / 'amber'}").items()
    assert split == "test" and [len(record.turns) for record in found] == [1, 1, 2, 2, 2]
    assert found[0].facts == {
        "kind": "generative",
        "objects": ["sky", "tree"],
        "likely": ["cloud"],
        "picture": "AMBER_1.jpg",
    }
    assert found[2].facts["kind"] == "discriminative-attribute-state" and found[2].turns[1].text == "yes"


def test_mmc4_puts_a_picture_before_its_sentence(releases):
    found = read(f"mmc4:{releases / 'mmc4'}?held_out_share=0")["train"]
    assert all(isinstance(document, Document) for document in found)
    assert found[0].parts == (fixtures.jpeg(1), "First 0.", "Second 0.", fixtures.jpeg(0), "Third 0.")
    assert found[0].similarity == (0.5, 0.25) and found[0].facts == {"url": "http://x/0.html"}
    assert found[1].parts[3] == fixtures.jpeg(10)
    assert found[2].images == (fixtures.jpeg(20),) and len(found[2].similarity) == 1
    assert "missing picture" in found[2].facts["left_out"][0]


def test_obelics(releases):
    found = read(f"obelics:{releases / 'obelics'}?held_out_share=0")["train"]
    assert found[3].parts == ("Before 3.", fixtures.jpeg(3), "After 3.")
    assert found[3].similarity == () and found[3].facts == {"url": "http://x/3.html"}


def test_laion(releases):
    found = read(f"laion:{releases / 'laion'}?held_out_share=0")["train"]
    assert [record.caption for record in found] == [f"thing {n}" for n in range(5)]
    assert found[0].id == "00000/00000000" and found[0].facts["url"] == "http://x/0"


def test_imagenet(releases):
    found = read(f"imagenet:{releases / 'imagenet'}")
    assert {split: len(records) for split, records in found.items()} == {"train": 3, "val": 2}
    assert [(record.caption, record.facts["label"]) for record in found["val"]] == [
        ("tench", 0),
        ("goldfish", 1),
    ]


def test_imagenets_validation_pictures_in_one_folder(tmp_path):
    fixtures.imagenet(tmp_path)
    for number, path in enumerate(sorted((tmp_path / "val").rglob("*.JPEG"))):
        path.rename(tmp_path / "val" / f"ILSVRC2012_val_0000000{number}.JPEG")
    rows = "ImageId,PredictionString\nILSVRC2012_val_00000000,n01440764 1 2 3 4\n"
    (tmp_path / "LOC_val_solution.csv").write_text(rows)
    first, second = read(f"imagenet:{tmp_path}")["val"]
    assert (first.caption, first.facts) == ("tench", {"label": 0})
    assert second.kind == "missing caption"  # it has no solution


@pytest.mark.parametrize("name", ["coco", "vqav2", "llava", "mmc4"])
def test_a_release_is_built(releases, tmp_path, name):
    spec = f"{name}:{releases / name}"
    world = convert(spec, tmp_path / "out")
    assert verify(world.directory)[1] == []
    for split, records in read(spec).items():
        source = world.source(split)
        assert [decode(source[i]) for i in range(len(source))] == records
    assert world.manifest["source"] == {"kind": name, "name": name, "options": {}}


BROKEN = {
    "an entry that is no object": (lambda entries: entries.__setitem__(0, 7), "not a JSON object"),
    "a lost field": (lambda entries: entries[0].pop("question"), "missing field"),
    "a question that is no text": (lambda entries: entries[0].update(question=7), "wrong type"),
    "answers that are no list": (lambda entries: entries[0].update(answers=7), "wrong type"),
    "a lost picture": (lambda entries: entries[0].update(image="none.jpg"), "missing picture"),
    "a picture elsewhere": (
        lambda entries: entries[0].update(image="../../x.jpg"),
        "path outside the folder",
    ),
    "no picture": (lambda entries: entries[0].update(image=None), "missing picture"),
    "a repeated entry": (lambda entries: entries.append(entries[0]), "repeated id"),
    "an empty question": (lambda entries: entries[0].update(question=""), "empty text"),
    "half a surrogate": (lambda entries: entries[0].update(question="a \ud800 b"), "broken UTF-8"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_entry_is_one_bad_record(tmp_path, name):
    fixtures.vizwiz(tmp_path)
    file = tmp_path / "Annotations" / "train.json"
    entries = json.loads(file.read_text())
    change, kind = BROKEN[name]
    change(entries)
    file.write_text(json.dumps(entries))
    found = read(f"vizwiz:{tmp_path}")["train"]
    bad = [record for record in found if isinstance(record, BadRecord)]
    assert len(found) - len(bad) == 3 - ("repeated" not in name)
    assert [record.kind for record in bad] == [kind]


def test_what_is_not_there_is_told(tmp_path):
    for name in set(fixtures.WRITERS) - {"coco_official"}:
        with pytest.raises(UserError, match=r"has no|there is no"):
            open_dataset(f"{name}:{tmp_path}")
    with pytest.raises(UserError, match="captions is 'all'"):
        fixtures.coco(tmp_path)
        open_dataset(f"coco:{tmp_path}?captions=all").source("train")


def test_conversations_of_unknown_form(tmp_path):
    said = [{"from": "narrator", "value": "Once."}]
    Path(tmp_path / "llava.json").write_text(json.dumps([{"id": "a", "conversations": said}]))
    [bad] = read(f"llava:{tmp_path}")["train"]
    assert bad.kind == "unknown role" and isinstance(bad, BadRecord)
    assert not isinstance(bad, Conversation)
