"""Conversion works tensor by tensor, so what it takes does not grow with the depth of a model."""

import json
import subprocess
import sys

import numpy as np
import pytest
import releases
from flax import linen as nn

from mmjax.interop import family, safetensors
from mmjax.interop.names import reference_shapes
from mmjax.systems import sizes
from mmjax.training.state import abstract_params

# Linux counts the memory of the process that forked it to `ru_maxrss`, here that of the whole test run.
SCRIPT = """
import re, sys
from mmjax.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
"""
GIB = 2**30


def peak(*arguments) -> int:
    """Largest resident memory in bytes of a whole `mmjax` process."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) << 10


@pytest.mark.slow
def test_a_clip_of_605_megabytes_takes_less_than_a_gibibyte(tmp_path):
    """ViT-B/32 in float32, whose largest tensor has 101 MB; the bound asked for is 1.5 GiB."""
    found, system = family.discover()["clip"], sizes.load("clip", "ViT-B/32")
    shapes = reference_shapes(nn.meta.unbox(abstract_params(system)), found.tables(system)[0])
    source = tmp_path / "hf"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(found.write(system)))
    float32 = np.dtype(np.float32)
    writer = safetensors.Writer(source, {name: (float32, s) for name, s in shapes.items()}, stem="model")
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        with writer.open(name) as tensor:
            tensor[...] = rng.standard_normal(shape, np.float32)
    assert (source / "model.safetensors").stat().st_size > 605_000_000

    bare = peak("parameters", "--config", "clip:tiny")
    largest = max(entry.size for entry in writer.entries.values())
    # Twice the largest tensor, and what Orbax and the file system's pages take.
    allowed = bare + 2 * largest + GIB // 8
    assert allowed < 1.5 * GIB
    assert peak("convert", "--from-hf", source, "--to", tmp_path / "ours") < allowed
    assert peak("convert", "--to-hf", tmp_path / "back", "--from", tmp_path / "ours") < allowed
    for name, entry in safetensors.open_directory(tmp_path / "back").items():
        assert safetensors.equal(entry, writer.entries[name]), name


def test_no_more_than_one_tensor_is_read_before_it_is_written(tmp_path, monkeypatch):
    """The order of reads and writes, which is what keeps memory low, without measuring memory."""
    from mmjax.interop.convert import from_hugging_face
    from mmjax.training.streaming import Leaves

    source = releases.write(tmp_path / "hf", releases.LLAMA, releases.tensors(releases.LLAMA))
    events = []
    read, array = safetensors.Entry.read, Leaves.write

    def noted_read(entry):
        events.append("read")
        return read(entry)

    def noted_write(leaves, path, layers, **settings):
        def noted(layers):
            for layer in layers:
                yield layer
                events.append("written")  # resumed when the layer is on disk

        array(leaves, path, noted(layers), **settings)
        events.append("written" if events[-1] == "read" else "done")

    monkeypatch.setattr(safetensors.Entry, "read", noted_read)
    monkeypatch.setattr(Leaves, "write", noted_write)
    from_hugging_face(source, tmp_path / "ours")
    order = [event for event in events if event != "done"]
    assert order == ["read", "written"] * (len(order) // 2) and order.count("read") == 21
