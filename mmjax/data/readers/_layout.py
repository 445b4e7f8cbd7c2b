"""What the readers share: finding the files of a release, and turning its entries into records.

An entry that lacks a field, or has one of another type, is a bad record in its place; a file that the release
should have and that is not there is an error that says what was looked for.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mmjax.data.records import IMAGE, AnyRecord, BadRecord, Conversation, Record, Turn
from mmjax.data.sources import files
from mmjax.data.sources.access import Rows, Source
from mmjax.data.sources.splits import Splits
from mmjax.errors import UserError

Entry = Mapping[str, Any]
Load = Callable[[], Iterable[Entry | BadRecord]]


def find(root: str, *names: str) -> str:
    """The first of `names` (globs) below `root`, or ""."""
    for name in names:
        if found := sorted(glob.glob(os.path.join(glob.escape(root), name))):
            return found[0]
    return ""


def need(root: str, *names: str) -> str:
    """As `find`; UserError where there is none."""
    if found := find(root, *names):
        return found
    raise UserError(f"{root} has no {' or '.join(names)}: give the folder that holds the published files.")


def splits(
    name: str,
    loads: Mapping[str, Load],
    make: Callable[[Entry], AnyRecord],
    *,
    caption: Callable[[Entry], str] | None = None,
) -> Splits:
    """A data set whose splits are loaded when asked for: entries -> records. UserError where it has none."""
    if not loads:
        raise UserError(f"{name} has none of the published files: give the folder that holds them.")

    def opener(load: Load) -> Callable[[], Source]:
        return lambda: Rows(list(unique(load())), guarded(make), caption=caption and guarded(caption))

    return Splits(name, {split: opener(load) for split, load in loads.items()})


def guarded(make: Callable[[Entry], Any]) -> Callable[[Entry], Any]:
    """`make`, where an entry of another form is a bad record."""

    def made(entry: Entry) -> Any:
        try:
            return make(entry)
        except (KeyError, IndexError) as error:
            raise BadRecord(_id(entry), "missing field", f"the entry has no {error}") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise BadRecord(
                _id(entry), "wrong type", f"a field of the entry is of another type ({error})"
            ) from error

    return made


def unique(entries: Iterable[Entry | BadRecord]) -> Iterable[Entry | BadRecord]:
    """The entries, a repeated `id` replaced by a bad record."""
    seen = set()
    for entry in entries:
        if isinstance(entry, BadRecord):
            yield entry
            continue
        id = _id(entry)
        yield BadRecord(id, "repeated id", "an earlier entry has the same id") if id in seen else entry
        seen.add(id)


def entries(path: str, *keys: str) -> list[Entry | BadRecord]:
    """The objects in a JSON file: the file itself or what it holds under the first of `keys` it has.

    Raises:
      UserError: the file is not JSON, or there is no list there.
    """
    value = files.read_json(path)
    if isinstance(value, dict) and keys:
        value = next((value[key] for key in keys if key in value), None)
    if not isinstance(value, list):
        raise UserError(
            f"{path} holds no list{' under ' + ' or '.join(keys) if keys else ''}: fetch it again."
        )
    name = os.path.basename(path)
    return [
        one
        if isinstance(one, dict)
        else BadRecord(f"{name} entry {i}", "not a JSON object", f"found {one!r:.40}")
        for i, one in enumerate(value)
    ]


def good(path: str, *keys: str) -> list[Entry]:
    """As `entries`, for tables that others refer to: what is no object in them is left for its referrers."""
    return [entry for entry in entries(path, *keys) if not isinstance(entry, BadRecord)]


def numbered(found: Iterable[Entry | BadRecord], id: Callable[[Entry], Any]) -> list[Entry | BadRecord]:
    """The entries with their `id` as text, from what each calls it."""
    result: list[Entry | BadRecord] = []
    for number, entry in enumerate(found):
        if isinstance(entry, BadRecord):
            result.append(entry)
            continue
        try:
            result.append({**entry, "id": str(id(entry))})
        except (KeyError, TypeError, ValueError) as error:
            result.append(BadRecord(f"entry {number}", "missing field", f"the entry has no {error}"))
    return result


def picture(root: str, id: str, *names: str) -> bytes:
    """The first of the named picture files below `root` that is there.

    Raises:
      BadRecord: none is.
    """
    for name in names[:-1]:
        try:
            return files.read_picture(id, root, name)
        except BadRecord as bad:
            if bad.kind != "missing picture":
                raise
    return files.read_picture(id, root, names[-1])


def captioned(
    id: str, image: bytes, captions: Sequence[str], *, name: str, facts: Entry | None = None
) -> Record:
    """A picture with its first caption; all of them, where several, and its name go into `facts`."""
    if not captions:
        raise BadRecord(id, "missing caption", "the picture has no caption")
    told = {"picture": name, **({"captions": list(captions)} if len(captions) > 1 else {}), **(facts or {})}
    return Record(id=id, image=image, caption=captions[0], facts=told)


def question(
    id: str,
    image: bytes,
    text: str,
    answer: str | None,
    *,
    kind: str,
    answers: Sequence[str] = (),
    **facts: Any,
) -> Conversation:
    """A question about a picture, and its answer where the release gives one.

    `answers` are all that people gave; facts that are None are left out.
    """
    if not isinstance(text, str) or not isinstance(answer, str | None):
        raise TypeError("question and answer must be text")
    if not text.strip():
        raise BadRecord(id, "empty text", "the question has no text")
    turns = [Turn("user", f"{IMAGE}\n{text}")]
    if answer is not None:
        turns.append(Turn("assistant", answer))
    all_answers = list(answers) or ([answer] if answer is not None else [])
    told = {"kind": kind, "answers": all_answers, **{k: v for k, v in facts.items() if v is not None}}
    return Conversation(id=id, images=(image,), turns=tuple(turns), facts=told)


def commonest(answers: Sequence[str]) -> str | None:
    """The answer most people gave, the first of equals; None where there is none."""
    return max(answers, key=answers.count) if answers else None


def _id(entry: Entry) -> str:
    return str(entry.get("id", "?")) if isinstance(entry, Mapping) else "?"
