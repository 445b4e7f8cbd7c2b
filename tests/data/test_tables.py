"""Tables of pictures and captions, in text and in columns."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from arrow_directories import saved
from pictures import noise
from reading import captions, pictures, read

from mmjax.data.sources import open_dataset
from mmjax.errors import UserError

TABLES = {
    "csv": 'File,Title\n0.png,"a, ""b"""\n1.png,"two\nlines"\n',
    "csv with semicolons": 'file_name;caption\n0.png;a, "b"\n1.png;"two\nlines"\n'.replace(
        'a, "b"', '"a, ""b"""'
    ),
    "csv of Windows": '\ufefffile,text\r\n0.png,"a, ""b"""\r\n1.png,"two\r\nlines"\r\n',
    "tsv": 'path\tcaption\n0.png\ta, "b"\n1.png\ttwo\\lines\n'.replace("\\", " "),
    "jsonl": '{"image": "0.png", "text": "a, \\"b\\""}\n\n{"image": "1.png", "text": "two\\nlines"}\n',
    "json": '[{"img": "0.png", "alt": "a, \\"b\\""}, {"img": "1.png", "alt": "two\\nlines"}]',
}


@pytest.mark.parametrize("folder", ["", "images", "t"])
@pytest.mark.parametrize("form", TABLES)
def test_tables_of_text(tmp_path, form, folder):
    pictures(tmp_path / folder)
    file = tmp_path / f"t.{form.split()[0]}"
    file.write_text(TABLES[form], encoding="utf-8", newline="")
    found = read(f"{file}?held_out_share=0")["train"]
    assert [record.id for record in found] == ["0.png", "1.png"]
    assert [" ".join(record.caption.split()) for record in found] == ['a, "b"', "two lines"]
    assert [record.image for record in found] == [noise(0), noise(1)]


def test_columns_that_are_told(tmp_path):
    pictures(tmp_path / "here")
    (tmp_path / "t.csv").write_text("n,where,what,caption\n7,0.png,zero,wrong\n8,1.png,one,wrong\n")
    found = read(f"{tmp_path / 't.csv'}?image=where&caption=what&id=n&folder=here&held_out_share=0")["train"]
    assert [(record.id, record.caption) for record in found] == [("7", "zero"), ("8", "one")]
    with pytest.raises(UserError, match="has no column 'whom': use one of n, where, what, caption"):
        open_dataset(f"{tmp_path / 't.csv'}?caption=whom")
    (tmp_path / "u.csv").write_text("a,b\n1,2\n")
    with pytest.raises(
        UserError, match=r"has the columns a, b: say which holds the image by adding \?image="
    ):
        open_dataset(str(tmp_path / "u.csv"))


def test_splits_of_a_table(tmp_path):
    pictures(tmp_path)
    (tmp_path / "t.csv").write_text("image,caption,split\n0.png,a,train\n1.png,b,test\n2.png,c,train\n")
    assert captions(str(tmp_path / "t.csv")) == {"train": ["a", "c"], "test": ["b"]}
    (tmp_path / "train.csv").write_text("image,caption\n0.png,a\n")
    (tmp_path / "val.csv").write_text("image,caption\n1.png,b\n")
    (tmp_path / "t.csv").unlink()
    assert captions(str(tmp_path / "*.csv")) == {"train": ["a"], "val": ["b"]}


def test_captions_of_one_picture_stay_on_one_side(tmp_path):
    pictures(tmp_path, 20)
    rows = "".join(f"{i}.png,thing {i} said {k}\n" for i in range(20) for k in range(3))
    (tmp_path / "t.csv").write_text(f"image,caption\n{rows}")
    found = read(f"{tmp_path / 't.csv'}?held_out_share=0.3")
    sides = {split: {record.id.split("#")[0] for record in members} for split, members in found.items()}
    assert sides["train"] and sides["held_out"] and not sides["train"] & sides["held_out"]
    assert len({record.id for members in found.values() for record in members}) == 60


@pytest.mark.parametrize("cells", ["struct", "bytes", "path"])
def test_parquet(tmp_path, cells):
    pictures(tmp_path)
    images = {
        "struct": [{"bytes": noise(i), "path": f"{i}.png"} for i in range(6)],
        "bytes": [noise(i) for i in range(6)],
        "path": [f"{i}.png" for i in range(6)],
    }[cells]
    table = pa.table({"image": images, "caption": [[f"thing {i}", "else"] for i in range(6)], "id": range(6)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    found = read(f"{tmp_path / 't.parquet'}?held_out_share=0")["train"]
    assert [record.image for record in found] == [noise(i) for i in range(6)]
    assert (
        found[3].id == "3"
        and found[3].caption == "thing 3"
        and found[3].facts == {"captions": ["thing 3", "else"]}
    )


def test_a_directory_of_hugging_face_datasets(tmp_path):
    saved(tmp_path / "one", range(5))
    found = read(f"{tmp_path / 'one'}?held_out_share=0")["train"]
    assert [(record.caption, record.image) for record in found] == [
        (f"thing {i}", noise(i)) for i in range(5)
    ]
    saved(tmp_path / "two" / "train", range(3), labels=True)
    saved(tmp_path / "two" / "test", range(3, 6), labels=True)
    (tmp_path / "two" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert captions(str(tmp_path / "two")) == {"train": ["cat", "dog", "cat"], "test": ["dog", "cat", "dog"]}
