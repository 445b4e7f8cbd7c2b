"""From the bytes of any picture to upright RGB pixels, or to the reason why not.

Pillow reads every header, and so decides alone what a picture is, how large, how turned and in which
colours. Where a few levels of difference are allowed, the pixels of a JPEG then come from libjpeg-turbo at
the smallest of its scales that is large enough (the extra `fast-image`); anything it objects to goes back to
Pillow. So a file means the same, and fails the same, with and without the extra. What libjpeg repairs inside
the scan of a JPEG passes, as in every loader: Pillow does not pass its warnings on.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image, ImageOps

from mmjax.data.records import BadRecord

try:
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)  # the threads that call it are enough, and its own would compete with them
except ImportError:  # the extra `fast-image` is not installed
    cv2 = simplejpeg = None

# An allow list: Pillow would otherwise try formats that start other programs (EPS calls Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
# A header of a few bytes can announce a picture of many gigabytes; nothing beyond this is decoded.
MAX_PIXELS = 64 * 1024 * 1024

Size = tuple[int, int]  # width, height


_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jpeg:
    """A JPEG and what its header says.

    Attributes:
      enough: the size of an upright picture that will do.
      orientation: as EXIF numbers them.
      quick: whether libjpeg-turbo may decode it.
    """

    data: bytes
    enough: Size
    orientation: int
    quick: bool


def fast() -> bool:
    """Whether the extra `fast-image` is installed."""
    return simplejpeg is not None


def size_of(data: bytes) -> Size:
    """(width, height) of the upright picture, from its header alone.

    Raises:
      BadRecord: as `decode`.
    """
    return _reading(data, _upright_size)


def opened(data: bytes, enough: Callable[[Size], Size]) -> bytes | Jpeg:
    """Reads the header of a JPEG, and nothing of another picture: the first part of `decode_nearly`.

    Right after another header, one takes a fifth of the time that it takes right after a picture's pixels.

    Args:
      enough: given the size of the upright picture, the size that will do.

    Raises:
      BadRecord: a JPEG whose header is damaged or announces more than 64 megapixels; or what `enough` raises.
    """

    def read(image: Image.Image) -> Jpeg:
        return Jpeg(
            data=data,
            enough=enough(_upright_size(image)),
            orientation=_orientation(image),
            quick=fast() and image.format == "JPEG" and image.mode in ("RGB", "L"),  # CMYK is stored inverted
        )

    return _reading(data, read) if data.startswith(b"\xff\xd8") else data


def decode(data: bytes, *, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """Decodes the first frame of a picture: EXIF orientation applied, alpha laid over the background, RGB.

    Raises:
      BadRecord: not a picture of a known format, truncated, announcing more than 64 megapixels, or of
        integers or floats whose range nothing tells.
    """
    return _reading(data, lambda image: _exact(image, background))


def decode_nearly(
    picture: bytes | Jpeg, *, background: tuple[int, int, int] = (255, 255, 255)
) -> Image.Image | np.ndarray:
    """As `decode`, of what `opened` gave; but a JPEG may come back smaller than it is, and a few levels off.

    Returns:
      No smaller than is enough. From Pillow, an image; from libjpeg-turbo, u8[H, W, 3].
    """
    if isinstance(picture, bytes):
        return decode(picture, background=background)
    if picture.quick and (pixels := _quick(picture)) is not None:
        return pixels

    def read(image: Image.Image) -> Image.Image:
        image.draft("RGB", (2 * min(picture.enough), 2 * min(picture.enough)))
        return _exact(image, background)

    return _reading(picture.data, read)


def shrink(pixels: np.ndarray, size: Size, box: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """Resizes (a box of) what libjpeg-turbo gave downwards: u8[H, W, 3] -> u8[size[1], size[0], 3].

    Its JPEG was scaled in steps of an eighth, so that little is left to do: a bilinear resize skips no pixel
    there and costs a sixth of averaging areas, which is for the rest.
    """
    left, top, right, bottom = box or (0, 0, pixels.shape[1], pixels.shape[0])
    near = right - left <= 1.5 * size[0] and bottom - top <= 1.5 * size[1]
    method = cv2.INTER_LINEAR if near else cv2.INTER_AREA
    return cv2.resize(pixels[top:bottom, left:right], size, interpolation=method)


def _reading(data: bytes, read: Callable[[Image.Image], object]):
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadRecord("", "picture too large", _announces(image.size))
            return read(image)
    except BadRecord:
        raise
    except Image.DecompressionBombError as error:
        raise BadRecord("", "picture too large", str(error).rstrip(".")) from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
        raise BadRecord("", "broken picture", _told(error)) from error


def _quick(jpeg: Jpeg) -> np.ndarray | None:
    """The upright pixels from libjpeg-turbo at the smallest scale that is enough; None where it cannot."""
    width, height = jpeg.enough[::-1] if jpeg.orientation in _TURNED else jpeg.enough
    try:
        pixels = simplejpeg.decode_jpeg(
            jpeg.data, "RGB", min_width=width, min_height=height, fastdct=True, fastupsample=True
        )
    except ValueError:  # also for what can be recovered from: Pillow decides
        return None
    if jpeg.orientation not in _UPRIGHT:
        return pixels
    return np.asarray(Image.fromarray(pixels).transpose(_UPRIGHT[jpeg.orientation]))


def _exact(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    image.load()
    return _flattened(ImageOps.exif_transpose(image), background)


def _flattened(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow clips these at 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadRecord("", "unknown pixel range", f"its pixels are {image.mode}: 32-bit numbers of any size")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    flat = Image.new("RGB", image.size, background)
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def _upright_size(image: Image.Image) -> Size:
    return image.size[::-1] if _orientation(image) in _TURNED else image.size


def _announces(size: Size) -> str:
    return f"it announces {size[0]}x{size[1]} pixels, more than {MAX_PIXELS >> 20} megapixels"


def _told(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):  # whose own text is the address of a buffer
        return "not a picture in a known format"
    return str(error).rstrip(".") or type(error).__name__
