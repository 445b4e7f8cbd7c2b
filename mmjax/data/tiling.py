"""Pictures at their own shape: cut into patches (NaFlex), or into tiles of a fixed size (any resolution).

P side of a patch in pixels, N patches, S side of a tile, T tiles of a picture, F features of a tile. Sizes
are (width, height) as in Pillow, grids (rows, columns) as in an array.

How many tokens a picture takes follows from the size in its header, so they are reserved when its text is
tokenized, and nothing changes length inside `jit`.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from PIL import Image

from mmjax.data.decode import Size, decode, size_of
from mmjax.data.images import FILTERS
from mmjax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchSpec:
    """At most `patches` square patches, at the aspect ratio of the picture (SigLIP 2 NaFlex, section 2.4.2).

    Attributes:
      patch: side of a patch in pixels. patches: most of them. filter: of the resize.
      background: RGB behind transparent pixels.
    """

    patch: int = 16
    patches: int = 256
    filter: str = "bilinear"
    background: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self):
        if self.patch < 1 or self.patches < 1:
            raise UserError(
                f"data.patches has {self.patches} patches of {self.patch} pixels: use at least 1."
            )

    def grid(self, size: Size) -> tuple[int, int]:
        """(rows, columns) of patches: the finest grid of at most `patches`, both sides rounded up."""
        width, height = size

        def at(scale: float) -> tuple[int, int]:
            return tuple(max(1, math.ceil(side * scale / self.patch)) for side in (height, width))

        low, high = 1e-6, 100.0  # bisected to 1e-5 as in transformers: the size depends on where one stops
        while high - low >= 1e-5:
            middle = (low + high) / 2
            low, high = (middle, high) if math.prod(at(middle)) <= self.patches else (low, middle)
        rows, columns = at(low)
        return min(rows, self.patches), min(columns, self.patches)

    def decode(self, data: bytes) -> Image.Image:
        """The picture resized to whole patches; raises BadRecord as `mmjax.data.decode.decode`."""
        image = decode(data, background=self.background)
        rows, columns = self.grid(image.size)
        return image.resize((columns * self.patch, rows * self.patch), FILTERS[self.filter])

    def cut(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u8[rows * P, columns * P, 3] -> u8[n, P * P * 3], row by row, and their (row, column) i32[n, 2]."""
        side = self.patch
        rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
        blocks = pixels.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
        places = np.stack(np.mgrid[:rows, :columns], axis=-1, dtype=np.int32)
        return blocks.reshape(rows * columns, side * side * 3), places.reshape(-1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How one picture is tiled: resized to `whole`, pasted at `corner` of a canvas of `grid` tiles."""

    grid: tuple[int, int]
    whole: Size
    corner: tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiles:
    """What all tilings share.

    Attributes:
      size: S. patch: side of the vision encoder's patches, so that F = (S // patch) ** 2.
      filter: of the resize. background: RGB behind transparent pixels and around the picture.
    """

    size: int = 336
    patch: int = 14
    filter: str = "bicubic"
    background: tuple[int, int, int] = (0, 0, 0)

    overview = False  # whether the whole picture, distorted to a square, is the first tile

    @property
    def most(self) -> int:
        """T: tiles of the picture that has most of them."""
        return max(rows * columns for rows, columns in self.all_grids) + self.overview

    @property
    def all_grids(self) -> tuple[tuple[int, int], ...]:
        raise TypeError(type(self))

    def plan(self, size: Size) -> Plan:
        """The plan for a picture of this size."""
        raise TypeError(type(self))

    def slots(self, data: bytes) -> int:
        """Tokens that a picture takes; raises BadRecord where its header cannot be read."""
        return len(self.sources(size_of(data)))

    def sources(self, size: Size) -> np.ndarray:
        """i32[slots]: the feature each token of a picture takes, t * F + f; T * F stands for a line break."""
        return np.zeros(1, np.int32)

    @functools.cached_property
    def most_slots(self) -> int:
        """Slots of the picture that takes most of them."""
        return max(
            len(self.sources((columns * self.size, rows * self.size))) for rows, columns in self.all_grids
        )

    def decode(self, data: bytes) -> np.ndarray:
        """u8[t, S, S, 3]: the overview, if there is one, then the tiles row by row.

        Raises:
          BadRecord: as `mmjax.data.decode.decode`.
        """
        image = decode(data, background=self.background)
        return self.cut(image)

    def cut(self, image: Image.Image) -> np.ndarray:
        """The tiles of a decoded picture, as `decode`."""
        side, plan, method = self.size, self.plan(image.size), FILTERS[self.filter]
        rows, columns = plan.grid
        canvas = Image.new("RGB", (columns * side, rows * side), self.background)
        canvas.paste(image.resize(plan.whole, method), plan.corner)
        blocks = np.asarray(canvas).reshape(rows, side, columns, side, 3).swapaxes(1, 2)
        tiles = blocks.reshape(-1, side, side, 3)
        if not self.overview:
            return tiles
        return np.concatenate([np.asarray(image.resize((side, side), method))[None], tiles])


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnyResolution(Tiles):
    """LLaVA-NeXT: an overview, and the grid that keeps most of the picture's pixels and wastes least.

    A picture's tokens are the features of the overview, then those of the tiles in reading order over the
    whole picture, without the padding, and a line break after each row.

    Attributes:
      grids: (rows, columns) to choose from.
      reference_quirks: round as LLaVA's own code does where floating point makes 20 x 1.15 a hair less than
        23 (systems.md Q13), instead of as transformers does.
    """

    grids: tuple[tuple[int, int], ...] = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
    reference_quirks: bool = False

    overview = True

    @property
    def all_grids(self) -> tuple[tuple[int, int], ...]:
        return self.grids

    def plan(self, size: Size) -> Plan:
        width, height = size

        def worth(grid: tuple[int, int]) -> tuple[int, int]:
            rows, columns = (count * self.size for count in grid)
            scale = min(columns / width, rows / height)
            kept = min(int(width * scale) * int(height * scale), width * height)
            return kept, kept - rows * columns

        grid = max(self.grids, key=worth)
        canvas = (grid[1] * self.size, grid[0] * self.size)
        across, down = canvas[0] / width, canvas[1] / height
        if across < down:
            whole = (canvas[0], min(math.ceil(height * across), canvas[1]))
        else:
            whole = (min(math.ceil(width * down), canvas[0]), canvas[1])
        return Plan(
            grid=grid, whole=whole, corner=tuple((c - w) // 2 for c, w in zip(canvas, whole, strict=True))
        )

    def sources(self, size: Size) -> np.ndarray:
        (rows, columns), side = self.plan(size).grid, self.size // self.patch
        features = np.arange(rows * columns * side * side).reshape(rows, columns, side, side)
        picture = side * side + features.swapaxes(1, 2).reshape(rows * side, columns * side)
        down, across = self._padding(size, picture.shape)
        picture = picture[down : picture.shape[0] - down, across : picture.shape[1] - across]
        breaks = np.full((len(picture), 1), self.most * side * side)
        lines = np.concatenate([picture, breaks], axis=1)
        return np.concatenate([np.arange(side * side), lines.ravel()]).astype(np.int32)

    def _padding(self, size: Size, shape: tuple[int, int]) -> tuple[int, int]:
        """Rows of features above (and below) the picture, and columns left (and right) of it."""
        (width, height), (rows, columns) = size, shape
        whole = int if self.reference_quirks else lambda kept: int(round(kept, 7))
        if width / height > columns / rows:
            return (rows - whole(height * (columns / width))) // 2, 0
        return 0, (columns - whole(width * (rows / height))) // 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canvas(Tiles):
    """Llama 3.2 Vision: the smallest canvas of at most `tiles` tiles that holds the picture, or the one on
    which it is shrunk least; the picture in its top left corner. Cross-attention reads it: one token each.

    Attributes:
      tiles: most tiles of a picture.
    """

    size: int = 560
    filter: str = "bilinear"
    tiles: int = 4

    @property
    def all_grids(self) -> tuple[tuple[int, int], ...]:
        counts = range(1, self.tiles + 1)
        return tuple((rows, columns) for rows in counts for columns in counts if rows * columns <= self.tiles)

    def number(self, size: Size) -> int:
        """The published id of the grid, from 1 upwards; 0 is for no picture."""
        return self.all_grids.index(self.plan(size).grid) + 1

    def plan(self, size: Size) -> Plan:
        width, height = size

        def worth(grid: tuple[int, int]) -> tuple[bool, float, int]:
            scale = min(grid[0] * self.size / height, grid[1] * self.size / width)
            return scale >= 1, -scale if scale >= 1 else scale, -grid[0] * grid[1]

        grid = max(self.all_grids, key=worth)
        canvas = (grid[1] * self.size, grid[0] * self.size)
        target = tuple(min(max(side, self.size), most) for side, most in zip(size, canvas, strict=True))
        across, down = target[0] / width, target[1] / height
        if across < down:
            whole = (target[0], min(math.floor(height * across) or 1, target[1]))
        else:
            whole = (min(math.floor(width * down) or 1, target[0]), target[1])
        return Plan(grid=grid, whole=whole, corner=(0, 0))
