"""preprocessor_config.json, and ours for it: an `ImageSpec`, and the mean and deviation of the model."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmjax.data.images import FILTERS, ImageSpec
from mmjax.errors import UserError

FILE = "preprocessor_config.json"
Triple = tuple[float, ...]
_CODES = {name: int(method) for name, method in FILTERS.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pixels:
    """How a picture becomes the model's input: bytes on the host, standardised on the device."""

    spec: ImageSpec
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.5, 0.5, 0.5)


def read(file: Path, default: Pixels) -> Pixels:
    """What the file says; what it leaves out is as in `default`, and so is all of it where there is no file.

    Raises:
      UserError: a preprocessing that mmjax does not have.
    """
    if not file.exists():
        return default
    try:
        fields = json.loads(file.read_bytes())
        return _read(fields, default)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file} cannot be understood ({error}): correct it.") from error


def _read(fields: Mapping[str, Any], default: Pixels) -> Pixels:
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if not fields.get(step, True):
            raise ValueError(f"{step} is false")
    if abs(fields.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise ValueError("rescale_factor is not 1/255")
    cut = default.spec.resize == "center_crop"
    fallback = {"shortest_edge": default.spec.shorter_side or default.spec.size}
    if not cut:
        fallback = {"height": default.spec.size, "width": default.spec.size}
    size = fields.get("size", fields.get("image_size", fallback))
    size = size if isinstance(size, Mapping) else {"shortest_edge": size} if cut else _square(size)
    spec = dict(filter=_filter(fields.get("resample", _CODES[default.spec.filter])), draft=False)
    if "shortest_edge" not in size:
        side = _side(size)
        if fields.get("do_center_crop", False) and _side(fields.get("crop_size", side)) != side:
            raise ValueError("it crops after distorting the picture")
        spec |= dict(resize="stretch", size=side)
    elif fields.get("do_center_crop", cut):
        side = _side(fields.get("crop_size", size["shortest_edge"]))
        longer = size["shortest_edge"] if size["shortest_edge"] != side else 0
        spec |= dict(resize="center_crop", size=side, shorter_side=longer)
    else:
        raise ValueError("its pictures have no fixed size")
    mean, std = fields.get("image_mean", default.mean), fields.get("image_std", default.std)
    return Pixels(spec=ImageSpec(**spec), mean=tuple(map(float, mean)), std=tuple(map(float, std)))


def write(pixels: Pixels) -> dict[str, Any]:
    """The content of the file.

    Raises:
      UserError: the pictures are laid out in a way that the format cannot say.
    """
    spec = pixels.spec
    if spec.resize == "center_crop":
        size = {"shortest_edge": spec.shorter_side or spec.size}
        cut = {"do_center_crop": True, "crop_size": _square(spec.size)}
    elif spec.resize == "stretch":
        size, cut = _square(spec.size), {"do_center_crop": False}
    else:
        raise UserError(
            f"image resize {spec.resize!r} has no counterpart in {FILE}: use 'stretch' or 'center_crop'."
        )
    return {
        "do_convert_rgb": True,
        "do_resize": True,
        "size": size,
        "resample": _CODES[spec.filter],
        **cut,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(pixels.mean),
        "image_std": list(pixels.std),
    }


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _side(size: Mapping[str, int] | int) -> int:
    height, width = (size["height"], size["width"]) if isinstance(size, Mapping) else (size, size)
    if height != width:
        raise ValueError(f"its pictures are {height}x{width} and not square")
    return height


def _filter(code: int) -> str:
    for name, known in _CODES.items():
        if known == code:
            return name
    raise ValueError(f"resample is {code}, not one of {', '.join(map(str, _CODES.values()))}")
