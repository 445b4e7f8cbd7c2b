import numpy as np
import pytest
from PIL import Image

from mmjax.data.transforms import OPERATIONS, Augmentation, RandAugment
from mmjax.errors import UserError

BACKGROUND = (0, 0, 255)
NONE = {"scale": (1.0, 1.0), "shift": 0.0, "rotation": 0.0, "brightness": 0.0}


class Draws:
    """A generator whose draws are known: scale, rotation, shift right, shift down, brightness in [-1, 1]."""

    def __init__(self, *values):
        self.values = np.array(values, float)

    def uniform(self, low, high, count):
        assert (low, high, count) == (-1.0, 1.0, len(self.values))
        return self.values


@pytest.fixture
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    return Image.fromarray(pixels)


def augment(image, draws, **settings):
    return Augmentation(**{**NONE, **settings})(image, draws, background=BACKGROUND)


def test_nothing_drawn_changes_nothing(image):
    np.testing.assert_array_equal(augment(image, Draws(1, 1, 1, 1, 1)), np.asarray(image))


def test_shift_goes_right_and_down_over_the_background(image):
    moved = augment(image, Draws(0, 0, 1, -1, 0), shift=0.25)
    np.testing.assert_array_equal(moved[:12, 4:], np.asarray(image)[4:, :12])
    assert (moved[12:] == BACKGROUND).all() and (moved[:, :4] == BACKGROUND).all()


def test_scale_shrinks_about_the_centre():
    white = Image.new("RGB", (16, 16), (255, 255, 255))
    small = augment(white, Draws(-1, 0, 0, 0, 0), scale=(0.5, 2.0))
    inside = (small == 255).all(-1)
    assert inside[4:12, 4:12].all() and inside.sum() == 64
    assert (augment(white, Draws(1, 0, 0, 0, 0), scale=(0.5, 2.0)) == 255).all()


def test_rotation_turns_by_the_angle(image):
    turned = augment(image, Draws(0, 1, 0, 0, 0), rotation=90.0)
    expected = np.rot90(np.asarray(image), -1)  # clockwise
    np.testing.assert_allclose(turned.astype(int), expected, atol=1)  # Pillow truncates


def test_brightness_scales_and_clips():
    grey = Image.new("RGB", (4, 4), (100, 200, 250))
    assert augment(grey, Draws(0, 0, 0, 0, 1), brightness=0.1)[0, 0].tolist() == [110, 220, 255]
    assert augment(grey, Draws(0, 0, 0, 0, -1), brightness=0.1)[0, 0].tolist() == [90, 180, 225]


def test_same_generator_same_pixels_and_others_differ(image):
    def draw(seed):
        return Augmentation()(image, np.random.default_rng(seed), background=BACKGROUND)

    np.testing.assert_array_equal(draw(0), draw(0))
    assert (draw(0) != draw(1)).any()
    assert draw(0).shape == (16, 16, 3) and draw(0).dtype == np.uint8


STILL = {"area": (1.0, 1.0), "aspect": (1.0, 1.0), "operations": 0}


def rand_augment(image, seed=0, **settings):
    return RandAugment(**settings)(image, np.random.default_rng(seed), background=BACKGROUND)


def test_rand_augment_without_anything_is_the_picture(image):
    np.testing.assert_array_equal(rand_augment(image, **STILL), np.asarray(image))


def test_half_of_the_pictures_are_mirrored_where_asked(image):
    mirrored = [
        (rand_augment(image, seed, **STILL, flip=True) == np.asarray(image)[:, ::-1]).all()
        for seed in range(60)
    ]
    assert 15 < sum(mirrored) < 45


def test_the_crop_keeps_its_share_of_the_area(image):
    for seed in range(50):
        settings = RandAugment(area=(0.25, 0.5))
        left, top, right, bottom = settings._crop((100, 60), np.random.default_rng(seed))
        assert 0 <= left < right <= 100 and 0 <= top < bottom <= 60
        assert 0.2 <= (right - left) * (bottom - top) / 6000 <= 0.5 + 1e-9


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_every_operation_changes_the_picture_and_nothing_of_its_form(image, name, sign):
    low = image.point(lambda level: 40 + level // 2)  # so that there is contrast to stretch
    out = OPERATIONS[name](low, 0.9, sign, BACKGROUND)
    assert out.size == low.size and out.mode == "RGB"
    assert (np.asarray(out) != np.asarray(low)).any()


@pytest.mark.parametrize(
    "name", ["posterize", "solarize", "solarize_add", "rotate", "shear_x", "translate_y", "colour"]
)
def test_no_magnitude_no_change(image, name):
    np.testing.assert_array_equal(
        np.asarray(OPERATIONS[name](image, 0.0, 1.0, BACKGROUND)), np.asarray(image)
    )


def test_rand_augment_is_a_function_of_its_generator_and_draws_operations(image):
    same, again, other = (rand_augment(image, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(same, again)
    assert (same != other).any() and same.shape == (16, 16, 3) and same.dtype == np.uint8
    none = rand_augment(image, **STILL | {"operations": 2}, without=tuple(OPERATIONS)[1:], magnitude=0)
    assert none.shape == (16, 16, 3)
    with pytest.raises(UserError, match=r"data\.augment\.without has 'hue'"):
        RandAugment(without=("hue",))
    with pytest.raises(UserError, match="magnitude is 11"):
        RandAugment(magnitude=11)
