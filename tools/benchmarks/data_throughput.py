"""Pictures per second from encoded records to batches, beside the usual loaders, on the same files.

    python -m tools.benchmarks.data_throughput [--directory DIR] [--rounds 3] [--seconds 30] [--minutes 10]

640x480 JPEG to 224 px (shorter side resized, centre cut out) and 77 tokens, in batches of 256 on 2 cores:

    mmjax        Pipeline, as `mmjax train` calls it, with the extra `fast-image` if installed; 2 processes
    threads      the same with 2 threads of this process in their place
    grain        plain Grain: the same records, Pillow, the same number of threads
    webdataset   WebDataset and torch's DataLoader, 2 workers, `decode("pilrgb")`, where they are installed
    ceiling      the decoder alone: 2 threads that decode and resize bytes in memory, with nothing around them

Each runs in a process of its own, in turn, `rounds` times, for `seconds`; ratios are between the medians.
Work on batches that are not finished at the end does not count, so that a window must hold many of them.
"per core" is pictures per second of a core's time, which does not depend on what else the machine does;
memory is the resident set (children included), and its growth over the second half. Pictures are synthetic,
with the 1/f spectrum of photographs, and written once. With --minutes, mmjax then runs alone for so long.
"""

import argparse
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from mmjax.data.images import ImageSpec
from mmjax.data.pipeline import DataConfig, Pipeline
from mmjax.data.records import Record
from mmjax.data.tokenizer import Tokenizer
from mmjax.data.worlds import world

PICTURES, SHARDS, SIZE, LENGTH, BATCH, CORES = 1024, 8, 224, 77, 256, 2
WORDS = ["a", "photo", "of", "the", "red", "big", "dog", "on", "some", "grass", "near", "two", "trees"]
SIDES = ("threads", "grain", "webdataset")
TARGETS = {"grain": 1.0, "webdataset": 1.0, "ceiling": 0.9}


def picture(seed: int) -> bytes:
    """A 640x480 JPEG of about 100 kB with the 1/f amplitude spectrum of photographs."""
    rng = np.random.default_rng(seed)
    down, across = np.fft.fftfreq(480)[:, None], np.fft.rfftfreq(640)[None]
    falloff = 1 / np.maximum(np.hypot(down, across), 1 / 640)
    spectrum = np.fft.rfft2(rng.normal(size=(480, 640, 3)), axes=(0, 1)) * falloff[..., None]
    pixels = np.fft.irfft2(spectrum, axes=(0, 1))
    pixels = 128 + 50 * (pixels - pixels.mean()) / pixels.std()
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def caption(number: int) -> str:
    return " ".join(np.random.default_rng(number).choice(WORDS, 14))


def write(directory: Path) -> None:
    """The same records as a world and as tar shards."""
    records = [Record(id=f"{i:06d}", image=picture(i), caption=caption(i)) for i in range(PICTURES)]
    shards = directory / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    for number in range(SHARDS):
        with tarfile.open(shards / f"{number:05d}.tar", "w") as tar:
            for record in records[number::SHARDS]:
                for suffix, data in (("jpg", record.image), ("txt", record.caption.encode())):
                    info = tarfile.TarInfo(f"{record.id}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    tokenizer = Tokenizer.train((record.caption for record in records), 1024)
    (directory / "tokenizer.json").write_text(tokenizer.to_json())
    world.write(directory / "world", {"train": records}, {})


def mmjax(directory: Path, tokenizer: Tokenizer, **settings):
    config = DataConfig(
        source=str(directory / "world"),
        image_size=SIZE,
        image_resize="center_crop",
        text_length=LENGTH,
        augment=None,
        cache_megabytes=0,
        **(settings or {"processes": CORES, "threads": 0}),
    )
    return Pipeline(config, tokenizer).train(BATCH, 0)


def threads(directory: Path, tokenizer: Tokenizer):
    return mmjax(directory, tokenizer, threads=CORES)


def pillow(image: Image.Image) -> np.ndarray:
    scale = SIZE / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = (width - SIZE) // 2, (height - SIZE) // 2
    image = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)))


def grain(directory: Path, tokenizer: Tokenizer):
    import grain

    def prepare(data: bytes) -> dict[str, np.ndarray]:
        record = Record.decode(data)
        image = pillow(Image.open(io.BytesIO(record.image)))
        return {"image": image, "tokens": tokenizer.row(record.caption, LENGTH)}

    source = grain.sources.ArrayRecordDataSource([str(directory / "world" / "train.arrayrecord")])
    dataset = grain.MapDataset.source(source).seed(0).shuffle().repeat().map(prepare).batch(BATCH)
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=CORES, prefetch_buffer_size=CORES)))


