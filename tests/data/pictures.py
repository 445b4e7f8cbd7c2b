"""Pictures and worlds made to order."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from mmjax.data.records import Record


def encoded(pixels, format="PNG", **options) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels, np.uint8))
    image.save(file, format, **options)
    return file.getvalue()


def noise(seed: int, size: int = 16) -> bytes:
    return encoded(np.random.default_rng(seed).integers(0, 256, (size, size, 3)))


def bomb() -> bytes:
    """A PNG of a few bytes that announces 100000 x 100000 pixels."""
    picture = bytearray(noise(0))
    picture[16:24] = struct.pack(">II", 100_000, 100_000)
    picture[29:33] = struct.pack(">I", zlib.crc32(picture[12:29]))
    return bytes(picture)


def records(count: int) -> list[Record]:
    return [Record(id=f"r{i}", image=noise(i), caption=f"thing {i}") for i in range(count)]


class RawRecord:
    """Stands for a record in `world.write` but encodes to any bytes at all."""

    def __init__(self, data: bytes):
        self._data = data

    def encode(self) -> bytes:
        return self._data
