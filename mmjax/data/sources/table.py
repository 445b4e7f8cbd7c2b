"""A table of pictures and captions: CSV, TSV, JSON lines, JSON or Parquet, the pictures in files or cells.

Columns go by the usual names unless told: `pictures.csv?image=file&caption=title`. Picture files are named
from the folder of the table, or from one of the usual folders beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etils import epath

from mmjax.data.records import BadRecord, Record
from mmjax.data.sources import files, rows
from mmjax.data.sources.access import Rows, Source
from mmjax.data.sources.arrow import ParquetTable
from mmjax.data.sources.splits import HELD_OUT_SHARE, Splits, by_split_name, expanded, grouped, held_out
from mmjax.errors import UserError

SUFFIXES = (*rows.READERS, ".parquet")
COLUMNS = {
    "image": ("image", "img", "picture", "photo", "file_name", "filename", "file", "filepath", "image_path",
              "path", "image_file", "image_name", "jpg", "png", "image_bytes"),
    "caption": ("caption", "text", "title", "description", "captions", "sentence", "alt", "alt_text",
                "prompt", "label", "class", "comment"),
    "id": ("id", "key", "uid", "record_id"),
    "split": ("split", "subset", "partition", "set"),
}  # fmt: skip
FOLDERS = ("", "images", "pictures", "photos", "imgs", "img", "files")
PROBED = 20  # rows looked at to find the folder of the pictures and the names of the columns


def claims(path: str) -> bool:
    """Whether `path` names a table, or a folder with one table in it."""
    return path.lower().endswith(SUFFIXES) or bool(_tables(path))


def open_path(
    path: str,
    *,
    image: str = "",
    caption: str = "",
    id: str = "",
    split: str = "",
    folder: str = "",
    held_out_share: float = HELD_OUT_SHARE,
) -> Splits:
    """Opens a table, a glob of them, or a folder that holds one (or Parquet files).

    Args:
      image, caption, id, split: names of columns; "" to look for the usual ones.
      folder: where the names of the picture files start, from the folder of the table; "" to look for it.
      held_out_share: what share of the pictures to hold out where neither a column nor the files name splits.

    Raises:
      UserError: no table there, one that cannot be read, or no column of pictures or captions in it.
    """
    paths = _tables(path) or expanded(path, *SUFFIXES)
    wanted = {"image": image, "caption": caption, "id": id, "split": split}
    groups = {
        name: [entry for one in members for entry in _entries(one, wanted, folder)]
        for name, members in by_split_name(paths).items()
    }
    return split_entries(path, groups, held_out_share)


class Entry:
    """One row, its cells not yet read: a table, a row number and the id and split given to it."""

    __slots__ = ("group", "id", "number", "split", "table")

    def __init__(self, table: Pictures, number: int, id: str, group: str, split: str):
        self.table, self.number, self.id, self.group, self.split = table, number, id, group, split


class Pictures:
    """The columns of one table that make records."""

    def __init__(self, name: str, columns: dict[str, Sequence[Any] | None], folder: str):
        """`columns`: image, caption, id, split; the last two may be None. `folder`: of the picture files."""
        self.name, self.folder = name, folder
        self.image, self.caption, self.ids, self.splits = (columns[name] for name in COLUMNS)

    def entries(self, bad: dict[int, BadRecord]) -> Iterator[Entry | BadRecord]:
        """The rows in order, those that are bad already in their places; repeated ones are bad too."""
        seen: dict[str, int] = {}
        said: set[tuple[str, str]] = set()
        for number in range(len(self.caption)):
            if number in bad:
                yield bad[number]
                continue
            name = self.image[number] if isinstance(self.image, list) else None
            given = self.ids[number] if self.ids is not None else None
            id = str(given) if given not in (None, "") else _name(name) or f"{self.name} row {number}"
            pair = (id, str(self.caption[number]))
            times = seen[id] = seen.get(id, 0) + 1
            if times > 1 and (given not in (None, "") or pair in said):
                yield BadRecord(id, "repeated id", f"row {number} of {self.name} repeats an earlier one")
                continue
            said.add(pair)
            split = self.splits[number] if self.splits is not None else ""
            yield Entry(
                self, number, id if times == 1 else f"{id}#{times}", _name(name) or id, str(split or "")
            )

    def text(self, entry: Entry) -> str:
        """The caption of a row; BadRecord where the cell holds none."""
        value = self._texts(entry)
        if not value or not all(isinstance(text, str) for text in value):
            raise BadRecord(entry.id, "missing caption", f"the cell holds {self.caption[entry.number]!r:.80}")
        return value[0]

    def record(self, entry: Entry) -> Record:
        """The record of a row; further captions of a list go into its facts."""
        caption, others = self.text(entry), self._texts(entry)
        facts = {"captions": others} if len(others) > 1 else {}
        return Record(id=entry.id, image=self._picture(entry), caption=caption, facts=facts)

    def _texts(self, entry: Entry) -> list[Any]:
        value = self.caption[entry.number]
        return value if isinstance(value, list) else [value]

    def _picture(self, entry: Entry) -> bytes:
        value = self.image[entry.number]
        if isinstance(value, dict):  # as Hugging Face stores a picture
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return value
        return files.read_picture(entry.id, self.folder, value)


def split_entries(name: str, groups: dict[str, list[Entry | BadRecord]], share: float) -> Splits:
    """A data set of entries: by its groups if there are several, else by their own split, else held out."""
    entries = [entry for members in groups.values() for entry in members]
    if list(groups) == ["train"] and any(not isinstance(one, BadRecord) and one.split for one in entries):
        groups = grouped(entries, lambda one: "train" if isinstance(one, BadRecord) else one.split or "train")
    elif list(groups) == ["train"]:
        groups = held_out(entries, share, lambda one: one.id if isinstance(one, BadRecord) else one.group)
    return Splits(name, {split: _opener(members) for split, members in groups.items()})


def columns(table: str, names: Sequence[str], wanted: dict[str, str]) -> dict[str, str]:
    """Which column is which; "" where the table has none.

    Raises:
      UserError: a column that was asked for is not there, or there is none of pictures or captions.
    """
    known = {name.lower().replace(" ", "_").replace("-", "_"): name for name in names}
    found = {}
    for what, usual in COLUMNS.items():
        if wanted[what] and wanted[what] not in names:
            raise UserError(f"{table} has no column {wanted[what]!r}: use one of {', '.join(names)}.")
        found[what] = wanted[what] or next((known[name] for name in usual if name in known), "")
    for what in ("image", "caption"):
        if not found[what]:
            raise UserError(
                f"{table} has the columns {', '.join(names)}: say which holds the {what} by adding "
                f"?{what}=COLUMN to data.source."
            )
    return found


def _opener(members: list[Entry | BadRecord]) -> Callable[[], Source]:
    return lambda: Rows(
        members,
        lambda entry: entry.table.record(entry),
        caption=lambda entry: entry.table.text(entry),
    )


def _entries(path: str, wanted: dict[str, str], folder: str) -> Iterator[Entry | BadRecord]:
    if path.lower().endswith(".parquet"):
        table = ParquetTable(path)
        names = columns(path, table.schema.names, wanted)
        cells = {what: table.column(name) if name else None for what, name in names.items()}
        bad: dict[int, BadRecord] = {}
    else:
        read = rows.read(path)
        bad = {number: row for number, row in enumerate(read) if isinstance(row, BadRecord)}
        good = [row for row in read if not isinstance(row, BadRecord)]
        if not good:
            problems = "; ".join(map(str, list(bad.values())[:3])) or "it has no row"
            raise UserError(f"{path} holds no record ({problems}): correct data.source or the file.")
        names = columns(path, list(dict.fromkeys(name for row in good[:PROBED] for name in row)), wanted)
        cells = {
            what: [None if number in bad else row.get(name) for number, row in enumerate(read)]
            if name
            else None
            for what, name in names.items()
        }
    return Pictures(os.path.basename(path), cells, _folder(path, folder, cells["image"])).entries(bad)


def _folder(table: str, folder: str, names: Sequence[Any]) -> str:
    """The folder the names of picture files start from: the first where one of the first names is there."""
    home = os.path.dirname(table)
    if folder:
        return os.path.join(home, folder)
    stem = os.path.splitext(os.path.basename(table))[0]
    first = [name for name in names[:PROBED] if isinstance(name, str)] if isinstance(names, list) else []
    for candidate in (*FOLDERS, stem, f"{stem}_images"):
        path = os.path.join(home, candidate) if candidate else home
        for name in first:
            try:
                if epath.Path(files.inside("", path, name)).exists():
                    return path
            except (BadRecord, OSError):
                continue
    return home


def _tables(path: str) -> list[str]:
    """The table of a folder: its only one, the one named metadata or captions, or all its Parquet files."""
    names = [name for name in files.listing(path) if name.lower().endswith(SUFFIXES)]
    parquet = [name for name in names if name.endswith(".parquet")]
    if not names and "data" in files.listing(path):  # the layout of the Hugging Face hub
        inner = os.path.join(path, "data")
        return [os.path.join(inner, name) for name in files.listing(inner) if name.endswith(".parquet")]
    usual = [name for name in names if name.split(".")[0] in ("metadata", "captions")]
    found = parquet or (names if len(names) == 1 else usual[:1])
    return [os.path.join(path, name) for name in found]


def _name(value: Any) -> str:
    return value if isinstance(value, str) and value.strip() else ""
