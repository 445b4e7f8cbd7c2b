"""From the bytes of any picture to the fixed-size RGB array a model was trained on.

H height, W width. The `ImageSpec` is saved with every checkpoint: preprocessing that differs between
training and use is the commonest reason why published numbers cannot be reproduced.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mmjax.data.decode import (
    FORMATS,
    MAX_PIXELS,
    Jpeg,
    Size,
    decode,
    decode_nearly,
    fast,
    opened,
    shrink,
)
from mmjax.data.records import BadRecord
from mmjax.errors import UserError

RESIZES = ("pad", "crop", "stretch", "center_crop")
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """How a picture becomes `u8[size, size, 3]`.

    Attributes:
      size: side of the square in pixels.
      background: RGB behind transparent pixels, around padded pictures and around augmented ones.
      resize: "pad" keeps all of the picture, "crop" fills the square from its centre, "stretch" distorts it
        (SigLIP), "center_crop" resizes the shorter side and then cuts out the centre (CLIP).
      shorter_side: what "center_crop" resizes the shorter side to; 0 for `size`.
      filter: of the resize.
      draft: let the JPEG decoder scale large pictures down while it decodes: several times faster, and a few
        levels off a published model's preprocessing.
    """

    size: int = 64
    background: tuple[int, int, int] = (255, 255, 255)
    resize: str = "pad"
    shorter_side: int = 0
    filter: str = "bicubic"
    draft: bool = True

    def __post_init__(self):
        for what, value, known in (("resize", self.resize, RESIZES), ("filter", self.filter, FILTERS)):
            if value not in known:
                raise UserError(f"image {what} is {value!r}: use one of {', '.join(known)}.")
        if self.size < 1:
            raise UserError(f"image size is {self.size}: use a positive number of pixels.")
        if 0 < self.shorter_side < self.size:
            raise UserError(f"image shorter_side is {self.shorter_side}: use at least the size, {self.size}.")
        object.__setattr__(self, "background", tuple(self.background))

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return dataclasses.asdict(self) | {"background": list(self.background)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ImageSpec:
        """The inverse of `to_dict`."""
        return cls(**fields)

    def open(self, data: bytes) -> bytes | Jpeg:
        """What `decode` and `pixels` take as well: a JPEG already opened, where that saves time.

        Raises:
          BadRecord: as `mmjax.data.decode.opened`; or so narrow that a side would vanish or explode.
        """
        return opened(data, self._whole) if self.draft and fast() else data

    def decode(self, picture: bytes | Jpeg) -> Image.Image:
        """Decodes a picture: EXIF orientation applied, alpha laid over the background, resized, RGB.

        Raises:
          BadRecord: as `mmjax.data.decode.decode`; or so narrow that a side would vanish or explode.
        """
        prepared = self._prepared(picture)
        return Image.fromarray(prepared) if isinstance(prepared, np.ndarray) else prepared

    def pixels(self, picture: bytes | Jpeg) -> np.ndarray:
        """`decode` as u8[size, size, 3]."""
        return np.asarray(self._prepared(picture))

    def _prepared(self, picture: bytes | Jpeg) -> Image.Image | np.ndarray:
        if not self.draft:
            return self._resized(decode(picture, background=self.background))
        if isinstance(picture, bytes):
            picture = opened(picture, self._whole)
        decoded = decode_nearly(picture, background=self.background)
        return self._shrunk(decoded) if isinstance(decoded, np.ndarray) else self._resized(decoded)

    def load(self, source: str | os.PathLike | bytes) -> np.ndarray:
        """Reads one picture given by its path or its bytes, for a person who named it.

        Returns:
          u8[size, size, 3].

        Raises:
          UserError: the file is missing, unreadable, not a picture, truncated or too large.
        """
        name = "the picture" if isinstance(source, bytes) else f"picture {os.fspath(source)}"
        try:
            if not isinstance(source, bytes):
                with open(source, "rb") as file:
                    source = file.read()
            return np.array(self.pixels(source))
        except OSError as error:
            raise UserError(f"{name} cannot be read ({error.strerror or error}): check the path.") from error
        except BadRecord as bad:
            raise UserError(
                f"{name} cannot be used, {bad.kind} ({bad.message}): give a complete picture in one of "
                f"{', '.join(FORMATS)}."
            ) from bad

    def _whole(self, size: Size) -> Size:
        """What the whole of a picture of `size` is resized to, before anything is cut off or added.

        Rounds as transformers' CLIPImageProcessor does: the longer side downwards. OpenAI's own preprocessing
        rounds an odd margin's half to the even number, which moves the cut by one pixel for every fourth
        size; files in the Hugging Face layout mean the former.
        """
        side = self.size
        if self.resize == "pad":  # as ImageOps.contain
            longer = max(size)
            whole = tuple(side if length == longer else round(length / longer * side) for length in size)
        elif self.resize == "stretch":
            whole = (side, side)
        else:
            shorter, target = min(size), self.shorter_side or side
            target = side if self.resize == "crop" else target
            whole = tuple(target if length == shorter else target * length // shorter for length in size)
        if not min(whole) or whole[0] * whole[1] > MAX_PIXELS:
            message = f"{size[0]}x{size[1]} pixels would become {whole[0]}x{whole[1]}"
            raise BadRecord("", "extreme aspect ratio", message)
        return whole

    def _resized(self, image: Image.Image) -> Image.Image:
        square, whole = (self.size, self.size), self._whole(image.size)
        if self.resize == "center_crop":
            image = image if image.size == whole else image.resize(whole, FILTERS[self.filter])
            return image.crop(_centre(whole, square))
        if image.size == square:
            return image
        if self.resize == "pad":
            canvas = Image.new("RGB", square, self.background)
            canvas.paste(image.resize(whole, FILTERS[self.filter]), self._corner(whole))
            return canvas
        if self.resize == "crop":
            return ImageOps.fit(image, square, FILTERS[self.filter])
        return image.resize(square, FILTERS[self.filter])

    def _shrunk(self, pixels: np.ndarray) -> np.ndarray:
        """As `_resized`, of what is approximate anyway: what is cut off is not resized first."""
        size = pixels.shape[1::-1]
        if self.resize == "pad":
            whole = self._whole(size)
            (left, top), canvas = self._corner(whole), np.empty((self.size, self.size, 3), np.uint8)
            canvas[:] = self.background
            canvas[top : top + whole[1], left : left + whole[0]] = shrink(pixels, whole)
            return canvas
        box = (0, 0, *size)
        if self.resize != "stretch":
            target = self.size if self.resize == "crop" else self.shorter_side or self.size
            side = max(min(size) * self.size // target, 1)
            box = _centre(size, (side, side))
        return shrink(pixels, (self.size, self.size), box)

    def _corner(self, whole: Size) -> tuple[int, int]:
        return tuple(round((self.size - side) * 0.5) for side in whole)


def _centre(size: Size, inner: Size) -> tuple[int, int, int, int]:
    left, top = ((outer - side) // 2 for outer, side in zip(size, inner, strict=True))
    return left, top, left + inner[0], top + inner[1]
