"""Malformed containers, rows and texts: each is a counted, named record or a clear sentence.

Malformed pictures are the subject of the tests of decoding.
"""

import os
import shutil
import threading

import pytest
from malformed_containers import COUNTED, GOOD, LOST, PICTURE, REFUSED, csv, sample, saved_text, tar, zipped
from pictures import records

from mmjax.data import inspection
from mmjax.data.pipeline import DataConfig, Pipeline
from mmjax.data.records import BadRecord, decode
from mmjax.data.sources import Records, open_dataset
from mmjax.data.tokenizer import Tokenizer
from mmjax.data.worlds.world import write
from mmjax.errors import UserError


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("mmjax.data.sources.files.DELAYS", (0.0, 0.0))


@pytest.mark.parametrize("name", COUNTED)
def test_a_malformed_record_is_counted_and_named(tmp_path, name):
    write_source, kinds = COUNTED[name]
    source = open_dataset(write_source(tmp_path)).source("train")
    report = inspection.inspect(source, set(), workers=1)
    assert sorted(bad.kind for bad in report.problems) == sorted(kinds)
    assert all(bad.id and bad.message and "\n" not in str(bad) for bad in report.problems)
    assert len(report.good) == 2 * GOOD - LOST.get(name, 0)


def test_there_are_fifty_kinds():
    assert len(COUNTED) >= 50


@pytest.mark.parametrize("kind", ["tar", "csv"])
def test_a_run_goes_on_and_reports(tmp_path, kind):
    spec = tar(tmp_path, *sample(png=PICTURE)) if kind == "tar" else csv(tmp_path, 'x.png,"a"b')
    config = DataConfig(source=spec, image_size=16, threads=0, augment=None, max_bad_share=0.2)
    pipeline = Pipeline(config, Tokenizer.train(["thing"], 300))
    batches = list(pipeline.evaluate(4))
    assert sum(int((batch["index"] >= 0).sum()) for batch in batches) == 2 * GOOD
    assert len(pipeline.problems) == 1
    assert pipeline.captions.count("") == 1


@pytest.mark.parametrize("name", REFUSED)
def test_a_source_that_cannot_be_used_is_refused_in_one_sentence(tmp_path, name):
    write_source, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as caught:
        dataset = open_dataset(write_source(tmp_path))
        source = dataset.source("train")
        decode(source[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("write_source", "kind"),
    [
        (zipped, "cut or damaged shard"),
        (saved_text("a.tar", b""), "empty shard"),
        (saved_text("b.tar", b"x" * 9999), "cut or damaged shard"),
    ],
)
def test_a_tar_of_nothing_is_one_bad_record(tmp_path, write_source, kind):
    source = open_dataset(write_source(tmp_path)).source("train")
    with pytest.raises(BadRecord) as caught:
        source[0]
    assert len(source) == 1 and caught.value.kind == kind


def test_an_empty_shard_among_others_is_counted(tmp_path):
    tar(tmp_path)
    (tmp_path / "empty.tar").write_bytes(bytes(10240))
    source = open_dataset(f"{tmp_path}?held_out_share=0").source("train")
    report = inspection.inspect(source, set(), workers=1)
    assert [(bad.id, bad.kind) for bad in report.problems] == [("empty.tar", "empty shard")]
    assert len(report.good) == 2 * GOOD


def test_a_very_long_text_is_kept_whole(tmp_path):
    """Its length is a matter of the template, which refuses it by its own name."""
    spec = tar(tmp_path, *sample(png=PICTURE, txt="שלום 👋 ".encode() * 100_000))
    source = open_dataset(spec).source("train")
    assert len(decode(source[GOOD]).caption) > 600_000


@pytest.mark.parametrize("kind", ["tar", "csv"])
def test_a_source_that_disappears_is_tried_again_then_named(tmp_path, kind):
    home = tmp_path / "home"
    home.mkdir()
    spec = tar(home) if kind == "tar" else csv(home)
    source = open_dataset(spec).source("train")
    assert source[0]
    shutil.rmtree(home)
    with pytest.raises(UserError, match=r"home.* cannot be read any more .*tried 3 times"):
        source[1]


def test_a_source_that_comes_back_is_read_on(tmp_path, monkeypatch, caplog):
    tar(tmp_path)
    path, away = tmp_path / "data.tar", tmp_path / "away"
    source = open_dataset(f"{path}?held_out_share=0").source("train")
    expected = source[1]
    os.rename(path, away)
    monkeypatch.setattr("mmjax.data.sources.files.DELAYS", (0.0, 0.0, 0.0))
    waits = iter([lambda: None, lambda: os.rename(away, path)])
    monkeypatch.setattr("mmjax.data.sources.files.time.sleep", lambda seconds: next(waits)())
    assert source[1] == expected
    assert sum("trying again" in message for message in caplog.messages) == 2


def test_a_run_stops_with_the_name_of_what_disappeared(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    config = DataConfig(source=csv(home), image_size=16, threads=2, max_bad_share=0.5, cache_megabytes=0)
    batches = Pipeline(config, Tokenizer.train(["thing"], 300)).train(4, seed=0)
    next(batches)
    shutil.rmtree(home)
    with pytest.raises(UserError, match="home cannot be read any more"):
        for _ in range(40):
            next(batches)
    batches.close()


def test_a_record_file_that_disappears(tmp_path):
    source = open_dataset(write(tmp_path / "w", {"train": records(3)}, {}).directory).source("train")

    class Gone:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            raise RuntimeError("input/output error")

    source._records = Gone()
    with pytest.raises(BadRecord) as caught:
        source[1]
    assert caught.value.kind == "damaged record"
    shutil.rmtree(tmp_path / "w")
    with pytest.raises(UserError, match=r"train\.arrayrecord cannot be read any more"):
        source[1]


def test_no_thread_goes_on_above_the_share_of_bad_records():
    def refuse(index, data):
        raise BadRecord(f"r{index}", "odd", "it is odd")

    bad = Records([b""] * 8, refuse, name="here", max_bad_share=0.1)
    stopped = []

    def work():
        try:
            bad.get(0)
        except UserError:
            stopped.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stopped) == 4
