"""Every kind of source behind `open_dataset`: the right records, by random access, from any thread."""

import dataclasses
import json
import os
import tarfile
import threading

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from fixtures import add
from pictures import noise, records
from reading import captions, pictures, read

from mmjax.data.pipeline import DataConfig, Pipeline, train_tokenizer
from mmjax.data.records import Record, decode
from mmjax.data.sources import open_dataset, webdataset
from mmjax.data.sources.dataset import converted, parsed
from mmjax.data.sources.splits import held_out
from mmjax.data.worlds.world import World, write, write_records
from mmjax.errors import UserError


def shard(path, count=4, first=0, texts=True):
    with tarfile.open(path, "w") as tar:
        for i in range(first, first + count):
            add(tar, f"{i:04d}.png", noise(i))
            if texts:
                add(tar, f"{i:04d}.txt", f"thing {i}\n".encode())
    return path


def test_specs():
    assert parsed("pictures.csv?image=file&caption=a%26b+c") == (
        "",
        "pictures.csv",
        {"image": "file", "caption": "a&b c"},
    )
    assert parsed("coco:/data/coco?year=2017") == ("coco", "/data/coco", {"year": "2017"})
    assert parsed("gs://bucket/x/?.tar") == ("", "gs://bucket/x/?.tar", {})
    assert parsed("tfds:coco_captions:2014") == ("tfds", "coco_captions:2014", {})
    assert parsed(r"C:\data") == ("", r"C:\data", {})


def test_options_have_the_types_of_their_defaults():
    def opener(path, *, share: float = 0.5, size: int = 1, name: str = ""):
        """Takes options."""

    given = {"share": "0.25", "size": "3", "name": "x"}
    assert converted(opener, given, where="here") == {"share": 0.25, "size": 3, "name": "x"}
    with pytest.raises(UserError, match="no option 'nmae': use share, size, name"):
        converted(opener, {"nmae": "x"}, where="here")
    with pytest.raises(UserError, match="size is 'big': a int was expected"):
        converted(opener, {"size": "big"}, where="here")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("none", "there is no world in none"),
        ("cocoo:/x", "no kind of data set 'cocoo': use one of amber, arrayrecord, coco"),
        ("EMPTY", "nor any other data set that can be read there"),
        ("none.csv", "there is no file none.csv"),
        ("none/{0..3}.tar", r"no file none/0\.tar"),
        ("parquet.parquet", "there is no file parquet.parquet"),
    ],
)
def test_a_spec_that_names_nothing(tmp_path, monkeypatch, spec, message):
    monkeypatch.setattr("mmjax.data.sources.files.DELAYS", ())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        open_dataset(str(tmp_path) if spec == "EMPTY" else spec)


def test_splits_and_their_other_names(tmp_path):
    write(tmp_path / "w", {"train": records(2), "validation": records(3)}, {})
    world = open_dataset(str(tmp_path / "w"))
    assert isinstance(world, World) and len(world.source("held_out")) == len(world.source("val")) == 3
    with pytest.raises(UserError, match="no split 'test': use train, validation"):
        world.source("test")


def test_holding_out_depends_on_the_key_alone():
    rows = [f"picture {i}" for i in range(2000)]
    divided = held_out(rows, 0.1, lambda row: row)
    assert 150 < len(divided["held_out"]) < 250
    again = held_out(list(reversed(rows[:1000])), 0.1, lambda row: row)
    assert set(again["held_out"]) == set(divided["held_out"]) & set(rows[:1000])
    assert len(held_out(rows[:2], 0.0001, lambda row: row)["held_out"]) == 1  # never none
    together = held_out([(row, i) for row in rows for i in range(2)], 0.1, lambda row: row[0])
    assert len(together["held_out"]) == 2 * len(divided["held_out"])
    assert list(held_out(rows, 0, lambda row: row)) == ["train"]
    with pytest.raises(UserError, match="held_out_share is 1"):
        held_out(rows, 1, lambda row: row)


@pytest.mark.parametrize("spec", ["", "/*.arrayrecord", "/train-*.arrayrecord"])
def test_array_records(tmp_path, spec):
    for i in range(2):
        data = [record.encode() for record in records(5)[3 * i : 3 * i + 3]]
        write_records(tmp_path / f"train-{i:05d}-of-00002.arrayrecord", data)
    assert captions(str(tmp_path) + spec) == {"train": [f"thing {i}" for i in range(5)]}


