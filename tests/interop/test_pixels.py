import json

import pytest

from mmjax.data.images import ImageSpec
from mmjax.errors import UserError
from mmjax.interop import pixels
from mmjax.interop.pixels import Pixels

CLIP = Pixels(spec=ImageSpec(size=224, resize="center_crop", draft=False), mean=(0.4,) * 3, std=(0.2,) * 3)
SIGLIP = Pixels(spec=ImageSpec(size=384, resize="stretch", draft=False))


def read(tmp_path, fields, default=CLIP):
    file = tmp_path / pixels.FILE
    file.write_text(json.dumps(fields))
    return pixels.read(file, default)


def test_without_a_file_the_default_holds(tmp_path):
    assert pixels.read(tmp_path / pixels.FILE, CLIP) is CLIP
    assert read(tmp_path, {}) == CLIP
    assert read(tmp_path, {}, SIGLIP) == SIGLIP


@pytest.mark.parametrize(
    ("fields", "spec"),
    [
        # OpenAI's files as of 2021: plain numbers
        (
            {"do_center_crop": True, "crop_size": 336, "size": 336, "resample": 3},
            ImageSpec(size=336, resize="center_crop", draft=False),
        ),
        (
            {"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 256}, "resample": 2},
            ImageSpec(size=224, resize="center_crop", shorter_side=256, filter="bilinear", draft=False),
        ),
        (
            {"size": {"height": 384, "width": 384}, "do_center_crop": False},
            ImageSpec(size=384, resize="stretch", draft=False),
        ),
    ],
)
def test_published_files(tmp_path, fields, spec):
    assert read(tmp_path, fields).spec == spec


@pytest.mark.parametrize("wanted", [CLIP, SIGLIP])
def test_what_is_written_reads_the_same(tmp_path, wanted):
    assert read(tmp_path, pixels.write(wanted), default=Pixels(spec=ImageSpec(size=9))) == wanted


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"do_normalize": False}, "do_normalize is false"),
        ({"rescale_factor": 1.0}, "rescale_factor is not 1/255"),
        ({"size": {"height": 3, "width": 4}}, "3x4 and not square"),
        ({"size": {"shortest_edge": 224}, "do_center_crop": False}, "no fixed size"),
        ({"size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": 224}, "crops after"),
        ({"resample": 9}, "resample is 9"),
        ([1], "cannot be understood"),
    ],
)
def test_what_mmjax_does_not_have_is_told(tmp_path, fields, sentence):
    with pytest.raises(UserError, match=sentence):
        read(tmp_path, fields)


def test_padded_pictures_cannot_be_written():
    with pytest.raises(UserError, match="'pad' has no counterpart"):
        pixels.write(Pixels(spec=ImageSpec(resize="pad")))
