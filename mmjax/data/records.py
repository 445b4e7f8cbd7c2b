"""The five kinds of record, as bytes on disk, and what is wrong with one when it cannot be used.

On disk a record is a msgpack map of its fields, and its kind is told from them: `image` and `caption` make a
`Record`, `parts` a `Document`, `turns` a `Conversation`, `frames` a `Video`, `sound` an `Audio`. Pictures and
sounds stay encoded (PNG, JPEG, WAV, ...), so that a record says nothing of the size a model wants. `facts`,
JSON-able values on provenance or truth, is left out on disk where it is empty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import msgpack

ROLES = ("system", "user", "assistant")
IMAGE = "<image>"  # stands in the text of a turn where a picture stands


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


class _OnDisk:
    """What the five kinds share: `encode`, `decode` and the check of `id` and `facts`."""

    MARK: ClassVar[str]  # the field that tells the kind
    id: str
    facts: Mapping[str, Any]

    def encode(self) -> bytes:
        """The bytes of the record; equal records give equal bytes."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if not fields["facts"]:
            del fields["facts"]
        # Text that was broken when it was read is kept broken, for `decode` to find and name.
        return msgpack.packb({**fields, **self._packed()}, unicode_errors="surrogatepass")

    @classmethod
    def decode(cls, data: bytes) -> Any:
        """Reads a record of this kind and checks its text; pictures and sounds stay encoded.

        Raises:
          BadRecord: not a msgpack map of this schema, broken UTF-8, an empty text or a NUL in it.
        """
        return cls._read(_fields(data))

    @classmethod
    def _read(cls, fields: dict[str, Any]) -> Any:
        id, facts = fields["id"], fields.get("facts", {})
        if not isinstance(facts, dict):
            raise BadRecord(id, "wrong facts", f"`facts` is {type(facts).__name__}: a map was expected")
        return cls(id=id, facts=facts, **cls._unpacked(id, fields))

    def _packed(self) -> dict[str, Any]:
        """The fields whose form on disk differs."""
        return {}

    @classmethod
    def _unpacked(cls, id: str, fields: dict[str, Any]) -> dict[str, Any]:
        """The checked fields besides `id` and `facts`."""
        raise TypeError(cls)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record(_OnDisk):
    """One captioned picture: `id` unique in its split, `image` the encoded picture, `caption` its text."""

    MARK: ClassVar[str] = "image"
    id: str
    image: bytes
    caption: str
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def _unpacked(cls, id: str, fields: dict[str, Any]) -> dict[str, Any]:
        image, caption = (_typed(id, fields, *field) for field in (("image", bytes), ("caption", str)))
        return {"image": image, "caption": _checked(id, caption, "caption")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document(_OnDisk):
    """Text and pictures in reading order.

    Attributes:
      parts: str for text, bytes for an encoded picture.
      similarity: of each picture to the text it was matched with, in [-1, 1]; () where unknown.
    """

    MARK: ClassVar[str] = "parts"
    id: str
    parts: tuple[str | bytes, ...]
    similarity: tuple[float, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def images(self) -> tuple[bytes, ...]:
        """The encoded pictures, in order."""
        return tuple(part for part in self.parts if isinstance(part, bytes))

    @classmethod
    def _unpacked(cls, id: str, fields: dict[str, Any]) -> dict[str, Any]:
        parts, similarity = _typed(id, fields, "parts", list), fields.get("similarity", [])
        if not parts or not all(isinstance(part, str | bytes) for part in parts):
            raise BadRecord(id, "wrong parts", "`parts` must hold texts and encoded pictures, at least one")
        for part in parts:
            if isinstance(part, str):
                _checked(id, part, "text")
        pictures = sum(isinstance(part, bytes) for part in parts)
        numbers = isinstance(similarity, list) and all(isinstance(one, int | float) for one in similarity)
        if not numbers or len(similarity) not in (0, pictures):
            raise BadRecord(id, "wrong similarity", f"`similarity` must be {pictures} numbers, one a picture")
        return {"parts": tuple(parts), "similarity": tuple(map(float, similarity))}


@dataclasses.dataclass(frozen=True)
class Turn:
    """One turn: `role` is "system", "user" or "assistant"; `text` holds `<image>` where a picture stands."""

    role: str
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversation(_OnDisk):
    """Pictures and the turns about them; as many `<image>` in the turns as there are pictures.

    A question with a short answer is two turns with facts {"kind": ..., "answers": [...]}.
    """

    MARK: ClassVar[str] = "turns"
    id: str
    images: tuple[bytes, ...]
    turns: tuple[Turn, ...]
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def _packed(self) -> dict[str, Any]:
        return {"turns": [(turn.role, turn.text) for turn in self.turns]}

    @classmethod
    def _unpacked(cls, id: str, fields: dict[str, Any]) -> dict[str, Any]:
        images, turns = (_typed(id, fields, name, list) for name in ("images", "turns"))
        if not all(isinstance(image, bytes) for image in images):
            raise BadRecord(id, "missing image", "`images` must hold encoded pictures")
        pairs = all(isinstance(turn, list) and [type(one) for one in turn] == [str, str] for turn in turns)
        if not turns or not pairs:
            raise BadRecord(id, "wrong turns", "`turns` must hold pairs of a role and a text, at least one")
        for role, text in turns:
            if role not in ROLES:
                raise BadRecord(id, "unknown role", f"the role {role!r} is not one of {', '.join(ROLES)}")
            _checked(id, text, "text")
        marks = sum(text.count(IMAGE) for _, text in turns)
        if marks != len(images):
            raise BadRecord(id, "image marks", f"{marks} {IMAGE} in the turns for {len(images)} pictures")
        return {"images": tuple(images), "turns": tuple(Turn(role, text) for role, text in turns)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Video(_OnDisk):
    """Encoded frames at `rate` frames per second, and a caption."""

    MARK: ClassVar[str] = "frames"
    id: str
    frames: tuple[bytes, ...]
    rate: float
    caption: str
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def _unpacked(cls, id: str, fields: dict[str, Any]) -> dict[str, Any]:
        frames, rate = _typed(id, fields, "frames", list), fields.get("rate")
        if not frames or not all(isinstance(frame, bytes) for frame in frames):
            raise BadRecord(id, "missing frames", "`frames` must hold encoded pictures, at least one")
        if not isinstance(rate, int | float) or not 0 < rate < float("inf"):
            raise BadRecord(id, "wrong rate", f"`rate` is {rate!r}: frames per second were expected")
        caption = _checked(id, _typed(id, fields, "caption", str), "caption")
        return {"frames": tuple(frames), "rate": float(rate), "caption": caption}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audio(_OnDisk):
    """A sound as the bytes of a WAV file, and a caption."""

    MARK: ClassVar[str] = "sound"
    id: str
    sound: bytes
    caption: str
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def _unpacked(cls, id: str, fields: dict[str, Any]) -> dict[str, Any]:
        sound, caption = (_typed(id, fields, *field) for field in (("sound", bytes), ("caption", str)))
        return {"sound": sound, "caption": _checked(id, caption, "caption")}


AnyRecord = Record | Document | Conversation | Video | Audio
KINDS: tuple[type[AnyRecord], ...] = (Document, Conversation, Video, Audio, Record)


def decode(data: bytes) -> AnyRecord:
    """Reads a record of any kind.

    Raises:
      BadRecord: not a record, or one that breaks its schema; a map that says no kind is a broken `Record`.
    """
    fields = _fields(data)
    kind = next((kind for kind in KINDS if kind.MARK in fields), Record)
    return kind._read(fields)


def pictures(record: AnyRecord) -> tuple[bytes, ...]:
    """The encoded pictures of a record, frames included, in order."""
    if isinstance(record, Record):
        return (record.image,)
    return getattr(record, "images", getattr(record, "frames", ()))


def texts(record: AnyRecord) -> tuple[str, ...]:
    """The texts of a record, in order."""
    if isinstance(record, Document):
        return tuple(part for part in record.parts if isinstance(part, str))
    if isinstance(record, Conversation):
        return tuple(turn.text for turn in record.turns)
    return (record.caption,)


def _fields(data: bytes) -> dict[str, Any]:
    try:
        # Broken UTF-8 in a text must not hide the id the user needs to find the record.
        fields = msgpack.unpackb(data, unicode_errors="surrogateescape")
    except Exception as error:  # msgpack raises half a dozen unrelated types on malformed bytes
        raise BadRecord("", "not a record", f"not msgpack ({error or type(error).__name__})") from error
    if not isinstance(fields, dict):
        raise BadRecord("", "not a record", f"a map was expected, found {type(fields).__name__}")
    id = fields.get("id")
    if not isinstance(id, str) or not id:
        raise BadRecord("", "not a record", "the field `id` is missing or not text")
    return {**fields, "id": id.encode("utf-8", "replace").decode()}


def _typed(id: str, fields: Mapping[str, Any], name: str, kind: type) -> Any:
    if not isinstance(fields.get(name), kind):
        raise BadRecord(id, f"missing {name}", f"the field `{name}` is missing or not {kind.__name__}")
    return fields[name]


def _checked(id: str, text: str, what: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRecord(id, "broken UTF-8", f"the {what} breaks at character {error.start}") from error
    if not text.strip():
        raise BadRecord(id, f"empty {what}", f"the {what} has no text")
    if "\0" in text:
        raise BadRecord(id, f"NUL in {what}", f"the {what} holds a NUL at character {text.index(chr(0))}")
    return text
