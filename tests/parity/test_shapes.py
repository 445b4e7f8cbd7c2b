"""The names and shapes that a name table derives from our parameters, against those of the reference."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from compare import _parameter_shapes

from mmjax.interop.names import reference_shapes
from tools.golden.recording import Recording

FOLDER = Path(__file__).parent
CASES = {
    name: case
    for file in sorted(FOLDER.glob("cases*.py"))
    for name, case in importlib.import_module(file.stem).CASES.items()
}
GOLDEN = sorted((FOLDER / "golden").glob("*.npz"))


@pytest.mark.parametrize("file", [f for f in GOLDEN if f.stem in CASES], ids=lambda file: file.stem)
def test_the_shapes_of_a_release_follow_from_ours(file):
    recording = Recording.load(file)
    case = CASES[file.stem](recording.sizes)
    inputs = {n: np.asarray(a, np.int32) if a.dtype == np.int64 else a for n, a in recording.inputs.items()}
    found = reference_shapes(_parameter_shapes(case, inputs), case.table)
    assert found == {name: value.shape for name, value in recording.weights.items()}
