import json
import struct

import ml_dtypes
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.interop import safetensors
from mmjax.interop.safetensors import Writer, open_directory, read_header

VALUES = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([1.5, -2], ml_dtypes.bfloat16),
    "empty": np.zeros((0, 3), np.float16),
    "scalar": np.array(7, np.int64),
}


def by_hand(file, header: dict, data: bytes) -> None:
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write(directory, values=VALUES, **options):
    spelled = {name: (value.dtype, value.shape) for name, value in values.items()}
    writer = Writer(directory, spelled, stem="model", **options)
    for name, value in values.items():
        with writer.open(name) as tensor:
            tensor[...] = value


def test_a_file_made_by_hand_is_read(tmp_path):
    bf16 = np.array([1.5, -2], ml_dtypes.bfloat16)
    header = {
        "__metadata__": {"format": "pt"},
        "x": {"dtype": "BF16", "shape": [2], "data_offsets": [12, 16]},
        "y": {"dtype": "F32", "shape": [3, 1], "data_offsets": [0, 12]},
    }
    by_hand(tmp_path / "model.safetensors", header, struct.pack("<3f", 1, 2, 3) + bf16.tobytes())
    found = open_directory(tmp_path)
    np.testing.assert_array_equal(found["x"].read(), bf16)
    np.testing.assert_array_equal(found["y"].read(), [[1], [2], [3]])


def test_what_is_written_has_the_layout_of_the_reference_writer(tmp_path):
    """Header padded to 8 bytes, widest types first, then by name."""
    write(tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0 and header.pop("__metadata__") == {"format": "pt"}
    assert list(header) == ["scalar", "b", "a", "empty"]
    assert header["b"] == {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]}
    assert data[8 + length :] == VALUES["scalar"].tobytes() + VALUES["b"].tobytes() + VALUES["a"].tobytes()


@pytest.mark.parametrize("shard_bytes", [1, 12, 30, 1000])
def test_shards_round_trip(tmp_path, shard_bytes):
    write(tmp_path, shard_bytes=shard_bytes)
    found = open_directory(tmp_path)
    for name, value in VALUES.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name].read(), value)
    if shard_bytes < 1000:
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(value.nbytes for value in VALUES.values())
        assert set(index["weight_map"].values()) == {p.name for p in tmp_path.glob("*-of-*.safetensors")}


def test_equal_compares_across_its_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors, "_COMPARED", 8)
    values = {"a": np.arange(5.0), "b": np.arange(5.0), "c": np.append(np.arange(4.0), 9.0)}
    write(tmp_path, values)
    found = open_directory(tmp_path)
    assert safetensors.equal(found["a"], found["b"]) and not safetensors.equal(found["a"], found["c"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data[:-1], r"model\.safetensors is truncated: the data of a end past the file"),
        (lambda data: data[:-5], r"model\.safetensors is truncated: the data of b end past the file"),
        (lambda data: data[:100], "its header is not complete"),
        (lambda data: data[:3], "its header is not complete"),
        (lambda data: b"", "its header is not complete"),
        (lambda data: b"PK\x03\x04" + data, r"model\.safetensors is a pickle"),
        (lambda data: b"\x80\x02}q\x00(X\x05" + data, r"model\.safetensors is a pickle"),
        (lambda data: data.replace(b'"F32"', b'"F99"'), "b is of type F99"),
        (lambda data: data.replace(b"[2,3]", b"[9,9]"), "the bytes of b do not fit its type and shape"),
        (lambda data: data.replace(b'"shape"', b'"sharp"'), "damaged header"),
        (lambda data: data[:8] + b"!" + data[9:], "damaged header"),
    ],
)
def test_damage_is_told_by_file_and_tensor(tmp_path, change, sentence):
    write(tmp_path, {"a": VALUES["a"], "b": VALUES["b"]})
    file = tmp_path / "model.safetensors"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(UserError, match=sentence):
        open_directory(tmp_path)


def test_a_header_of_640_bytes_is_not_taken_for_a_pickle(tmp_path):
    header = {"x" * 581: {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}
    by_hand(tmp_path / "model.safetensors", header, b"")
    assert (tmp_path / "model.safetensors").read_bytes().startswith(b"\x80\x02")
    assert len(read_header(tmp_path / "model.safetensors")) == 1


def test_directories_without_one_clear_set_of_weights(tmp_path):
    with pytest.raises(UserError, match=r"holds no \.safetensors file"):
        open_directory(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle"):
        open_directory(tmp_path)
    write(tmp_path)
    assert open_directory(tmp_path).keys() == VALUES.keys()
    (tmp_path / "other.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match="several weight files"):
        open_directory(tmp_path)


def test_an_index_that_does_not_fit_its_files(tmp_path):
    write(tmp_path, shard_bytes=30)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["ghost"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"model-00001-of-00002\.safetensors lacks ghost"):
        open_directory(tmp_path)
    content["weight_map"]["ghost"] = "../elsewhere.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match="which is no file beside it"):
        open_directory(tmp_path)
    content["weight_map"]["ghost"] = "model-9.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"model-9\.safetensors cannot be read"):
        open_directory(tmp_path)
    index.write_text("[]")
    with pytest.raises(UserError, match="is not an index of safetensors files"):
        open_directory(tmp_path)
