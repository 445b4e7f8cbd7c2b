"""OBELICS (Laurençon et al. 2023): web pages as two lists, `images` and `texts`.

    *.parquet or *.jsonl        {images: [address or None], texts: [text or None], metadata, general_metadata}
    images/SHA256.jpg           the pictures as fetched, named by the SHA-256 of their address

One of the two is None at each place. A picture in place of its address ({bytes, path}, as `datasets` stores
pictures) is taken as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from mmjax.data.readers import _layout as layout
from mmjax.data.readers._interleaved import document
from mmjax.data.records import BadRecord, Document
from mmjax.data.sources import rows
from mmjax.data.sources.arrow import ParquetTable
from mmjax.data.sources.splits import HELD_OUT_SHARE, Splits, expanded, held_out


def open_path(path: str, *, images: str = "images", held_out_share: float = HELD_OUT_SHARE) -> Splits:
    """Opens Parquet or JSON-lines files, a glob or a folder; `images`: folder of the pictures beside them."""
    places = expanded(path, ".parquet", ".jsonl")
    read = [entry for place in places for entry in _documents(place)]
    divided = held_out(read, held_out_share, lambda one: one["id"] if isinstance(one, dict) else one.id)
    root = os.path.join(os.path.dirname(places[0]), images)

    def made(entry: layout.Entry) -> Document:
        return document(entry["id"], root, _items(entry), url=_address(entry.get("general_metadata")))

    loads = {split: lambda members=members: members for split, members in divided.items()}
    return layout.splits(
        f"obelics:{path}", loads, made, caption=lambda entry: " ".join(filter(None, entry["texts"]))
    )


def _documents(path: str) -> Iterator[layout.Entry | BadRecord]:
    name = os.path.basename(path)
    if path.endswith(".jsonl"):
        found = rows.json_lines(rows.files.read_text(path), name)
    else:
        table = ParquetTable(path)
        names = [one for one in ("images", "texts", "general_metadata") if one in table.schema.names]
        columns = [table.column(one) for one in names]
        found = (dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True))
    for number, entry in enumerate(found):
        yield {**entry, "id": f"{name}/{number}"} if isinstance(entry, dict) else entry


def _items(entry: layout.Entry) -> Iterator[tuple[Any, float | None]]:
    for picture, text in zip(entry["images"], entry["texts"], strict=True):
        if isinstance(picture, dict):
            yield {"data": picture.get("bytes"), "file": picture.get("path")}, None
        elif isinstance(picture, str):
            yield {"url": picture}, None
        elif isinstance(text, str):
            yield text, None
        else:
            raise BadRecord(entry["id"], "wrong parts", "a place holds neither a picture nor a text")


def _address(metadata: Any) -> str | None:
    try:
        return json.loads(metadata)["url"]
    except (TypeError, ValueError, KeyError):
        return None
