"""Multimodal C4 (Zhu et al. 2023): web pages as sentences, each picture matched to one of them.

    docs*_shard_0_v2.jsonl      {url, text_list, image_info: [{image_name, matched_text_index, matched_sim}]}
    images/b9040a0dbb22.jpg     as fetched; or `image_base64` in image_info, as OpenFlamingo packs it

A picture stands before the sentence it is matched to (OpenFlamingo), in the order of the page.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from mmjax.data.readers import _layout as layout
from mmjax.data.readers._interleaved import document
from mmjax.data.records import BadRecord, Document
from mmjax.data.sources import rows
from mmjax.data.sources.splits import HELD_OUT_SHARE, Splits, expanded, held_out


def open_path(path: str, *, images: str = "images", held_out_share: float = HELD_OUT_SHARE) -> Splits:
    """Opens a JSON-lines file, a glob, or a folder of them; `images`: folder of the pictures beside them."""
    places = expanded(path, ".jsonl")
    read = [entry for place in places for entry in _documents(place)]
    divided = held_out(read, held_out_share, lambda one: one["id"] if isinstance(one, dict) else one.id)
    root = os.path.join(os.path.dirname(places[0]), images)

    def made(entry: layout.Entry) -> Document:
        return document(entry["id"], root, _items(entry), url=entry.get("url"))

    loads = {split: lambda members=members: members for split, members in divided.items()}
    return layout.splits(f"mmc4:{path}", loads, made, caption=lambda entry: " ".join(entry["text_list"]))


def _documents(path: str) -> list[layout.Entry | BadRecord]:
    name = os.path.basename(path)
    found = rows.json_lines(rows.files.read_text(path), name)
    return [
        {**one, "id": f"{name.removesuffix('.jsonl')}/{number}"} if isinstance(one, dict) else one
        for number, one in enumerate(found)
    ]


def _items(entry: layout.Entry) -> Iterator[tuple[Any, float | None]]:
    before: dict[int, list[Any]] = {}
    for info in entry["image_info"]:
        if not 0 <= info["matched_text_index"] < len(entry["text_list"]):
            raise BadRecord(entry["id"], "wrong match", f"there is no sentence {info['matched_text_index']}")
        before.setdefault(info["matched_text_index"], []).append(info)
    for number, text in enumerate(entry["text_list"]):
        for info in before.get(number, []):
            yield {"file": info["image_name"], "data": info.get("image_base64")}, info.get("matched_sim", 0.0)
        yield _text(text), None


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError("a sentence must be text")
    return text
