import hashlib

import pytest

from mmjax.data.worlds import world
from mmjax.errors import UserError
from mmjax.evaluation import provenance
from mmjax.evaluation.retrieval import Retrieval
from mmjax.evaluation.zero_shot import ZeroShot


def test_a_split_is_known_by_its_hash(tiny_world):
    opened = world.World.open(tiny_world)
    found = {name: provenance.split(opened, name) for name in opened.splits}
    for name, facts in found.items():
        assert facts["split"] == name
        assert facts["count"] == len(opened.source(name))
        with open(opened.path(name), "rb") as file:
            assert facts["sha256"] == hashlib.sha256(file.read()).hexdigest()
    with pytest.raises(UserError, match="no split 'none'"):
        provenance.split(opened, "none")


def test_a_directory_is_known_by_its_files(tmp_path):
    data = tmp_path / "data"
    (data / "a").mkdir(parents=True)
    (data / "a" / "x.txt").write_text("1")
    (data / "y.txt").write_text("2")
    found = provenance.files(ZeroShot(directory=str(data), templates="seven"))
    assert list(found) == ["data"] and found["data"]["count"] == 2
    before = found["data"]["sha256"]
    (data / "y.txt").rename(data / "z.txt")
    assert provenance.digest(data) != before
    (data / "z.txt").rename(data / "y.txt")
    assert provenance.digest(data) == before
    (data / "a" / "x.txt").write_text("3")
    assert provenance.digest(data) != before
    assert provenance.files(Retrieval()) == {}
    with pytest.raises(UserError, match="nothing at"):
        provenance.digest(tmp_path / "none")
