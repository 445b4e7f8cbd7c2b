"""Pictures side by side as one picture. N pictures, H/W their size."""

import os

import numpy as np
from PIL import Image

from mmjax.errors import UserError

_GAP, _WIDE_GAP, _PAPER = 4, 16, 255


def tiled(pictures: np.ndarray, *, columns: int = 8) -> np.ndarray:
    """u8[N, H, W, 3] -> one u8 picture, row by row, on white."""
    count, height, width, _ = pictures.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    step_y, step_x = height + _GAP, width + _GAP
    canvas = np.full((rows * step_y + _GAP, columns * step_x + _GAP, 3), _PAPER, np.uint8)
    for number, picture in enumerate(pictures):
        y, x = (number // columns) * step_y + _GAP, (number % columns) * step_x + _GAP
        canvas[y : y + height, x : x + width] = picture
    return canvas


def beside(truth: np.ndarray, samples: np.ndarray, *, columns: int = 4) -> np.ndarray:
    """The truth on the left and the samples, in the same order, on the right: u8[N, H, W, 3] twice -> u8."""
    left, right = tiled(truth, columns=columns), tiled(samples, columns=columns)
    gap = np.full((len(left), _WIDE_GAP, 3), _PAPER, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def save(picture: np.ndarray, path: str | os.PathLike) -> None:
    """Writes u8[H, W, 3] in the format of the path's ending; UserError if it cannot be written."""
    try:
        Image.fromarray(picture).save(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"the picture cannot be saved as {os.fspath(path)} ({reason}): use a path such as out.png."
        ) from error
