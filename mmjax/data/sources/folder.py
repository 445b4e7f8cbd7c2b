"""Folders of pictures: one subfolder per class (ImageNet's layout), or a text file beside each picture.

root/[train|val/]tabby cat/x.jpg          the caption is the name of the subfolder
root/[train|val/]x.jpg with x.txt beside  the caption is the text
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mmjax.data.records import BadRecord, Record
from mmjax.data.sources import files
from mmjax.data.sources.access import Rows, Source
from mmjax.data.sources.splits import HELD_OUT_SHARE, NAMES, Splits, held_out
from mmjax.errors import UserError

TEXTS = (".txt", ".caption")


class Picture(NamedTuple):
    """A picture file and what is known of it without reading it; paths are relative to the root."""

    path: str
    caption: str
    text: str  # file of the caption, instead of `caption`
    label: int


class Classes(NamedTuple):
    """Folder of a class -> its name, and -> its number; picture without suffix -> folder."""

    names: Mapping[str, str]
    labels: Mapping[str, int]
    known: Mapping[str, str]

    def picture(self, path: str, folder: str) -> Picture:
        """The picture at `path`, of the class of a folder."""
        caption = self.names.get(folder, folder.replace("_", " "))
        return Picture(path, caption, "", self.labels.get(folder, -1))


def claims(path: str) -> bool:
    """Whether `path` holds pictures, in itself or in its subfolders."""
    return any(_pictures_in(os.path.join(path, *below)) for below in _levels(path))


def open_path(path: str, *, held_out_share: float = HELD_OUT_SHARE) -> Splits:
    """Opens a folder; subfolders named train, val, ... are splits, otherwise a share is held out by name."""
    return open_classes(path, {}, held_out_share)


def open_classes(
    path: str, names: Mapping[str, str], held_out_share: float, *, known: Mapping[str, str] | None = None
) -> Splits:
    """Opens a folder of classes.

    Args:
      names: folder -> caption of its pictures; a folder without one is named by itself. Its order, or else
        that of the folders, numbers the classes.
      held_out_share: what share to hold out where no folder is a split.
      known: name of a picture file without its suffix -> the class it belongs to, for pictures in no folder.

    Raises:
      UserError: no picture in it.
    """
    below = [name for name in files.listing(path) if name.lower() in NAMES]
    folders = {name for split in below or [""] for name in _classes(path, split)}
    classes = Classes(
        names, {name: number for number, name in enumerate(names or sorted(folders))}, known or {}
    )
    groups = {name: _pictures(path, name, classes) for name in below}
    if not groups:
        groups = held_out(_pictures(path, "", classes), held_out_share, _id)
    if not any(groups.values()):
        raise UserError(f"there is no picture in {path}: put them into one folder per class.")
    return Splits(path, {name: _opener(path, members) for name, members in groups.items() if members})


def _opener(root: str, members: list[Picture | BadRecord]) -> Callable[[], Source]:
    def caption(picture: Picture) -> str:
        if not picture.text:
            return picture.caption
        return files.read_text(os.path.join(root, picture.text)).strip()

    def record(picture: Picture) -> Record:
        facts = {"label": picture.label} if picture.label >= 0 else {}
        data = files.read_picture(picture.path, root, picture.path)
        return Record(id=picture.path, image=data, caption=caption(picture), facts=facts)

    return lambda: Rows(members, record, caption=caption)


def _pictures(root: str, split: str, classes: Classes) -> list[Picture | BadRecord]:
    found: list[Picture | BadRecord] = []
    for name in _classes(root, split):
        for picture in _pictures_in(os.path.join(root, split, name)):
            found.append(classes.picture(os.path.join(split, name, picture), name))
    beside = set(files.listing(os.path.join(root, split)))
    for picture in _pictures_in(os.path.join(root, split)):
        path, stem = os.path.join(split, picture), os.path.splitext(picture)[0]
        text = next((stem + suffix for suffix in TEXTS if stem + suffix in beside), None)
        if name := classes.known.get(stem):
            found.append(classes.picture(path, name))
        elif text is None:
            found.append(BadRecord(path, "missing caption", f"there is no {stem}.txt beside it"))
        else:
            found.append(Picture(path, "", os.path.join(split, text), -1))
    return found


def _classes(root: str, split: str) -> list[str]:
    names = [name for name in files.listing(os.path.join(root, split)) if not name.startswith(".")]
    return [name for name in names if _pictures_in(os.path.join(root, split, name))]


def _pictures_in(folder: str) -> list[str]:
    names = files.listing(folder)
    return [name for name in names if name.lower().endswith(files.PICTURES) and not name.startswith("._")]


def _levels(path: str) -> list[tuple[str, ...]]:
    """The root, its subfolders, and those of a first split: enough to tell a folder of pictures."""
    names = [name for name in files.listing(path) if not name.startswith(".")]
    inner = [
        (name, one)
        for name in names
        if name.lower() in NAMES
        for one in files.listing(os.path.join(path, name))
    ]
    return [(), *((name,) for name in names), *inner]


def _id(picture: Picture | BadRecord) -> str:
    return picture.id if isinstance(picture, BadRecord) else picture.path
