"""`mmjax sharding`: the layout of a config's parameters over a mesh that is not there."""

import json

import pytest

from mmjax.cli import sharding
from mmjax.errors import UserError

SPLIT = ["--config", "clip:tiny", "--config.sharding.rules=fsdp"]


def test_every_parameter_is_listed_with_what_a_device_holds(capsys):
    sharding.main([*SPLIT, "--mesh", "data=2,fsdp=4", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["mesh"] == {"data": 2, "fsdp": 4, "tensor": 1, "sequence": 1}
    rows = {row["path"]: row for row in told["parameters"]}
    kernel = rows["text/stack/layers/mlp/up/kernel"]
    assert kernel["shape"] == [1, 32, 128]
    assert kernel["spec"] == [[], ["fsdp"], []]
    assert kernel["bytes_per_device"] == kernel["bytes"] // 4 == 32 * 128
    assert rows["logit_scale"]["replicated"]
    assert told["bytes_per_device"] == sum(row["bytes_per_device"] for row in rows.values())
    assert told["replicated_share"] == pytest.approx(4 / told["bytes"])


def test_the_table_ends_in_the_share_that_stays_whole(capsys):
    sharding.main([*SPLIT, "--mesh", "fsdp=8"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["parameter", "shape", "split", "over", "bytes", "per", "device"]
    assert lines[-1].startswith("replicated      0.0% of the bytes (1 of ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*SPLIT, "--mesh", "fsdp=64"], "nearest that works is 32 devices or a size of 64"),
        ([*SPLIT, "--mesh", "fspd=4"], "'fspd' is not a mesh axis, did you mean fsdp"),
        ([*SPLIT, "--mesh", "fsdp=four"], "write the size of fsdp as in fsdp=4"),
        (["--config", "clip:tiny", "--mesh", "fsdp=4"], "100% of the parameter bytes stay replicated"),
    ],
)
def test_layouts_that_cannot_be(arguments, sentence, capsys):
    with pytest.raises(UserError, match=sentence):
        sharding.main(arguments)
