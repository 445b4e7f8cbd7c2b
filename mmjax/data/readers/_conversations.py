"""Entries of LLaVA's form: {id, image, conversations: [{from: human | gpt | system, value}]}."""

from __future__ import annotations

from collections.abc import Sequence

from mmjax.data.readers import _layout as layout
from mmjax.data.records import IMAGE, BadRecord, Conversation, Turn

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def conversation(entry: layout.Entry, root: str, folders: Sequence[str]) -> Conversation:
    """The conversation of an entry, its pictures from one of `folders` below `root`.

    Where the turns do not say where the pictures stand, they stand in front of the first turn of the user.
    """
    names = entry.get("image") or []
    names = [names] if isinstance(names, str) else list(names)
    images = tuple(
        layout.picture(root, entry["id"], *(f"{folder}{name}" for folder in folders)) for name in names
    )
    turns = [Turn(_role(entry["id"], one["from"]), one["value"]) for one in entry["conversations"]]
    if images and not any(IMAGE in turn.text for turn in turns):
        turns = placed(entry["id"], turns, len(images))
    return Conversation(
        id=entry["id"], images=images, turns=tuple(turns), facts={"pictures": names} if names else {}
    )


def placed(id: str, turns: list[Turn], pictures: int) -> list[Turn]:
    """The turns with the marks of the pictures in front of the user's first."""
    first = next((i for i, turn in enumerate(turns) if turn.role == "user"), None)
    if first is None:
        raise BadRecord(id, "image marks", "no turn of the user can hold the pictures")
    text = f"{IMAGE}\n" * pictures + turns[first].text
    return [*turns[:first], Turn("user", text), *turns[first + 1 :]]


def text(entry: layout.Entry) -> str:
    """All that is said."""
    return " ".join(one["value"] for one in entry["conversations"])


def _role(id: str, name: str) -> str:
    if name not in ROLES:
        raise BadRecord(id, "unknown role", f"the role {name!r} is not one of {', '.join(ROLES)}")
    return ROLES[name]