def webdataset(directory: Path, tokenizer: Tokenizer):
    import torch
    import webdataset

    def prepare(sample: tuple[Image.Image, str]) -> tuple[np.ndarray, np.ndarray]:
        return pillow(sample[0]), tokenizer.row(sample[1], LENGTH)

    shards = sorted(map(str, (directory / "shards").glob("*.tar")))
    dataset = webdataset.WebDataset(shards, resampled=True).shuffle(256)
    dataset = dataset.decode("pilrgb").to_tuple("jpg", "txt").map(prepare).batched(BATCH)
    return iter(torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=CORES))


def ceiling(directory: Path, tokenizer: Tokenizer):
    """Counts decoded pictures by the batch."""
    spec = ImageSpec(size=SIZE, resize="center_crop")
    source = world.World.open(directory / "world").source("train")
    data = [Record.decode(source[number]).image for number in range(PICTURES)]
    done, ready = [0] * CORES, threading.Condition()

    def work(thread: int) -> None:
        while True:
            for image in data[thread::CORES]:
                spec.pixels(image)
                done[thread] += 1
                if done[thread] % 32 == 0:
                    with ready:
                        ready.notify()

    for thread in range(CORES):
        threading.Thread(target=work, args=(thread,), daemon=True).start()
    for given in itertools.count(BATCH, BATCH):
        with ready:
            ready.wait_for(lambda given=given: sum(done) >= given)
        yield None


def processes() -> list[str]:
    """The numbers of this process and its children."""
    return ["self", *"".join(file.read_text() for file in Path("/proc/self/task").glob("*/children")).split()]


def resident() -> int:
    """Bytes in memory."""
    pages = (int(Path(f"/proc/{number}/statm").read_text().split()[1]) for number in processes())
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def worked() -> float:
    """Seconds of one core."""
    fields = (Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split() for number in processes())
    return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


def measure(side: str, directory: Path, seconds: float) -> dict[str, float]:
    """Batches for so long, after two that do not count."""
    tokenizer = Tokenizer.from_json((directory / "tokenizer.json").read_text())
    batches = globals()[side](directory, tokenizer)
    for _ in range(2):
        next(batches)
    start, before, count, sizes = time.monotonic(), worked(), 0, []
    while (now := time.monotonic() - start) < seconds or not count:
        next(batches)
        count += 1
        sizes.append(resident())
    half = sizes[len(sizes) // 2 :]
    fifth = max(len(half) // 5, 1)  # batches in flight come and go: medians tell growth from them
    return {
        "rate": count * BATCH / (time.monotonic() - start),
        "per_core": count * BATCH / (worked() - before),
        "resident": sizes[-1] / 2**20,
        "growth": (statistics.median(half[-fifth:]) - statistics.median(half[:fifth])) / 2**20,
        "seconds": now,
    }


def apart(side: str, directory: Path, seconds: float) -> dict[str, float] | None:
    """`measure` in a process of its own; None where the side is not installed."""
    command = [sys.executable, "-m", "tools.benchmarks.data_throughput", "--directory", str(directory)]
    done = subprocess.run(
        [*command, "--side", side, "--seconds", str(seconds)], capture_output=True, text=True, check=False
    )
    if "ModuleNotFoundError" in done.stderr:
        return None
    if not done.stdout.strip():
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def report(results: dict[str, list[dict[str, float]]]) -> None:
    """Prints the table."""

    def middle(side: str, figure: str) -> float:
        return statistics.median(run[figure] for run in results[side])

    heads = ("pictures/s", "mmjax is", "per core", "mmjax is", "target", "MiB", "growth")
    print(" " * 12 + "".join(f"{head:>12s}" for head in heads))
    for side, runs in results.items():
        if not runs:
            print(f"{side:12s}{'not installed':>24s}")
            continue
        cells = []
        for figure in ("rate", "per_core"):
            cells += [f"{middle(side, figure):.0f}", f"{middle('mmjax', figure) / middle(side, figure):.2f}x"]
        cells += [f"{TARGETS[side]:.1f}x" if side in TARGETS else ""]
        cells += [f"{runs[-1]['resident']:.0f}", f"{max(run['growth'] for run in runs):.1f}"]
        print(f"{side:12s}" + "".join(f"{cell:>12s}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, default=Path("~/.cache/mmjax/throughput").expanduser())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options.directory, options.seconds)), flush=True)
        os._exit(0)  # threads and workers of the peers do not end by themselves
    if not (options.directory / "world" / world.MANIFEST).exists():
        write(options.directory)
    sides = ["mmjax", *SIDES, "ceiling"]
    results = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            if result := apart(side, options.directory, options.seconds):
                results[side].append(result)
    report(results)
    if options.minutes:
        run = apart("mmjax", options.directory, 60 * options.minutes)
        print(
            f"mmjax alone for {run['seconds'] / 60:.1f} minutes: {run['rate']:.0f} pictures/s, "
            f"{run['resident']:.0f} MiB, {run['growth']:.1f} MiB growth in the second half"
        )


if __name__ == "__main__":
    main()
