"""mmjax against the committed recordings of public references; needs no PyTorch."""

import functools
from pathlib import Path

import chex
import pytest
from cases import CASES
from compare import errors, evaluate, tolerances

from tools.golden.recording import Recording

GOLDEN = Path(__file__).parent / "golden"
LOOPS = {  # how the same stack may run
    "unrolled": dict(unroll=8),
    "remat full": dict(remat="full"),
    "remat dots": dict(remat="dots"),
}


def _load(name):
    recording = Recording.load(GOLDEN / f"{name}.npz")
    return recording, CASES[name]


def test_every_recording_has_a_case():
    assert {path.stem for path in GOLDEN.glob("*.npz")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_forward_and_gradients(name):
    recording, build = _load(name)
    case = build(recording.sizes)
    forward, gradients = errors(case, recording)
    largest_forward, largest_gradient = tolerances(case)
    assert set(gradients) == {*recording.weights, *recording.input_gradients}
    assert max(forward.values()) < largest_forward, forward
    bad = {name: e for name, e in gradients.items() if not e < largest_gradient}
    assert not bad, bad


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", ["llama", "open_flamingo_resampler", "idefics"])
def test_loop_options_change_nothing(name, loop):
    recording, build = _load(name)
    rolled = _rolled(name)
    other = evaluate(build(recording.sizes, **LOOPS[loop]), recording)
    chex.assert_trees_all_close(other, rolled, rtol=1e-4, atol=1e-6)


@functools.cache
def _rolled(name):
    recording, build = _load(name)
    return evaluate(build(recording.sizes), recording)
