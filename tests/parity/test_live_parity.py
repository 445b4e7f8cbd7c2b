"""The references rebuilt now, with other seeds and shapes than the committed recordings."""

from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.parity
pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("diffusers")

import cases  # noqa: E402
import cases_clip  # noqa: E402
import cases_diffusion  # noqa: E402
import cases_language  # noqa: E402
import numpy as np  # noqa: E402
from compare import errors, evaluate, tolerances  # noqa: E402

from mmjax.layers import masks  # noqa: E402
from tools.golden import flamingo  # noqa: E402
from tools.golden.make import REFERENCES  # noqa: E402

NEEDS_OPEN_FLAMINGO = ("open_flamingo_cross", "open_flamingo_resampler", "open_flamingo")
OTHER_SIZES = {
    "clip_layer": dict(batch=1, length=9, width=40, heads=5, mlp_width=72),
    "clip": dict(batch=5, size=24, patch=8, width=32, vision=48, depth=3, heads=4, length=9, embedding=20),
    "siglip_layer": dict(batch=3, length=4, width=48, heads=2, mlp_width=56),
    "siglip": dict(batch=4, size=26, patch=8, width=32, vision=48, depth=3, heads=4, length=9),
    "llama": dict(batch=3, length=11, vocabulary=50, width=48, depth=4, heads=6, kv_heads=2, mlp_width=64),
    "qwen3": dict(batch=3, length=9, width=40, depth=3, heads=6, kv_heads=3, head_dim=10, mlp_width=24),
    "gpt2": dict(batch=3, length=12, width=36, depth=3, heads=6),
    "bert_layer": dict(batch=1, length=12, width=36, heads=3, mlp_width=20),
    "chameleon_swin_layer": dict(batch=3, length=5, width=48, heads=6, kv_heads=3, mlp_width=64),
    "open_flamingo_cross": dict(
        batch=3, length=11, width=20, media=3, latents=4, vision=28, heads=3, head_dim=6
    ),
    "open_flamingo_resampler": dict(
        batch=1, media=3, frames=1, length=7, width=20, depth=3, heads=3, head_dim=6
    ),
    "idefics_cross": dict(batch=3, length=5, width=40, vision=24, keys=9, heads=5, mlp_width=32),
    "idefics_resampler": dict(batch=1, length=9, width=20, depth=3, heads=3, head_dim=6, queries=5),
    "idefics": dict(
        batch=3,
        length=12,
        added=4,
        width=32,
        depth=6,
        heads=4,
        every=3,
        media=3,
        size=12,
        vision=24,
        vision_depth=2,
        vision_heads=3,
        resampler_depth=2,
        queries=2,
    ),
    "dinov2_layer": dict(batch=1, length=10, width=24, heads=6, mlp_ratio=3),
    "dit_block": dict(batch=3, length=9, width=40, heads=5),
    "time_embedding": dict(batch=7, width=10, frequencies=256),
}
CASES = cases.CASES | cases_clip.CASES | cases_diffusion.CASES | cases_language.CASES
OTHER_SIZES |= cases_clip.OTHER_SIZES | cases_diffusion.OTHER_SIZES | cases_language.OTHER_SIZES


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize("name", REFERENCES)
def test_forward_and_gradients(name, seed):
    if name in NEEDS_OPEN_FLAMINGO:
        pytest.importorskip("einops_exts")
    if name in cases_clip.NEEDS and find_spec(cases_clip.NEEDS[name]) is None:
        pytest.skip(f"needs {cases_clip.NEEDS[name]}")
    recording = REFERENCES[name](seed, **OTHER_SIZES[name])
    case = CASES[name](recording.sizes)
    forward, gradients = errors(recording, *evaluate(case, recording))
    largest_forward, largest_gradient = tolerances(case)
    assert max(forward.values()) < largest_forward, forward
    assert max(gradients.values()) < largest_gradient, gradients


def test_open_flamingo_leaks_where_pictures_are_missing_and_mmjax_does_not():
    """With more markers than media its masked softmax becomes uniform: the text reads every picture."""
    pytest.importorskip("einops_exts")
    import torch

    attention = flamingo.layers().MaskedCrossAttention(dim=8, dim_visual=8, dim_head=4, heads=2)
    markers = np.array([[True, False, True, False]])
    read = attention(torch.randn(1, 4, 8), torch.randn(1, 1, 3, 8), media_locations=torch.from_numpy(markers))
    assert read[:, 2:].abs().min() > 0

    segment = np.ones((1, 4), np.int32)
    owner = masks.media_segment(markers, segment, 1)
    seen = masks.latest_media_mask(masks.media_seen(markers), segment, np.ones((1, 1), bool), owner)
    np.testing.assert_array_equal(seen[0, :, 0], [True, True, False, False])
