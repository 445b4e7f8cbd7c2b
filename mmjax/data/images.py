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

    def decode(self, data: bytes) -> Image.Image:
        """Decodes a picture: EXIF orientation applied, alpha laid over the background, resized, RGB.

        Raises:
          BadRecord: not a picture of a known format, truncated, or announcing more than 64 megapixels.
        """
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadRecord("", "picture too large", _announces(image.size))
                if image.format == "JPEG" and self.draft:  # decode no more than the resize needs
                    side = 2 * max(self.size, self.shorter_side)
                    image.draft("RGB", (side, side))
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
        size, method = (self.size, self.size), FILTERS[self.filter]
        if self.resize == "center_crop":
            return self._centre(image, method)
        if image.size == size:
            return image
        if self.resize == "pad":
            return ImageOps.pad(image, size, method, color=self.background)
        if self.resize == "crop":
            return ImageOps.fit(image, size, method)
        return image.resize(size, method)

    def _centre(self, image: Image.Image, method: Image.Resampling) -> Image.Image:
        """Rounds as transformers' CLIPImageProcessor does: the longer side and the margins downwards.

        OpenAI's own preprocessing rounds an odd margin's half to the even number, which moves the cut by one
        pixel for every fourth size; files in the Hugging Face layout mean the former.
        """
        shorter, target = min(image.size), self.shorter_side or self.size
        width, height = (target if side == shorter else target * side // shorter for side in image.size)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        if image.size != (width, height):
            image = image.resize((width, height), method)
        return image.crop((left, top, left + self.size, top + self.size))


def _announces(size: tuple[int, int]) -> str:
    return f"it announces {size[0]}x{size[1]} pixels, more than {MAX_PIXELS >> 20} megapixels"


def _told(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):  # whose own text is the address of a buffer
        return "not a picture in a known format"
    return str(error).rstrip(".") or type(error).__name__
