"""Reading files that may be far away, and may go away.

Paths are local or `gs://`. A read that fails is tried again after a moment, a few times; a container that
stays away stops the run with one sentence, while one missing picture among many is one bad record.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from absl import logging
from etils import epath

from mmjax.data.records import BadRecord
from mmjax.errors import UserError

DELAYS = (0.1, 0.5, 2.0)  # seconds before each new attempt
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
NO_SUCH_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)

T = TypeVar("T")


def persistent(path: str | os.PathLike, read: Callable[[], T]) -> T:
    """`read()`, tried again when it fails as a disk or a network fails.

    Raises:
      UserError: it still fails; names `path`.
    """
    for delay in (*DELAYS, None):
        try:
            return read()
        except OSError as error:
            reason = error.strerror or str(error)
            if delay is None:
                raise UserError(
                    f"{os.fspath(path)} cannot be read any more ({reason}; tried {len(DELAYS) + 1} times): "
                    "bring it back and start again; a run resumes from its last checkpoint."
                ) from error
        logging.warning("%s cannot be read (%s): trying again in %g s", os.fspath(path), reason, delay)
        time.sleep(delay)
    raise AssertionError("unreachable")


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path names a bucket rather than a local file."""
    return "://" in os.fspath(path)


def open_binary(path: str | os.PathLike) -> Any:
    """A file object for reading bytes; raises OSError."""
    return epath.Path(path).open("rb") if is_remote(path) else open(path, "rb")


def read_range(path: str | os.PathLike, offset: int, size: int) -> bytes:
    """Up to `size` bytes from `offset` on. Opens anew each time: any number of shards and threads."""

    def read() -> bytes:
        with open_binary(path) as file:
            file.seek(offset)
            return file.read(size)

    return persistent(path, read)


def read_bytes(path: str | os.PathLike) -> bytes:
    """A whole file that the source cannot do without; UserError if it cannot be read."""

    def read() -> bytes:
        with open_binary(path) as file:
            return file.read()

    return persistent(path, read)


def read_text(path: str | os.PathLike) -> str:
    """A whole text file; bytes that are not UTF-8 stay as surrogates, so that their row can be named."""
    text = read_bytes(path).decode("utf-8", "surrogateescape")
    return text.removeprefix("\ufeff")


def read_json(path: str | os.PathLike) -> Any:
    """The value in a JSON file.

    Raises:
      UserError: it cannot be read or is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{os.fspath(path)} is not JSON ({error}): fetch or write the file again.") from error


def read_picture(id: str, folder: str | os.PathLike, name: Any) -> bytes:
    """The bytes of the picture file `name` inside `folder`.

    Raises:
      BadRecord: `name` is no file name, leaves the folder, or there is no such file.
      UserError: the folder itself has gone or its disk fails.
    """
    path = inside(id, folder, name)
    try:
        with open_binary(path) as file:
            return file.read()
    except NO_SUCH_FILE as error:
        if epath.Path(folder).is_dir():
            raise BadRecord(id, "missing picture", f"there is no file {path}") from error
        return persistent(folder, lambda: _readable(folder, path))
    except PermissionError as error:
        raise BadRecord(id, "unreadable picture", f"{path} may not be read") from error
    except OSError:
        return read_bytes(path)


def _readable(folder: str | os.PathLike, path: str) -> bytes:
    if not epath.Path(folder).is_dir():
        raise FileNotFoundError(errno.ENOENT, "the folder has disappeared", os.fspath(folder))
    with open_binary(path) as file:
        return file.read()


def inside(id: str, folder: str | os.PathLike, name: Any) -> str:
    """`folder`/`name`, where that stays inside the folder.

    Raises:
      BadRecord: `name` is not text, is empty, an address, or leaves the folder.
    """
    if not isinstance(name, str) or not name.strip():
        raise BadRecord(id, "missing image", "the row names no picture file")
    if "\0" in name or not _encodable(name):
        raise BadRecord(id, "broken file name", f"{name!r} cannot be the name of a file")
    if name.split("://")[0] in ("http", "https", "ftp", "data"):
        raise BadRecord(id, "picture not here", f"{name[:200]} is an address: fetch the pictures first")
    root = os.fspath(folder) if is_remote(folder) else os.path.normpath(os.fspath(folder) or ".")
    path = os.path.join(root, name) if is_remote(folder) else os.path.normpath(os.path.join(root, name))
    stays = root == "." or os.path.join(path, "").startswith(os.path.join(root, ""))
    if not stays or ".." in path.replace("\\", "/").split("/") or (root == "." and os.path.isabs(path)):
        raise BadRecord(
            id, "path outside the folder", f"{name!r} leads out of {root}: move it, or set the option folder"
        )
    return path


def stamp(path: str | os.PathLike) -> tuple[int, str]:
    """(bytes, time of change) of a file: what shows that it is no longer the file it was."""
    if is_remote(path):
        stat = persistent(path, lambda: epath.Path(path).stat())
        return stat.length, repr(stat.mtime)
    stat = persistent(path, lambda: os.stat(path))
    return stat.st_size, str(stat.st_mtime_ns)


def cache(*parts: str) -> str:
    """A path in the user's cache directory."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(home, "mmjax", *parts)


def local(path: str | os.PathLike) -> str:
    """The path itself or, of a remote file, that of a copy in the cache: for readers that know no buckets."""
    if not is_remote(path):
        return os.fspath(path)
    size, changed = stamp(path)
    digest = hashlib.sha256(f"{os.fspath(path)} {size} {changed}".encode()).hexdigest()
    copy = cache("files", digest)
    if not os.path.exists(copy):
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        partial = f"{copy}.{os.getpid()}.partial"
        persistent(path, lambda: epath.Path(path).copy(partial, overwrite=True))
        os.replace(partial, copy)
    return copy


def listing(folder: str | os.PathLike) -> Sequence[str]:
    """The sorted names in a folder; () where there is none."""
    try:
        if is_remote(folder) and not epath.Path(folder).is_dir():
            return ()  # buckets list a file as what is in it
        return sorted(entry.name for entry in epath.Path(folder).iterdir())
    except OSError:
        return ()


def _encodable(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
