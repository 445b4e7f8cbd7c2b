"""Documents of texts and pictures, some of whose pictures the web has lost."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from typing import Any

from mmjax.data.records import BadRecord, Document
from mmjax.data.sources import files

LEFT_OUT = "left_out"  # in the facts: what pictures the document lacks, and why


def document(id: str, root: str, items: Iterable[tuple[Any, float | None]], **facts: Any) -> Document:
    """A document of (text, None) and (picture, similarity) in reading order; a text is a `str` part as it is.

    A picture is {"file": name, "url": address, "data": bytes or base64}; one that is not there is left out
    and named in the facts, for the rest of the document is still good.

    Raises:
      BadRecord: no picture is left of a document that has some, or no part at all.
    """
    parts: list[str | bytes] = []
    similarity: list[float] = []
    left_out: list[str] = []
    for item, near in items:
        if isinstance(item, str):
            parts.append(item)
            continue
        try:
            parts.append(_bytes(id, root, item))
            similarity += [] if near is None else [float(near)]
        except BadRecord as bad:
            left_out.append(f"{bad.kind}: {bad.message}")
    if left_out and not any(isinstance(part, bytes) for part in parts):
        raise BadRecord(id, "missing picture", f"none of {len(left_out)} is there ({left_out[0]})")
    told = {name: value for name, value in facts.items() if value is not None}
    if left_out:
        told[LEFT_OUT] = left_out
    return Document(id=id, parts=tuple(parts), similarity=tuple(similarity), facts=told)


def _bytes(id: str, root: str, picture: Any) -> bytes:
    data = picture.get("data")
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadRecord(id, "broken base64", str(error)) from error
    names = [picture["file"]] if picture.get("file") else []
    if picture.get("url"):
        digest = hashlib.sha256(picture["url"].encode()).hexdigest()
        names += [f"{digest}{suffix}" for suffix in (".jpg", ".png", ".webp")]
    for name in names or [None]:
        try:
            return files.read_picture(id, root, name)
        except BadRecord as bad:
            problem = bad
    raise problem