def test_a_world_of_several_files(tmp_path):
    world = write(tmp_path / "w", {"train": records(5)}, {})
    manifest = json.loads((tmp_path / "w" / "manifest.json").read_text())
    entry = manifest["splits"]["train"]
    manifest["splits"]["train"] = {"files": [entry, entry], "count": 10}
    (tmp_path / "w" / "manifest.json").write_text(json.dumps(manifest))
    source = World.open(world.directory).source("train")
    assert len(source) == 10 and source[7] == source[2] == records(5)[2].encode()


@pytest.mark.parametrize("spec", ["", "/{00000..00001}.tar", "/*.tar", "/0000?.tar"])
def test_webdataset(tmp_path, spec):
    for i in range(2):
        shard(tmp_path / f"{i:05d}.tar", first=4 * i)
    found = read(f"{tmp_path}{spec}?held_out_share=0.2")
    every = sorted((r for split in found.values() for r in split), key=lambda record: record.id)
    assert [record.caption for record in every] == [f"thing {i}" for i in range(8)]
    assert every[5] == Record(id="00001/0005", image=noise(5), caption="thing 5")
    assert 1 <= len(found["held_out"]) < 8


def test_the_splits_of_tars_by_name(tmp_path):
    shard(tmp_path / "train-000.tar", first=0)
    shard(tmp_path / "val-000.tar", first=9, count=1)
    assert captions(str(tmp_path)) == {"train": [f"thing {i}" for i in range(4)], "val": ["thing 9"]}


def test_the_index_of_a_tar_is_built_once_and_anew_when_the_tar_changes(tmp_path, monkeypatch):
    path = shard(tmp_path / "a.tar")
    open_dataset(str(path))
    assert (tmp_path / "a.tar.index").is_file()
    scanned = []
    monkeypatch.setattr(webdataset, "members", lambda *a: scanned.append(a) or iter(()))
    assert len(webdataset.index(str(path))) == 4 and not scanned
    os.utime(path, (1, 1))
    webdataset.index(str(path))
    assert len(scanned) == 1
    monkeypatch.undo()
    shard(path, count=2)
    assert len(webdataset.index(str(path))) == 2
    (tmp_path / "a.tar.index").write_bytes(b"\xc1 nonsense")
    assert len(webdataset.index(str(path))) == 2


