"""Where the members of a tar file lie, read from its headers alone (POSIX ustar, pax and GNU).

The standard library's reader ends at a damaged header as if the file ended there, which would lose records
silently; this one says where and why it stopped. Nothing is ever extracted.

A header is a block of 512 bytes: name [0:100], size in octal [124:136], checksum [148:156], type [156], link
[157:257], magic [257:263], name prefix [345:500]; the data follows, filled up to whole blocks.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import IO

BLOCK = 512
REGULAR, LINKS, DEVICES = b"0\0 7", b"12", b"346"
LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL, DIRECTORY = b"L", b"K", b"x", b"g", b"5"
MAX_HEADER = 1 << 20  # bytes of an extended header; a pax header of more is damage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """A file in a tar: `size` bytes from `offset` on. `kind` is "" or what makes it unusable."""

    name: str
    offset: int
    size: int
    kind: str = ""


class DamagedTar(Exception):
    """The tar ends or breaks at a place where it must not."""


def members(file: IO[bytes], length: int) -> Iterator[Member]:
    """The members of a tar of `length` bytes, without directories; links and unsafe names have a `kind`.

    Raises:
      DamagedTar: the file ends within a member or its header, or a header is no header.
    """
    offset, extended = 0, {}
    while True:
        file.seek(offset)
        header = file.read(BLOCK)
        if not header.strip(b"\0"):
            # Two blocks of zeros end a tar; writers that died before those are common and lose nothing.
            if len(header) in (0, BLOCK) and not extended:
                return
            raise DamagedTar(f"the file ends within a header at byte {offset}")
        if len(header) < BLOCK:
            raise DamagedTar(f"the file ends within a header at byte {offset}")
        name, size, flag = _parsed(header, offset)
        size = extended.pop("size", size) if flag not in PAX + PAX_GLOBAL + LONG_NAME + LONG_LINK else size
        start = offset + BLOCK
        if flag in LINKS + DEVICES + DIRECTORY:
            size = 0
        if start + size > length:
            raise DamagedTar(f"{name!r} ends at byte {start + size}, the file at byte {length}")
        offset = start + -(-size // BLOCK) * BLOCK
        if flag in PAX + LONG_NAME:
            extended |= _extended(file, start, size, flag)
        elif flag not in PAX_GLOBAL + LONG_LINK:
            name, extended = extended.get("path", name), {}
            if flag not in DIRECTORY:
                yield Member(name=name, offset=start, size=size, kind=_unusable(name, flag))


def _parsed(header: bytes, offset: int) -> tuple[str, int, bytes]:
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if _number(header[148:156], offset) != total:
        raise DamagedTar(f"the header at byte {offset} does not match its checksum")
    name = _text(header[:100])
    if header[257:262] == b"ustar" and header[345:500].strip(b"\0") and header[257:265] != b"ustar  \0":
        name = f"{_text(header[345:500])}/{name}"
    return name, _number(header[124:136], offset), header[156:157]


def _number(field: bytes, offset: int) -> int:
    if field[0] == 0x80:  # GNU: binary, for sizes beyond eight gigabytes
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError as error:
        raise DamagedTar(f"the header at byte {offset} has no number where one belongs") from error


def _extended(file: IO[bytes], start: int, size: int, flag: bytes) -> dict:
    if size > MAX_HEADER:
        raise DamagedTar(f"the extended header at byte {start} claims {size} bytes")
    file.seek(start)
    data = file.read(size)
    if flag == LONG_NAME:
        return {"path": _text(data)}
    found = {}
    while data:
        match = re.match(rb"(\d+) ", data)
        length = int(match[1]) if match else 0
        if not match or not len(match[0]) < length <= len(data) or data[length - 1 : length] != b"\n":
            raise DamagedTar(f"the extended header at byte {start} is damaged")
        key, _, value = data[len(match[0]) : length - 1].partition(b"=")
        if key == b"path":
            found["path"] = value.decode("utf-8", "surrogateescape")
        elif key == b"size":
            found["size"] = int(value) if value.isdigit() else _damaged(start)
        data = data[length:]
    return found


def _damaged(start: int) -> int:
    raise DamagedTar(f"the extended header at byte {start} has a size that is no number")


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _unusable(name: str, flag: bytes) -> str:
    if flag in LINKS:
        return "link in tar"
    if flag in DEVICES:
        return "device in tar"
    if flag not in REGULAR:
        return "unknown tar member"
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:", name):
        return "unsafe path"
    return ""
