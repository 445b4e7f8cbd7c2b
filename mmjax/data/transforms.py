"""Augmentation of decoded pictures, driven by the generator that the pipeline derives for each element.

H height, W width. There are no flips (an arrow's direction is its meaning) and no shifts of hue (skin tones
are part of the captions).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from PIL import Image


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
