"""Sources in a bucket: the same records from `gs://` as from a local folder, by a file system in memory."""

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from arrow_directories import saved
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from pictures import noise, records
from reading import pictures, read
from test_sources import shard

from mmjax.data.worlds.world import write
from mmjax.errors import UserError


class Bucket(MemoryFileSystem):
    """Google's protocol over memory."""

    protocol = ("gs", "gcs")
    store, pseudo_dirs = {}, [""]

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("gs://").removeprefix("gcs://").strip("/")


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A function that copies a local folder to the bucket and returns its address."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("mmjax.data.sources.files.DELAYS", (0.0,))
    for name in Bucket.protocol:
        monkeypatch.setitem(_registry, name, Bucket)
    fsspec.filesystem("gs").store.clear()
    Bucket.clear_instance_cache()

    def copy(folder):
        for path in folder.rglob("*"):
            if path.is_file():
                target = epath.Path("gs://pod/data") / path.relative_to(folder).as_posix()
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        return "gs://pod/data"

    return copy


def table(root):
    pictures(root / "images")
    rows = "".join(f"{i}.png,thing {i}\n" for i in range(6))
    (root / "t.csv").write_text(f"image,caption\n{rows}")
    return "/t.csv"


def parquet(root):
    cells = {"image": [noise(i) for i in range(6)], "caption": [f"thing {i}" for i in range(6)]}
    pq.write_table(pa.table(cells), root / "t.parquet")
    return "/t.parquet"


def world(root):
    write(root / "w", {"train": records(6)}, {})
    return "/w"


def arrow(root):
    saved(root / "d", range(6))
    return "/d"


def classes(root):
    pictures(root / "classes" / "thing")
    return "/classes"


def tars(root):
    shard(root / "0.tar")
    return "/*.tar"


@pytest.mark.parametrize("make", [table, parquet, world, arrow, classes, tars])
def test_a_bucket_reads_as_a_folder(tmp_path, bucket, make):
    folder = tmp_path / "local"
    folder.mkdir()
    path = make(folder)
    assert read(f"{bucket(folder)}{path}") == read(f"{folder}{path}")


def test_a_bucket_that_lost_a_file_is_named(tmp_path, bucket):
    folder = tmp_path / "local"
    folder.mkdir()
    shard(folder / "0.tar")
    place = bucket(folder)
    with pytest.raises(UserError, match=r"no file gs://pod/data/1\.tar"):
        read(f"{place}/1.tar")
