import io

import numpy as np
import pytest
from pictures import bomb, encoded, noise
from PIL import Image

from mmjax.data.images import ImageSpec
from mmjax.data.records import BadRecord
from mmjax.errors import UserError

RED, WHITE, BLUE = (255, 0, 0), (255, 255, 255), (0, 0, 255)


def pixels(spec: ImageSpec, data: bytes) -> np.ndarray:
    return np.asarray(spec.decode(data))


def test_a_picture_of_the_right_size_is_untouched():
    expected = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(pixels(ImageSpec(size=16), encoded(expected)), expected)


def test_alpha_lies_over_the_background():
    image = np.zeros((4, 4, 4), np.uint8)
    image[..., 0] = 255
    image[:, :2, 3] = 255
    image[:, 2, 3] = 128
    flat = pixels(ImageSpec(size=4, background=BLUE), encoded(image))
    assert tuple(flat[0, 0]) == RED and tuple(flat[0, 3]) == BLUE
    np.testing.assert_allclose(flat[0, 2], (128, 0, 127), atol=1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 40_000, np.uint16))
    else:
        image = Image.new("RGB", (8, 8), WHITE).convert("RGBA" if mode == "PA" else "RGB").convert(mode)
    rgb = pixels(ImageSpec(size=8), encoded(image, "TIFF" if mode in ("CMYK", "PA") else "PNG"))
    assert rgb.shape == (8, 8, 3) and rgb.dtype == np.uint8
    assert (rgb == (40_000 >> 8 if mode == "I;16" else 255)).all()


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (16, 16), WHITE)
    image.paste(RED, (0, 0, 16, 8))  # red above white
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    turned = pixels(ImageSpec(size=16), encoded(image, "JPEG", quality=100, subsampling=0, exif=exif))
    np.testing.assert_allclose(turned[8, 14], RED, atol=3)
    np.testing.assert_allclose(turned[8, 1], WHITE, atol=3)


@pytest.mark.parametrize(
    ("resize", "corner", "edge"), [("pad", BLUE, RED), ("crop", RED, RED), ("stretch", RED, RED)]
)
def test_resize(resize, corner, edge):
    wide = encoded(Image.new("RGB", (40, 20), RED))
    square = pixels(ImageSpec(size=20, background=BLUE, resize=resize), wide)
    assert square.shape == (20, 20, 3)
    assert tuple(square[0, 0]) == corner and tuple(square[10, 0]) == edge == tuple(square[10, 10])


def test_centre_crop_resizes_the_shorter_side_and_rounds_down():
    """9 x 24 pixels become 6 x 16, of which 5 x 5 are cut at row 5 (11 to spare), column 0 (1 to spare)."""
    data = np.random.default_rng(0).integers(0, 256, (24, 9, 3), np.uint8)
    spec = ImageSpec(size=5, resize="center_crop", shorter_side=6, draft=False)
    resized = np.asarray(Image.fromarray(data).resize((6, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(pixels(spec, encoded(data)), resized[5:10, 0:5])
    untouched = ImageSpec(size=9, resize="center_crop")
    np.testing.assert_array_equal(pixels(untouched, encoded(data[:9])), data[:9])
    np.testing.assert_array_equal(pixels(untouched, encoded(data[:, :9])), data[7:16])


def test_a_large_jpeg_is_exact_without_draft():
    smooth = np.kron(np.random.default_rng(0).integers(0, 256, (8, 8, 3)), np.ones((16, 16, 1)))
    jpeg = encoded(smooth, "JPEG")
    whole = np.asarray(Image.open(io.BytesIO(jpeg)).resize((16, 16), Image.Resampling.BILINEAR))
    exact = ImageSpec(size=16, resize="stretch", filter="bilinear", draft=False)
    np.testing.assert_array_equal(pixels(exact, jpeg), whole)
    assert (pixels(ImageSpec(size=16, resize="stretch", filter="bilinear"), jpeg) != whole).any()


def test_dict_round_trip():
    spec = ImageSpec(size=48, background=(1, 2, 3), resize="crop")
    assert ImageSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(UserError, match="pad, crop, stretch"):
        ImageSpec(resize="fit")
    with pytest.raises(UserError, match="nearest, bilinear, bicubic"):
        ImageSpec(filter="cubic")
    with pytest.raises(UserError, match="shorter_side is 4: use at least the size, 8"):
        ImageSpec(size=8, resize="center_crop", shorter_side=4)


BROKEN = {
    "empty": (b"", "broken picture"),
    "text": (b"this is no picture", "broken picture"),
    "truncated": (noise(1)[:-300], "broken picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "broken picture"),
    "bomb": (bomb(), "picture too large"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pictures(name):
    data, kind = BROKEN[name]
    with pytest.raises(BadRecord) as caught:
        ImageSpec().decode(data)
    assert caught.value.kind == kind


def test_a_large_picture_is_refused_from_its_header_alone(monkeypatch):
    picture = noise(0)
    monkeypatch.setattr("mmjax.data.decode.MAX_PIXELS", 15 * 16)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BadRecord, match="announces 16x16 pixels"):
        ImageSpec().decode(picture)


def test_load_from_path_and_bytes(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(noise(3))
    spec = ImageSpec(size=8)
    loaded = spec.load(path)
    assert loaded.shape == (8, 8, 3) and loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, spec.load(noise(3)))
    np.testing.assert_array_equal(loaded, spec.load(str(path)))


def test_load_tells_the_user_which_file(tmp_path):
    with pytest.raises(UserError, match=r"missing\.png cannot be read \(No such file"):
        ImageSpec().load(tmp_path / "missing.png")
    path = tmp_path / "cut.png"
    path.write_bytes(noise(3)[:200])
    with pytest.raises(UserError, match=r"cut\.png cannot be used, broken picture"):
        ImageSpec().load(path)
    with pytest.raises(UserError, match="the picture cannot be used"):
        ImageSpec().load(io.BytesIO(b"x").getvalue())
