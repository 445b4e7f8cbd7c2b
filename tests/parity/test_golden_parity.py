"""mmjax against the committed recordings of public references; needs no PyTorch."""

import functools
from pathlib import Path

import cases
import cases_clip
import cases_diffusion
import cases_language
import chex
import pytest
from compare import errors, evaluate, tolerances

from tools.golden.recording import Recording

CASES = cases.CASES | cases_clip.CASES | cases_diffusion.CASES | cases_language.CASES
GOLDEN = Path(__file__).parent / "golden"
LOOPS = [  # how the same stack may run
    ("llama", dict(unroll=8)),
    ("llama", dict(remat="full")),
    ("llama", dict(remat="dots")),
    ("idefics", dict(remat="full")),
    pytest.param("idefics", dict(remat="dots", unroll=8), marks=pytest.mark.slow),
    pytest.param("open_flamingo_resampler", dict(remat="dots", unroll=8), marks=pytest.mark.slow),
    pytest.param("dit", dict(remat="full", unroll=8), marks=pytest.mark.slow),
]


def _load(name):
    recording = Recording.load(GOLDEN / f"{name}.npz")
    return recording, CASES[name]


def test_every_recording_has_a_case():
    assert {path.stem for path in GOLDEN.glob("*.npz")} == set(CASES)


@functools.cache
def _evaluated(name):
    recording, build = _load(name)
    return evaluate(build(recording.sizes), recording)


@pytest.mark.parametrize("name", CASES)
def test_forward_and_gradients(name):
    recording, build = _load(name)
    forward, gradients = errors(recording, *_evaluated(name))
    largest_forward, largest_gradient = tolerances(build(recording.sizes))
    assert set(gradients) == {*recording.weights, *recording.input_gradients}
    assert max(forward.values()) < largest_forward, forward
    bad = {name: e for name, e in gradients.items() if not e < largest_gradient}
    assert not bad, bad


@pytest.mark.parametrize(("name", "loop"), LOOPS)
def test_loop_options_change_nothing(name, loop):
    recording, build = _load(name)
    other = evaluate(build(recording.sizes, **loop), recording)
    forward, gradients = errors(recording, *other)
    assert max(forward.values()) < 1e-4 and max(gradients.values()) < 1e-4, (forward, gradients)
    chex.assert_trees_all_close(other, _evaluated(name), rtol=1e-4, atol=1e-5)
