"""A Hugging Face `datasets` directory on disk (`save_to_disk`), read from its Arrow files by pyarrow."""

from __future__ import annotations

import os

from mmjax.data.sources import files
from mmjax.data.sources.arrow import ArrowTable
from mmjax.data.sources.splits import HELD_OUT_SHARE, Splits
from mmjax.data.sources.table import Pictures, columns, split_entries
from mmjax.errors import UserError

STATE, SPLITS = "state.json", "dataset_dict.json"


def claims(path: str) -> bool:
    """Whether `path` was written by `save_to_disk`."""
    return bool({STATE, SPLITS} & set(files.listing(path)))


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
    """Opens a Dataset or a DatasetDict; the options are those of a table.

    Raises:
      UserError: a file is missing or damaged, or no column of pictures or captions.
    """
    wanted = {"image": image, "caption": caption, "id": id, "split": split}
    names = [""]
    if SPLITS in files.listing(path):
        names = _field(os.path.join(path, SPLITS), "splits")
    groups = {}
    for name in names:
        home = os.path.join(path, name) if name else path
        table = ArrowTable([os.path.join(home, file) for file in _files(home)])
        found = columns(home, table.schema.names, wanted)
        cells = {what: table.column(column) if column else None for what, column in found.items()}
        pictures = Pictures(name or os.path.basename(path), cells, os.path.join(home, folder))
        groups[name or "train"] = list(pictures.entries({}))
    return split_entries(path, groups, held_out_share)


def _files(home: str) -> list[str]:
    state = os.path.join(home, STATE)
    if files.read_json(state).get("_indices_files"):
        raise UserError(f"{home} keeps a selection of rows apart: save it again after `flatten_indices()`.")
    return [file["filename"] for file in _field(state, "_data_files")]


def _field(path: str, name: str) -> list:
    value = files.read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get(name), list):
        raise UserError(f"{path} has no list {name!r}: save the data set again with `save_to_disk`.")
    return value[name]
