"""Pictures as the web has them: broken in every way a decoder knows, and odd but sound."""

import struct
import zlib

import numpy as np
from pictures import bomb, encoded, noise
from PIL import Image, PngImagePlugin

RED, WHITE = (255, 0, 0), (255, 255, 255)


def smooth(width: int = 48, height: int = 32) -> Image.Image:
    """Red above white: where its red is tells how it was turned."""
    image = Image.new("RGB", (width, height), WHITE)
    image.paste(RED, (0, 0, width, height // 2))
    return image


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


def jpeg(**options) -> bytes:
    return encoded(smooth(), "JPEG", quality=95, subsampling=0, **options)


def turned(orientation: int) -> bytes:
    """A picture that is red above white once its EXIF orientation is applied."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = smooth(32, 32) if orientation not in back else smooth(32, 32).transpose(back[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, "JPEG", quality=95, subsampling=0, exif=exif)


def without_marker(data: bytes, marker: bytes) -> bytes:
    """A JPEG without its segments of this marker."""
    at = data.index(marker)
    while at >= 0:
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        data = data[:at] + data[at + 2 + length :]
        at = data.find(marker)
    return data


def announcing(data: bytes, height: int, width: int) -> bytes:
    """A JPEG whose frame header announces another size."""
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def animated(format: str) -> bytes:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ((0, 0, 255), (0, 255, 0))]
    return encoded(smooth(32, 32), format, save_all=True, append_images=frames, duration=50)


def huffman_overflow() -> bytes:
    """A JPEG whose Huffman table has more codes than its lengths allow."""
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc4")
    data[at + 5] = 255
    return bytes(data)


BROKEN = {
    "zero bytes": (b"", "broken picture"),
    "one byte": (b"\xff", "broken picture"),
    "text": (b"this is no picture", "broken picture"),
    "html error page": (b"<html><body>404 Not Found</body></html>" * 20, "broken picture"),
    "zeros": (bytes(4096), "broken picture"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "broken picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "broken picture"),
    "pdf": (b"%PDF-1.4\n1 0 obj <<>> endobj\ntrailer <<>>\n%%EOF", "broken picture"),
    "zip": (b"PK\x03\x04" + bytes(64), "broken picture"),
    "netpbm, a format not on the list": (b"P6 2 2 255\n" + bytes(12), "broken picture"),
    "png cut in its header": (noise(0)[:20], "broken picture"),
    "png cut in its pixels": (noise(0)[:-300], "broken picture"),
    "png with a wrong checksum in its header": (noise(0)[:30] + b"\0\0" + noise(0)[32:], "broken picture"),
    "png without pixels": (png(8, 8, chunk(b"IEND", b"")), "broken picture"),
    "png with broken zlib": (png(8, 8, chunk(b"IDAT", b"\x78\x9c" + b"\xff" * 40)), "broken picture"),
    "png with too few pixels": (png(64, 64, chunk(b"IDAT", zlib.compress(bytes(99)))), "broken picture"),
    "png of zero width": (png(0, 8, chunk(b"IDAT", zlib.compress(b""))), "broken picture"),
    "png bomb": (bomb(), "picture too large"),
    "png of huge height": (png(1, 2**31 - 1, chunk(b"IDAT", b"")), "picture too large"),
    "wide strip": (encoded(np.zeros((1, 20_000, 3))), "extreme aspect ratio"),
    "jpeg magic alone": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "broken picture"),
    "jpeg cut in half": (
        encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3)), "JPEG")[:2000],
        "broken picture",
    ),
    "jpeg cut before its scan": (jpeg()[:300], "broken picture"),
    "jpeg with too many Huffman codes": (huffman_overflow(), "broken picture"),
    "jpeg without quantisation": (without_marker(jpeg(), b"\xff\xdb"), "broken picture"),
    "jpeg of huge dimensions": (announcing(jpeg(), 65_000, 65_000), "picture too large"),
    "jpeg of zero width": (announcing(jpeg(), 32, 0), "broken picture"),
    "jpeg with a png's end": (jpeg()[:200] + noise(0)[50:], "broken picture"),
    "gif cut": (animated("GIF")[:40], "broken picture"),
    "webp cut": (encoded(smooth(), "WEBP", lossless=True)[:30], "broken picture"),
    "bmp cut": (encoded(smooth(), "BMP")[:100], "broken picture"),
    "tiff cut": (encoded(smooth(), "TIFF")[:200], "broken picture"),
    "tiff of floats": (encoded(Image.new("F", (8, 8), 0.5), "TIFF"), "unknown pixel range"),
    "tiff of 32-bit integers": (encoded(Image.new("I", (8, 8), 70_000), "TIFF"), "unknown pixel range"),
}

_text = PngImagePlugin.PngInfo()
_text.add_text("Comment", "x" * 500)
_exif = Image.Exif()
_exif[0x0112] = 99

# All of these show red above white.
SOUND = {
    **{f"exif orientation {number}": turned(number) for number in range(1, 9)},
    "exif orientation out of range": jpeg(exif=_exif),
    "progressive jpeg": jpeg(progressive=True),
    "jpeg with restart markers": jpeg(restart_marker_blocks=2),
    "jpeg with rubbish after its end": jpeg() + b"rubbish" * 50,
    "jpeg with a bad colour profile": jpeg(icc_profile=b"no profile" * 30),
    "cmyk jpeg": encoded(smooth().convert("CMYK"), "JPEG", quality=95),
    "cmyk tiff": encoded(smooth().convert("CMYK"), "TIFF"),
    "mpo of two pictures": encoded(
        smooth(), "MPO", save_all=True, append_images=[Image.new("RGB", (48, 32))], quality=95, subsampling=0
    ),
    "png with a palette": encoded(smooth().convert("P", palette=Image.Palette.ADAPTIVE)),
    "png with transparency": encoded(smooth().convert("RGBA")),
    "png with text": encoded(smooth(), pnginfo=_text),
    "png with a bad colour profile": encoded(smooth(), icc_profile=b"no profile"),
    "animated gif": animated("GIF"),
    "animated webp": animated("WEBP"),
    "animated png": animated("PNG"),
    "lossless webp": encoded(smooth(), "WEBP", lossless=True),
    "compressed tiff": encoded(smooth(), "TIFF", compression="tiff_lzw"),
}
