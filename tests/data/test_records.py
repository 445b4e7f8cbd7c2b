import msgpack
import pytest
from pictures import RawRecord, bomb, noise, records

from mmjax.data.pipeline import DataConfig, Pipeline, train_tokenizer
from mmjax.data.records import Record
from mmjax.data.sources import Records
from mmjax.data.tokenizer import Tokenizer
from mmjax.data.worlds.world import write
from mmjax.errors import UserError


def raw(**fields) -> RawRecord:
    return RawRecord(msgpack.packb({"id": "bad", "image": noise(0), "caption": "a thing", **fields}))


BAD = {
    "truncated picture": (raw(image=noise(0)[:-200]), "broken picture"),
    "not a picture": (raw(image=b"\x00\x01\x02\x03"), "broken picture"),
    "decompression bomb": (raw(image=bomb()), "picture too large"),
    "empty caption": (raw(caption=""), "empty caption"),
    "blank caption": (raw(caption=" \n"), "empty caption"),
    "broken UTF-8": (
        RawRecord(msgpack.packb({"id": "bad", "image": b"", "caption": "aXb"}).replace(b"aXb", b"a\xffb")),
        "broken UTF-8",
    ),
    "NUL": (raw(caption="a\0thing"), "NUL in caption"),
    "long caption": (raw(caption="thing " * 30), "caption too long"),
    "caption of another type": (raw(caption=7), "missing caption"),
    "no picture": (RawRecord(msgpack.packb({"id": "bad", "caption": "a thing"})), "missing image"),
    "no id": (raw(id=None), "not a record"),
    "not msgpack": (RawRecord(b"\xc1 nonsense"), "not a record"),
    "nothing": (RawRecord(b""), "not a record"),
}
POSITION = 4


def world_with(tmp_path, *bad, count=10):
    members = records(count)
    members[POSITION : POSITION + len(bad)] = bad
    return write(tmp_path / "world", {"train": members}, {}).directory


def pipeline(source, **settings):
    config = DataConfig(source=source, image_size=16, threads=0, augment=None, **settings)
    return Pipeline(config, Tokenizer.train(["thing"], 300))


def test_record_round_trip():
    record = Record(id="1F600", image=b"\x00\xff", caption="лицо 顔")
    assert Record.decode(record.encode()) == record


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_skipped_counted_and_named(tmp_path, caplog, name):
    bad, kind = BAD[name]
    stream = pipeline(world_with(tmp_path, bad), max_bad_share=0.1)
    batches = stream.train(5, seed=0)
    seen = [int(i) for _ in range(4) for i in next(batches)["index"]]
    batches.close()
    # Two epochs of ten: the next good record stands in for the bad one.
    assert sorted(seen) == sorted(2 * [0, 1, 2, 3, 5, 5, 6, 7, 8, 9])
    [(id, found, message)] = stream.problems
    assert found == kind and message
    assert id == (f"number {POSITION}" if kind == "not a record" else "bad")
    named = [line for line in caplog.messages if kind in line and id in line]
    assert len(named) == 1


def test_evaluation_leaves_bad_records_out(tmp_path):
    stream = pipeline(world_with(tmp_path, raw(caption="")), max_bad_share=0.1)
    batches = list(stream.evaluate(4))
    assert [batch["index"].tolist() for batch in batches] == [[0, 1, 2, 3], [5, 6, 7, 8], [9, -1, -1, -1]]
    assert stream.captions == [f"thing {i}" if i != POSITION else "" for i in range(10)]


def test_neighbouring_bad_records_share_a_replacement_across_the_end(tmp_path):
    members = records(10)
    members[8:] = [raw(caption=""), raw(image=b"no")]
    stream = pipeline(write(tmp_path / "world", {"train": members}, {}).directory, max_bad_share=0.2)
    batches = stream.train(10, seed=0)
    assert sorted(next(batches)["index"]) == [0, 0, 0, *range(1, 8)]
    batches.close()
    assert [kind for _, kind, _ in stream.problems] == ["empty caption", "broken picture"]


def test_cache_decodes_once():
    calls = []

    def decode(index, data):
        calls.append(index)
        return index

    source = Records([b""] * 4, decode, name="here", max_bad_share=0.0, cache=2)
    assert source.get_many([0, 1, 2]) == [0, 1, 2]
    assert [source.get(i) for i in (2, 1, 0)] == [2, 1, 0]
    assert calls == [0, 1, 2, 2]


def test_a_run_stops_when_more_than_the_share_is_bad(tmp_path):
    source = world_with(tmp_path, raw(id="first", caption=""), raw(id="second", image=b"no"))
    with pytest.raises(UserError) as caught:
        list(pipeline(source, max_bad_share=0.1).evaluate(5))
    assert "data.max_bad_share=0.1" in str(caught.value)
    assert "record first: empty caption" in str(caught.value)
    assert "record second: broken picture" in str(caught.value)
    assert len(list(pipeline(source, max_bad_share=0.2).evaluate(4))) == 2


@pytest.mark.parametrize("threads", [0, 2])
def test_a_run_stops_in_training_too(tmp_path, threads):
    source = world_with(tmp_path, raw(caption=""))
    config = DataConfig(source=source, image_size=16, threads=threads, max_bad_share=0.05)
    batches = Pipeline(config, Tokenizer.train(["thing"], 300)).train(10, seed=0)
    with pytest.raises(UserError, match="empty caption"):
        next(batches)
    batches.close()


def test_nothing_usable(tmp_path):
    nothing = write(tmp_path / "world", {"train": [raw(caption="")] * 2}, {}).directory
    with pytest.raises(UserError, match="no usable record"):
        next(pipeline(nothing, max_bad_share=1.0).train(2, seed=0))


def test_the_tokenizer_is_trained_without_bad_captions(tmp_path):
    source = world_with(tmp_path, raw(caption="a\0thing"), RawRecord(b"nonsense"))
    trained = train_tokenizer(DataConfig(source=source, vocabulary_size=300))
    good = [f"thing {i}" for i in range(10) if i not in (POSITION, POSITION + 1)]
    assert trained.to_json() == Tokenizer.train(good, 300).to_json()
