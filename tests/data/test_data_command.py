import pytest
from pictures import RawRecord, records
from PIL import Image

from mmjax.cli.data import main
from mmjax.data.worlds import openmoji
from mmjax.data.worlds.world import World, write
from mmjax.errors import UserError


def test_build(tmp_path, capsys):
    main(
        [
            "build",
            "openmoji",
            "--output",
            str(tmp_path / "w"),
            "--size",
            "8",
            "--language",
            "fr",
            "--limit",
            "5",
        ]
    )
    world = World.open(tmp_path / "w")
    assert (world.manifest["size"], world.manifest["language"]) == (8, "fr")
    out = capsys.readouterr().out
    assert f"train {world.manifest['splits']['train']['count']}" in out and openmoji.ATTRIBUTION in out


def test_inspect(tiny_world, tmp_path, capsys):
    main(["inspect", tiny_world, "--sheet", str(tmp_path / "new" / "sheet.png")])
    out = capsys.readouterr().out
    for name, facts in World.open(tiny_world).manifest["splits"].items():
        assert f"{name}: {facts['count']} records, 0 with problems" in out
    assert "words in a caption  5 % " in out and "bytes in a picture" in out
    assert openmoji.ATTRIBUTION in out and "licence CC BY-SA 4.0" in out
    assert "SHA-256" not in out
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.width > 500 and len(sheet.getcolors(2**20)) > 50


def test_inspect_names_problems(tmp_path, capsys):
    members = records(6)
    members[2] = RawRecord(b"nonsense")
    members[3] = members[1]
    world = write(tmp_path / "w", {"train": members}, {})
    manifest = tmp_path / "w" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"sha256": "', '"sha256": "0'))
    main(["inspect", world.directory])
    out = capsys.readouterr().out
    assert "train: 6 records, 2 with problems" in out
    assert "record number 2: not a record" in out
    assert "record r1: repeated id" in out
    assert "train.arrayrecord differs from its SHA-256 in the manifest" in out


@pytest.mark.parametrize(
    "argv",
    [[], ["burn"], ["build"], ["build", "openmoji"], ["inspect"]],
)
def test_wrong_arguments_exit_with_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "mmjax data" in capsys.readouterr().err


def test_user_errors(tmp_path):
    with pytest.raises(UserError, match="there is no world in emojione"):
        main(["build", "emojione", "--output", str(tmp_path / "w")])
    with pytest.raises(UserError, match="there is no world"):
        main(["inspect", str(tmp_path)])
    with pytest.raises(UserError, match="--size is 0"):
        main(["build", "openmoji", "--output", str(tmp_path / "w"), "--size", "0"])
    with pytest.raises(UserError, match="--limit is 0"):
        main(["build", "openmoji", "--output", str(tmp_path / "w"), "--limit", "0"])
