"""No picture crashes a run and none is lost in silence, with and without the extra `fast-image`."""

import itertools

import numpy as np
import pytest
from malformed import BROKEN, SOUND, jpeg, smooth
from pictures import encoded, noise, records
from PIL import Image, ImageFile

from mmjax.data import decode
from mmjax.data.images import ImageSpec
from mmjax.data.pipeline import DataConfig, Pipeline
from mmjax.data.records import BadRecord, Record
from mmjax.data.tokenizer import Tokenizer
from mmjax.data.worlds.world import write
from mmjax.errors import UserError


@pytest.fixture(params=["fast", "pillow", "exact"])
def spec(request, monkeypatch):
    """Each way to decode."""
    if request.param == "fast" and not decode.fast():
        pytest.skip("the extra fast-image is not installed")
    if request.param == "pillow":
        monkeypatch.setattr(decode, "simplejpeg", None)
    return ImageSpec(size=16, resize="stretch", draft=request.param != "exact")


def test_there_are_fifty_kinds():
    assert len(BROKEN) >= 25 and len(BROKEN) + len(SOUND) >= 50


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_is_refused_by_kind(name, spec):
    data, kind = BROKEN[name]
    if kind == "extreme aspect ratio":
        spec = ImageSpec(size=16, draft=spec.draft)  # "pad", whose whole picture would be 0 pixels high
    with pytest.raises(BadRecord) as caught:
        spec.decode(data)
    assert caught.value.kind == kind and caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize("name", SOUND)
def test_an_odd_picture_is_decoded_rightly(name, spec):
    pixels = np.asarray(spec.decode(SOUND[name])).astype(int)
    np.testing.assert_allclose(pixels[:7], np.broadcast_to((255, 0, 0), (7, 16, 3)), atol=12)
    np.testing.assert_allclose(pixels[9:], 255, atol=12)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_pictures_without_colour(mode, spec):
    format = "JPEG" if mode == "L" else "PNG"
    image = Image.linear_gradient("L").resize((32, 32)).convert(mode)
    pixels = np.asarray(spec.decode(encoded(image, format))).astype(int)
    assert (pixels == pixels[..., :1]).all()
    assert pixels[:4].mean() < 60 and pixels[-4:].mean() > 190


def test_sixteen_bits_are_scaled_not_clipped(spec):
    deep = Image.fromarray((np.linspace(0, 65_535, 32 * 32).reshape(32, 32)).astype(np.uint16))
    pixels = np.asarray(spec.decode(encoded(deep)))
    np.testing.assert_allclose(pixels[::15, 8, 0], (0, 255), atol=12)


@pytest.mark.parametrize("resize", ["pad", "crop", "stretch", "center_crop"])
def test_the_fast_path_is_close_to_the_exact_one(resize):
    if not decode.fast():
        pytest.skip("the extra fast-image is not installed")
    ramp = Image.linear_gradient("L").resize((300, 200))
    picture = Image.merge("RGB", (ramp, ramp.rotate(180), ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    data = encoded(picture, "JPEG", quality=95)
    quick, exact = (
        np.asarray(ImageSpec(size=32, resize=resize, draft=draft).decode(data)).astype(int)
        for draft in (True, False)
    )
    assert quick.shape == exact.shape == (32, 32, 3)
    assert np.abs(quick - exact).mean() < 3 and (quick != exact).any()


@pytest.mark.skipif(not decode.fast(), reason="the extra fast-image is not installed")
def test_the_fast_path_is_taken_for_jpeg_alone_and_only_where_it_may_be(monkeypatch):
    calls = []
    real = decode.simplejpeg.decode_jpeg
    monkeypatch.setattr(decode.simplejpeg, "decode_jpeg", lambda *a, **k: calls.append(k) or real(*a, **k))
    big = encoded(smooth(640, 480), "JPEG")
    ImageSpec(size=64).decode(big)
    assert calls == [{"min_width": 64, "min_height": 48, "fastdct": True, "fastupsample": True}]
    ImageSpec(size=64, draft=False).decode(big)
    ImageSpec(size=64).decode(noise(0, 64))
    ImageSpec(size=64).decode(SOUND["cmyk jpeg"])
    assert len(calls) == 1


def test_a_strip_that_would_explode_is_refused(spec):
    strip = encoded(np.zeros((1, 30_000, 3)))
    with pytest.raises(BadRecord, match="extreme aspect ratio"):
        ImageSpec(size=64, resize="center_crop", draft=spec.draft).decode(strip)


def test_a_size_is_read_from_the_header_alone(monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, on_its_side = jpeg(), jpeg(exif=exif)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert decode.size_of(plain) == (48, 32)
    assert decode.size_of(on_its_side) == (32, 48)
    with pytest.raises(BadRecord):
        decode.size_of(b"")


@pytest.mark.parametrize("name", SOUND)
def test_an_opened_picture_is_decoded_as_its_bytes_are(name, spec):
    np.testing.assert_array_equal(spec.pixels(spec.open(SOUND[name])), spec.pixels(SOUND[name]))


@pytest.mark.skipif(not decode.fast(), reason="the extra fast-image is not installed")
def test_the_header_of_an_opened_picture_is_not_read_again(monkeypatch):
    spec = ImageSpec(size=64)
    opened = spec.open(encoded(smooth(640, 480), "JPEG"))
    monkeypatch.setattr(Image, "open", lambda *a, **k: pytest.fail("read again"))
    assert spec.pixels(opened).shape == (64, 64, 3)


def test_a_run_counts_every_kind_and_goes_on(tmp_path):
    bad = [Record(id=name, image=data, caption="a thing") for name, (data, _) in BROKEN.items()]
    source = write(tmp_path / "world", {"train": [*records(10), *bad]}, {}).directory
    config = DataConfig(source=source, image_size=16, text_length=12, max_bad_share=0.8, threads=2)
    pipeline = Pipeline(config, Tokenizer.train(["thing"], 300))
    iterator = pipeline.train(11, 0)
    batches = list(itertools.islice(iterator, 8))
    iterator.close()
    assert {int(index) for batch in batches for index in batch["index"]} == set(range(10))
    kinds = [kind for _, kind in BROKEN.values()]
    assert pipeline.problem_counts() == {kind: kinds.count(kind) for kind in set(kinds)}
    assert {id for id, _, _ in pipeline.problems} == set(BROKEN)
    strict = Pipeline(DataConfig(source=source, image_size=16, text_length=12), pipeline.tokenizer)
    with pytest.raises(UserError, match=r"data\.max_bad_share=0\.01"):
        list(strict.evaluate(8))
