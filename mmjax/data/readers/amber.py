"""AMBER (Wang et al. 2023): descriptions, and yes-or-no questions on existence, attributes and relations.

[data/]query/query_all.json                     [{id, image, query}]
[data/]annotations.json                         [{id, type, truth, hallu}], `truth` yes or no, or a list
[image/]AMBER_1.jpg
"""

from __future__ import annotations

from mmjax.data.readers import _layout as layout
from mmjax.data.records import IMAGE, BadRecord, Conversation, Turn
from mmjax.data.sources.splits import Splits


def open_path(path: str) -> Splits:
    """Opens the split "test"; a description is asked for without an answer, its objects are in its facts."""
    asked = layout.need(path, "query/query_all.json", "data/query/query_all.json")
    annotated = layout.need(path, "annotations.json", "data/annotations.json")

    def conversation(entry: layout.Entry) -> Conversation:
        name, truth = entry["image"], entry["known"]
        image = layout.picture(path, entry["id"], f"image/{name}", f"images/{name}", name)
        if isinstance(truth["truth"], str):
            return layout.question(
                entry["id"], image, entry["query"], truth["truth"], kind=truth["type"], picture=name
            )
        facts = {"kind": truth["type"], "objects": truth["truth"], "likely": truth.get("hallu", [])}
        turns = (Turn("user", f"{IMAGE}\n{entry['query']}"),)
        return Conversation(id=entry["id"], images=(image,), turns=turns, facts={**facts, "picture": name})

    return layout.splits(
        f"amber:{path}",
        {"test": lambda: _joined(asked, annotated)},
        conversation,
        caption=lambda entry: entry["query"],
    )


def _joined(asked: str, annotated: str) -> list[layout.Entry | BadRecord]:
    known = {one.get("id"): one for one in layout.good(annotated)}
    found: list[layout.Entry | BadRecord] = []
    for number, one in enumerate(layout.entries(asked)):
        if isinstance(one, BadRecord):
            found.append(one)
        elif one.get("id") not in known:
            found.append(BadRecord(str(one.get("id", number)), "missing answer", "annotations.json has none"))
        else:
            found.append({**one, "id": str(one["id"]), "known": known[one["id"]]})
    return found
