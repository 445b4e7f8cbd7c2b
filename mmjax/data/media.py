"""How the pictures of a row are prepared and laid into its arrays: squares, patches or tiles.

M pictures of a row, H height, W width, N patches of a picture, P side of a patch, T tiles of a picture, S
side of a tile, L tokens. Each class says which arrays it fills and how many tokens a picture takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data.decode import Jpeg, decode
from mmjax.data.images import ImageSpec
from mmjax.data.layouts import one_slot
from mmjax.data.tiling import PatchSpec, Tiles

Batch = dict[str, np.ndarray]
Augment = Callable[..., np.ndarray]  # of `mmjax.data.transforms`


def _as_it_is(data: bytes) -> bytes:
    return data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Squares:
    """image u8[M, H, W, 3], image_valid bool[M]."""

    spec: ImageSpec
    images: int
    augment: Augment | None = None
    slots_per_image: int = 1

    @property
    def bytes(self) -> int:
        """Memory of a decoded picture; Pillow holds RGB as 4 bytes."""
        return 4 * self.spec.size**2

    def slots(self, data: bytes) -> int:
        return self.slots_per_image

    def blank(self, *shape: int) -> Batch:
        side = self.spec.size
        return {
            "image": np.zeros((*shape, self.images, side, side, 3), np.uint8),
            "image_valid": np.zeros((*shape, self.images), bool),
        }

    def open(self, data: bytes) -> bytes | Jpeg:
        return self.spec.open(data)

    def decode(self, picture: bytes | Jpeg) -> Image.Image | np.ndarray:
        return self.spec.pixels(picture) if self.augment is None else self.spec.decode(picture)

    def fill(self, row: Batch, pictures: Sequence[Any], rng: np.random.Generator | None) -> None:
        for m, picture in enumerate(pictures):
            row["image"][m] = _pixels(picture, self.augment, rng, self.spec.background)
            row["image_valid"][m] = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patches:
    """patches u8[M, N, P * P * 3], patch_positions i32[M, N, 2] (row, column), patch_valid bool[M, N] and
    image_valid bool[M]."""

    spec: PatchSpec
    images: int
    augment: Augment | None = None
    slots_per_image: int = 1

    open = staticmethod(_as_it_is)

    @property
    def bytes(self) -> int:
        return 4 * self.spec.patches * self.spec.patch**2

    def slots(self, data: bytes) -> int:
        return self.slots_per_image

    def blank(self, *shape: int) -> Batch:
        patches = (*shape, self.images, self.spec.patches)
        return {
            "patches": np.zeros((*patches, 3 * self.spec.patch**2), np.uint8),
            "patch_positions": np.zeros((*patches, 2), np.int32),
            "patch_valid": np.zeros(patches, bool),
            "image_valid": np.zeros((*shape, self.images), bool),
        }

    def decode(self, data: bytes) -> Image.Image:
        return self.spec.decode(data)

    def fill(self, row: Batch, pictures: Sequence[Any], rng: np.random.Generator | None) -> None:
        for m, picture in enumerate(pictures):
            pixels = _pixels(picture, self.augment, rng, self.spec.background)
            patches, places = self.spec.cut(pixels)
            row["patches"][m, : len(patches)] = patches
            row["patch_positions"][m, : len(patches)] = places
            row["patch_valid"][m, : len(patches)] = row["image_valid"][m] = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class TiledPictures:
    """image u8[M * T, S, S, 3], image_valid bool[M * T], tile_grid i32[M, 2] (rows, columns; 0: no picture).

    And where the features go: slots i32[M * n], positions in the row (L: dropped), and slot_sources
    i32[M * n], which of the (T * F + 1) features of its picture each takes (`Tiles.sources`).
    """

    spec: Tiles
    images: int
    length: int
    marker: int

    open = staticmethod(_as_it_is)

    @property
    def bytes(self) -> int:
        return self.spec.most * 3 * self.spec.size**2

    def slots(self, data: bytes) -> int:
        return self.spec.slots(data)

    def blank(self, *shape: int) -> Batch:
        tiles, side, slots = self.images * self.spec.most, self.spec.size, self.images * self.spec.most_slots
        return {
            "image": np.zeros((*shape, tiles, side, side, 3), np.uint8),
            "image_valid": np.zeros((*shape, tiles), bool),
            "tile_grid": np.zeros((*shape, self.images, 2), np.int32),
            "slots": np.full((*shape, slots), self.length, np.int32),
            "slot_sources": np.zeros((*shape, slots), np.int32),
        }

    def decode(self, data: bytes) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
        """(grid, sources, tiles) of a picture."""
        image = decode(data, background=self.spec.background)
        return self.spec.plan(image.size).grid, self.spec.sources(image.size), self.spec.cut(image)

    def fill(self, row: Batch, pictures: Sequence[Any], rng: np.random.Generator | None) -> None:
        positions = np.flatnonzero(row["tokens"] == self.marker)
        taken = 0
        for m, (grid, sources, tiles) in enumerate(pictures):
            first, slot = m * self.spec.most, m * self.spec.most_slots
            row["image"][first : first + len(tiles)] = tiles
            row["image_valid"][first : first + len(tiles)] = True
            row["tile_grid"][m] = grid
            row["slots"][slot : slot + len(sources)] = positions[taken : taken + len(sources)]
            row["slot_sources"][slot : slot + len(sources)] = sources
            taken += len(sources)


class NoPictures:
    """No arrays at all: the text alone."""

    images = 0
    bytes = 1
    slots = staticmethod(one_slot)
    open = staticmethod(_as_it_is)

    def blank(self, *shape: int) -> Batch:
        return {}

    def decode(self, data: bytes) -> None:
        return None

    def fill(self, row: Batch, pictures: Sequence[Any], rng: np.random.Generator | None) -> None:
        pass


def _pixels(
    picture: Image.Image | np.ndarray,
    augment: Augment | None,
    rng: np.random.Generator | None,
    background: tuple,
) -> np.ndarray:
    if augment is None or rng is None:
        return np.asarray(picture)
    return augment(picture, rng, background=background)