def test_an_index_goes_to_the_cache_where_the_tar_may_not_be_written_beside(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = shard(tmp_path / "a.tar")
    (tmp_path / "a.tar.index").mkdir()  # nothing can be written there, even by root
    found = webdataset.index(str(path))
    assert len(found) == 4
    assert len(list((tmp_path / "cache").rglob("*.index"))) == 1
    monkeypatch.setattr(webdataset, "members", None)
    assert webdataset.index(str(path)) == found


def test_texts_of_a_sample(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for key, members in {
            "json": {"json": b'{"caption": "told", "alt": "other"}'},
            "cls": {"cls": b"7"},
            "caption": {"caption": b"said", "json": b'{"caption": "told"}'},
            "folder/deep": {"txt": "\ufeffdeep".encode()},
        }.items():
            add(tar, f"{key}.seg.png", b"mask")
            add(tar, f"{key}.PNG", noise(0))
            for extension, data in members.items():
                add(tar, f"{key}.{extension}", data)
        add(tar, "._json.png", b"left by a file manager")
    found = read(f"{tmp_path / 'a.tar'}?held_out_share=0")["train"]
    assert {record.id: record.caption for record in found} == {
        "a/json": "told",
        "a/cls": "7",
        "a/caption": "said",
        "a/folder/deep": "deep",
    }
    assert found[0].facts == {"caption": "told", "alt": "other"}
    wanted = decode(open_dataset(f"{tmp_path / 'a.tar'}?held_out_share=0&caption=alt").source("train")[0])
    assert wanted.caption == "other"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_in_every_tar_format(tmp_path, format):
    names = [
        "a" * 90,
        f"{'d' * 60}/{'f' * 80}",
        *([] if format == tarfile.USTAR_FORMAT else ["e" * 200, "顔" * 40]),
    ]
    with tarfile.open(tmp_path / "a.tar", "w", format=format) as tar:
        for name in names:
            add(tar, f"{name}.png", noise(0), mtime=1.5 if format == tarfile.PAX_FORMAT else 0)
            add(tar, f"{name}.txt", b"text")
    found = read(f"{tmp_path / 'a.tar'}?held_out_share=0")["train"]
    assert [record.id for record in found] == [f"a/{name}" for name in names]


def test_folders_of_classes(tmp_path):
    pictures(tmp_path / "a" / "tabby_cat", 2)
    pictures(tmp_path / "a" / "dog", 2)
    found = read(f"{tmp_path / 'a'}?held_out_share=0")["train"]
    assert [(record.id, record.caption, record.facts) for record in found][1:3] == [
        ("dog/1.png", "dog", {"label": 0}),
        ("tabby_cat/0.png", "tabby cat", {"label": 1}),
    ]
    for place in ("train/cat", "train/dog", "val/dog"):
        pictures(tmp_path / "b" / place, 1)
    found = read(str(tmp_path / "b"))
    assert [(record.caption, record.facts["label"]) for record in found["train"]] == [("cat", 0), ("dog", 1)]
    assert [(record.caption, record.facts["label"]) for record in found["val"]] == [("dog", 1)]


def test_a_folder_of_pictures_with_texts_beside(tmp_path):
    pictures(tmp_path, 3)
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text(f" thing {i}\n")
    assert captions(f"{tmp_path}?held_out_share=0") == {"train": ["thing 0", "thing 1", "thing 2"]}


@pytest.mark.parametrize("kind", ["tar", "csv", "parquet"])
def test_threads_read_the_same(tmp_path, kind):
    pictures(tmp_path, 24)
    if kind == "tar":
        path = shard(tmp_path / "a.tar", count=24)
    elif kind == "csv":
        path = tmp_path / "a.csv"
        path.write_text("image,caption\n" + "".join(f"{i}.png,thing {i}\n" for i in range(24)))
    else:
        path = tmp_path / "a.parquet"
        cells = {"image": [noise(i) for i in range(24)], "caption": [f"thing {i}" for i in range(24)]}
        pq.write_table(pa.table(cells), path, row_group_size=5)
    source = open_dataset(f"{path}?held_out_share=0").source("train")
    expected = [source[i] for i in range(24)]
    wrong = []

    def work(seed):
        for i in range(96):
            place = (7 * i + seed) % 24
            if source[place] != expected[place]:
                wrong.append(place)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_folder_of_pictures_and_a_csv_is_trained_on(tmp_path):
    pictures(tmp_path / "shop" / "photos", 12)
    rows = "".join(f"{i}.png,a thing numbered {i}\n" for i in range(12))
    (tmp_path / "shop" / "pictures.csv").write_text(f"file,title\n{rows}")
    config = DataConfig(source=str(tmp_path / "shop" / "pictures.csv"), image_size=16, vocabulary_size=300)
    pipeline = Pipeline(config, train_tokenizer(config))
    batches = pipeline.train(4, seed=0)
    batch = next(batches)
    batches.close()
    assert batch["image"].shape == (4, 1, 16, 16, 3) and len(pipeline) == 11
    assert len(Pipeline(config, pipeline.tokenizer, split="held_out")) == 1


def test_tfds(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")

    class Things(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(), "title": tfds.features.Text()}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(8):
                yield i, {"image": tmp_path / f"{i}.png", "title": f"thing {i}"}

    pictures(tmp_path, 8)
    builder = Things(data_dir=str(tmp_path / "tfds"), file_format="array_record")
    builder.download_and_prepare()
    found = read(f"tfds:things?data_dir={tmp_path / 'tfds'}&held_out_share=0.2")
    every = [record for members in found.values() for record in members]
    assert len(found["held_out"]) >= 1 and len(every) == 8
    assert {record.image: record.caption for record in every} == {noise(i): f"thing {i}" for i in range(8)}
    with pytest.raises(UserError, match="tfds:nothing cannot be opened"):
        open_dataset("tfds:nothing")


def test_the_classes_of_folders_stand_in_the_batch(tmp_path):
    for place in ("train/cat", "train/dog", "train/emu"):
        pictures(tmp_path / place, 3)
    config = DataConfig(source=str(tmp_path), image_size=16, vocabulary_size=300, facts=("label",))
    pipeline = Pipeline(config, train_tokenizer(config))
    (batch,) = pipeline.evaluate(10)
    assert batch["label"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, -1] and batch["label"].dtype == np.int32
    batches = pipeline.train(9, seed=0)
    batch = next(batches)
    batches.close()
    np.testing.assert_array_equal(batch["label"], batch["index"] // 3)

    missing = dataclasses.replace(config, facts=("age",), max_bad_share=1.0)
    pipeline = Pipeline(missing, pipeline.tokenizer)
    assert list(pipeline.evaluate(10)) == [] and pipeline.problem_counts() == {"missing age": 9}
    with pytest.raises(UserError, match="'tokens', which a batch already holds"):
        Pipeline(dataclasses.replace(config, facts=("tokens",)), pipeline.tokenizer)
    with pytest.raises(UserError, match=r"data\.pack puts several in a row"):
        dataclasses.replace(config, pack=True)
