"""Augmentation of decoded pictures, driven by the generator that the pipeline derives for each element.

H height, W width. `Augmentation`, the default, has no flips (an arrow's direction is its meaning) and no
shifts of hue (skin tones are part of the captions). `RandAugment` is the published one, for pictures whose
captions survive it: `augment={"call": "mmjax.data.transforms.RandAugment", "flip": True}`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from mmjax.errors import UserError

Colour = tuple[int, int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random scale, rotation, shift and brightness. Scale, rotation and shift are one warp.

    Attributes:
      scale: smallest and largest size of the picture, relative to the square; drawn log-uniformly.
      shift: largest shift in each direction, as a share of the side.
      rotation: largest rotation either way, in degrees.
      brightness: largest relative change of the pixel values.
    """

    scale: tuple[float, float] = (0.8, 1.15)
    shift: float = 0.08
    rotation: float = 8.0
    brightness: float = 0.1

    def __call__(
        self, image: Image.Image, rng: np.random.Generator, *, background: tuple[int, int, int]
    ) -> np.ndarray:
        """Returns u8[H, W, 3] of the size of `image`; uncovered pixels get the background colour."""
        size, turn, right, down, bright = rng.uniform(-1.0, 1.0, 5).tolist()
        low, high = self.scale
        scale = math.sqrt(low * high) * math.sqrt(high / low) ** size
        angle = math.radians(self.rotation * turn)
        # Pillow asks where an output pixel comes from: undo the shift, then the rotation, then the scale.
        a, b = math.cos(angle) / scale, math.sin(angle) / scale
        x, y = image.width / 2, image.height / 2
        left, top = x + self.shift * right * image.width, y + self.shift * down * image.height
        warped = image.transform(
            image.size,
            Image.Transform.AFFINE,
            (a, b, x - a * left - b * top, -b, a, y + b * left - a * top),
            Image.Resampling.BILINEAR,
            fillcolor=background,
        )
        levels = np.arange(256) * (1.0 + self.brightness * bright) + 0.5
        table = np.minimum(levels, 255).astype(np.uint8).tobytes()
        # `bytes.translate` is several times cheaper than a table look-up in NumPy.
        pixels = np.frombuffer(warped.tobytes().translate(table), np.uint8)
        return pixels.reshape(image.height, image.width, 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandAugment:
    """A random crop resized back, a flip, then `operations` drawn from the published list, in random order.

    Sources: Cubuk et al. 2019 (operations and their ranges), Szegedy et al. 2014 (the crop).

    Attributes:
      area: share of the picture's area that the crop keeps, drawn uniformly.
      aspect: of the crop relative to the picture, drawn log-uniformly.
      flip: whether half of the pictures are mirrored left to right.
      operations: how many. magnitude: of each, of at most 10.
      without: names of operations to leave out, of `OPERATIONS`.
    """

    area: tuple[float, float] = (0.5, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = False
    operations: int = 2
    magnitude: float = 9.0
    without: tuple[str, ...] = ()

    def __post_init__(self):
        for name in self.without:
            if name not in OPERATIONS:
                raise UserError(f"data.augment.without has {name!r}: use names of {', '.join(OPERATIONS)}.")
        if not 0 <= self.magnitude <= 10:
            raise UserError(f"data.augment.magnitude is {self.magnitude}: use 0 to 10.")

    def __call__(self, image: Image.Image, rng: np.random.Generator, *, background: Colour) -> np.ndarray:
        """Returns u8[H, W, 3] of the size of `image`; uncovered pixels get the background colour."""
        image = image.resize(image.size, Image.Resampling.BICUBIC, box=self._crop(image.size, rng))
        if self.flip and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        known = [operation for name, operation in OPERATIONS.items() if name not in self.without]
        for number in rng.integers(len(known), size=self.operations).tolist():
            sign = 1.0 if rng.random() < 0.5 else -1.0
            image = known[number](image, self.magnitude / 10, sign, background)
        return np.asarray(image)

    def _crop(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[float, float, float, float]:
        area, aspect = rng.uniform(*self.area), math.exp(rng.uniform(*map(math.log, self.aspect)))
        shares = (min(math.sqrt(area * aspect), 1.0), min(math.sqrt(area / aspect), 1.0))
        width, height = (share * side for share, side in zip(shares, size, strict=True))
        left, top = rng.random() * (size[0] - width), rng.random() * (size[1] - height)
        return left, top, left + width, top + height


def _enhanced(kind: type) -> Callable[..., Image.Image]:
    return lambda image, m, sign, background: kind(image).enhance(1 + sign * 0.9 * m)


def _warped(coefficients: Callable[[Image.Image, float], tuple[float, ...]]) -> Callable[..., Image.Image]:
    def warp(image: Image.Image, m: float, sign: float, background: Colour) -> Image.Image:
        affine = coefficients(image, sign * m)
        return image.transform(
            image.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR, fillcolor=background
        )

    return warp


def _solarized_more(image: Image.Image, m: float, sign: float, background: Colour) -> Image.Image:
    return image.point(lambda level: min(level + int(110 * m), 255) if level < 128 else level)


# (image, magnitude 0 to 1, sign, background) -> image.
OPERATIONS: dict[str, Callable[..., Image.Image]] = {
    "autocontrast": lambda image, m, sign, background: ImageOps.autocontrast(image),
    "equalize": lambda image, m, sign, background: ImageOps.equalize(image),
    "invert": lambda image, m, sign, background: ImageOps.invert(image),
    "posterize": lambda image, m, sign, background: ImageOps.posterize(image, 8 - round(4 * m)),
    "solarize": lambda image, m, sign, background: ImageOps.solarize(image, 256 - round(256 * m)),
    "solarize_add": _solarized_more,
    "colour": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "rotate": lambda image, m, sign, background: image.rotate(
        sign * 30 * m, Image.Resampling.BILINEAR, fillcolor=background
    ),
    "shear_x": _warped(lambda image, m: (1, 0.3 * m, -0.15 * m * image.height, 0, 1, 0)),
    "shear_y": _warped(lambda image, m: (1, 0, 0, 0.3 * m, 1, -0.15 * m * image.width)),
    "translate_x": _warped(lambda image, m: (1, 0, 0.45 * m * image.width, 0, 1, 0)),
    "translate_y": _warped(lambda image, m: (1, 0, 0, 0, 1, 0.45 * m * image.height)),
}
