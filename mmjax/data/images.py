"""From the bytes of any picture to the fixed-size RGB array a model was trained on.

H height, W width. The `ImageSpec` is saved with every checkpoint: preprocessing that differs between
training and use is the commonest reason why published numbers cannot be reproduced.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mmjax.data.records import BadRecord
from mmjax.errors import UserError

# An allow list: Pillow would otherwise try formats that start other programs (EPS calls Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
# A header of a few bytes can announce a picture of many gigabytes; nothing beyond this is decoded.
MAX_PIXELS = 64 * 1024 * 1024
RESIZES = ("pad", "crop", "stretch")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """How a picture becomes `u8[size, size, 3]`.

    Attributes:
      size: side of the square in pixels.
      background: RGB behind transparent pixels, around padded pictures and around augmented ones.
      resize: "pad" keeps all of the picture, "crop" fills the square from its centre, "stretch" distorts it.
    """

    size: int = 64
    background: tuple[int, int, int] = (255, 255, 255)
    resize: str = "pad"

    def __post_init__(self):
        if self.resize not in RESIZES:
            raise UserError(f"image resize is {self.resize!r}: use one of {', '.join(RESIZES)}.")
        if self.size < 1:
            raise UserError(f"image size is {self.size}: use a positive number of pixels.")
        object.__setattr__(self, "background", tuple(self.background))

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return {"size": self.size, "background": list(self.background), "resize": self.resize}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ImageSpec:
        """The inverse of `to_dict`."""
        return cls(**fields)

    def decode(self, data: bytes) -> Image.Image:
        """Decodes a picture: EXIF orientation applied, alpha laid over the background, resized, RGB.

        Raises:
          BadRecord: not a picture of a known format, truncated, or announcing more than 64 megapixels.
        """
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadRecord("", "picture too large", _announces(image.size))
                if image.format == "JPEG":  # decode no more than the resize needs
                    image.draft("RGB", (2 * self.size, 2 * self.size))
                image.load()
                return self._resized(self._flattened(ImageOps.exif_transpose(image)))
        except BadRecord:
            raise
        except Image.DecompressionBombError as error:
            raise BadRecord("", "picture too large", str(error).rstrip(".")) from error
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
            raise BadRecord("", "broken picture", _told(error)) from error

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
            return np.array(self.decode(source))
        except OSError as error:
            raise UserError(f"{name} cannot be read ({error.strerror or error}): check the path.") from error
        except BadRecord as bad:
            raise UserError(
                f"{name} cannot be used, {bad.kind} ({bad.message}): give a complete picture in one of "
                f"{', '.join(FORMATS)}."
            ) from bad

    def _flattened(self, image: Image.Image) -> Image.Image:
        if image.mode.startswith("I;16"):  # Pillow clips these at 255 instead of scaling
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if not image.has_transparency_data:
            return image.convert("RGB")
        image = image.convert("RGBA")
        flat = Image.new("RGB", image.size, self.background)
        flat.paste(image, mask=image.getchannel("A"))
        return flat

    def _resized(self, image: Image.Image) -> Image.Image:
        size, method = (self.size, self.size), Image.Resampling.BICUBIC
        if image.size == size:
            return image
        if self.resize == "pad":
            return ImageOps.pad(image, size, method, color=self.background)
        if self.resize == "crop":
            return ImageOps.fit(image, size, method)
        return image.resize(size, method)


def _announces(size: tuple[int, int]) -> str:
    return f"it announces {size[0]}x{size[1]} pixels, more than {MAX_PIXELS >> 20} megapixels"


def _told(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):  # whose own text is the address of a buffer
        return "not a picture in a known format"
    return str(error).rstrip(".") or type(error).__name__
