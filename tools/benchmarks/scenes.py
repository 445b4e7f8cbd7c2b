"""Pictures of the scenes world per second, and what each of its parts takes.

    python -m tools.benchmarks.scenes [--size 64] [--count 4000] [--processes 2]

Every scene is drawn once, so nothing is served from a cache but the sprites. Two figures a line: per second
on the clock, and per second of core time, which a busy machine hardly changes. The last line adds up the
processes: scene and picture.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable, Sequence

from mmjax.data.worlds.scenes import Maker, Painter, Scenes, check
from mmjax.data.worlds.scenes.captions import caption
from mmjax.data.worlds.scenes.picture import encode, sides
from mmjax.data.worlds.scenes.vocabulary import COLOURS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    print(f"{'':<36} {'on the clock':>14} {'of core time':>14}")
    parts(arguments.size, arguments.count)
    work = [(arguments.size, arguments.count, seed) for seed in range(arguments.processes)]
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        clock, core = map(sum, zip(*pool.starmap(paint, work), strict=True))
    _tell(f"scene and picture, {arguments.processes} processes", clock, core)


def paint(size: int, count: int, seed: int) -> tuple[float, float]:
    """Scenes drawn by one process per second and per second of its core, with all sprites at hand."""
    scenes, painter = Scenes(seed=seed), Painter(size)
    canvas = painter.background("grass", 0)
    for kind in scenes.kinds:
        for colour in (None, *COLOURS):
            for side in sides(size):
                painter.put(canvas, kind.name, colour, (0, 0, side / size, side / size))
    start = _now()
    for index in range(count):
        painter.paint(scenes.scene("train", index))
    clock, core = (now - then for now, then in zip(_now(), start, strict=True))
    return count / clock, count / core


def parts(size: int, count: int) -> None:
    """Prints what each step of making a record takes, in one process."""
    scenes, painter = Scenes(), Painter(size)
    made = _timed("scene", range(count), lambda index: scenes.scene("train", index))
    _timed("picture, sprites not yet tinted", made, painter.paint)
    pictures = _timed("picture", made, painter.paint)
    _timed("PNG", pictures, encode)
    texts = _timed("caption", range(count), lambda i: caption(made[i], scenes.random("train", i, "text")))
    _timed("check of a caption", range(count), lambda i: check(made[i], texts[i]))
    maker = Maker(scenes=scenes, size=size)
    _timed(
        "record of a question, encoded",
        range(count),
        lambda i: maker.record("questions", "train", i).encode(),
    )


def _timed(name: str, items: Sequence, make: Callable) -> list:
    start = _now()
    results = [make(item) for item in items]
    _tell(name, *(len(results) / (now - then) for now, then in zip(_now(), start, strict=True)))
    return results


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _tell(name: str, clock: float, core: float) -> None:
    print(f"{name:<36} {clock:>12.0f}/s {core:>12.0f}/s", flush=True)


if __name__ == "__main__":
    main()
