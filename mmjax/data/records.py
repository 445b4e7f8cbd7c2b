"""The record: one captioned picture as bytes, and what is wrong with it when it cannot be used.

On disk a record is a msgpack map `{"id": str, "image": bytes, "caption": str}`. `image` is an encoded
picture (PNG, JPEG, ...), so that a record says nothing of the size a model wants.
"""

from __future__ import annotations

import dataclasses

import msgpack


class BadRecord(Exception):
    """A record that cannot be used. A pipeline skips it, counts it and names it.

    Attributes:
      id: the record's id; parts that see only a picture or a caption leave it empty for their caller to fill.
      kind: a short fixed phrase to count by, such as "broken picture".
      message: one sentence about this very record.
    """

    def __init__(self, id: str, kind: str, message: str):
        super().__init__(id, kind, message)
        self.id, self.kind, self.message = id, kind, message

    def __str__(self) -> str:
        return f"record {self.id or '?'}: {self.kind}: {self.message}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One captioned picture: `id` unique in its split, `image` the encoded picture, `caption` its text."""

    id: str
    image: bytes
    caption: str

    def encode(self) -> bytes:
        """The bytes of the record; equal records give equal bytes."""
        return msgpack.packb({"id": self.id, "image": self.image, "caption": self.caption})

    @classmethod
    def decode(cls, data: bytes) -> Record:
        """Reads a record and checks its caption; the picture stays encoded.

        Raises:
          BadRecord: not a msgpack map of this schema, broken UTF-8, an empty caption or a NUL in it.
        """
        try:
            # Broken UTF-8 in the caption must not hide the id the user needs to find the record.
            fields = msgpack.unpackb(data, unicode_errors="surrogateescape")
        except Exception as error:  # msgpack raises half a dozen unrelated types on malformed bytes
            raise BadRecord("", "not a record", f"not msgpack ({error or type(error).__name__})") from error
        if not isinstance(fields, dict):
            raise BadRecord("", "not a record", f"a map was expected, found {type(fields).__name__}")
        id = fields.get("id")
        if not isinstance(id, str) or not id:
            raise BadRecord("", "not a record", "the field `id` is missing or not text")
        id = id.encode("utf-8", "replace").decode()
        for name, kind in (("image", bytes), ("caption", str)):
            if not isinstance(fields.get(name), kind):
                raise BadRecord(
                    id, f"missing {name}", f"the field `{name}` is missing or not {kind.__name__}"
                )
        return cls(id=id, image=fields["image"], caption=_checked(id, fields["caption"]))


def _checked(id: str, caption: str) -> str:
    try:
        caption.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRecord(id, "broken UTF-8", f"the caption breaks at character {error.start}") from error
    if not caption.strip():
        raise BadRecord(id, "empty caption", "the caption has no text")
    if "\0" in caption:
        raise BadRecord(id, "NUL in caption", f"the caption holds a NUL at character {caption.index(chr(0))}")
    return caption
