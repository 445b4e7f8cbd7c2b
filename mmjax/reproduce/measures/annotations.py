"""What public files of questions, annotations and captions hold."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.errors import UserError
from mmjax.evaluation import consensus, ptb
from mmjax.evaluation.amber import KINDS
from mmjax.reproduce.files import Files


def pope_questions(files: Files, name: str) -> tuple[int, int, int, int]:
    """(questions, of them with yes, with no; pictures) of a POPE file, one JSON object a line."""
    path = files.path(name)
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    asked = [_json(line, path) for line in lines]
    labels = Counter(one["label"] for one in asked)
    return len(asked), labels["yes"], labels["no"], len({one["image"] for one in asked})


def amber_queries(files: Files, name: str) -> tuple[int, ...]:
    """(all, generative, discriminative; existence, state, number, action, relation) of AMBER's file."""
    path = files.path(name)
    kinds = Counter(one["type"] for one in _json(path.read_text(encoding="utf-8"), path))
    generative, total = kinds.pop("generative", 0), kinds.total()
    named = Counter()
    for kind, count in kinds.items():
        named[KINDS.get(kind, "relation")] += count
    split = (named[kind] for kind in ("existence", "state", "number", "action", "relation"))
    return generative + total, generative, total, *split


def amber_answers(files: Files, name: str, kind: str) -> tuple[int, int]:
    """(yes, no): the right answers of one kind of AMBER's questions."""
    path = files.path(name)
    annotations = _json(path.read_text(encoding="utf-8"), path)
    truths = Counter(
        one["truth"]
        for one in annotations
        if one["type"] != "generative" and KINDS.get(one["type"], "relation") == kind
    )
    return truths["yes"], truths["no"]


def cider_d(files: Files, candidates: str, references: str) -> tuple[float, ...]:
    """CIDEr-D of each caption, and their mean, of `{picture: caption}` and `{picture: [caption, ...]}`."""
    said, known = (
        _json(path.read_text(encoding="utf-8"), path) for path in map(files.path, (candidates, references))
    )
    scores = consensus.cider_d(
        [ptb.words(caption) for caption in said.values()],
        [[ptb.words(caption) for caption in known[picture]] for picture in said],
    )
    return (*map(float, scores), float(np.mean(scores)))


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}): download it again.") from error
