"""Pictures per second from encoded records to batches, beside the usual loaders, on the same files.

    python -m tools.benchmarks.data_throughput [--directory DIR] [--seconds 90] [--turn 3] [--minutes 10]

640x480 JPEG to 224 px (shorter side resized, centre cut out) and 77 tokens, in batches of 256 on 2 cores:

    mmjax        Pipeline, as `mmjax train` calls it, with the extra `fast-image` if installed; 2 processes
    threads      the same with 2 threads of this process in their place
    grain        plain Grain: the same records, Pillow, the same number of threads
    webdataset   WebDataset and torch's DataLoader, 2 workers, `decode("pilrgb")`, where they are installed
    ceiling      the decoder alone: 2 threads that decode and resize bytes in memory, with nothing around them

Each is a process of its own. All are started, then woken and halted in turns, so that one is awake at a
time, until each was awake for `seconds`. A side goes on where it was halted, so that no work is lost at the
edges, and whatever else slows the machine meets all sides alike. "per core" is pictures per second of one
core's time; memory is the resident set (children included). Pictures are synthetic, with the 1/f spectrum of
photographs, and written once. With --minutes, mmjax then runs alone for so long, to see if its memory grows.
"""

import argparse
import contextlib
import importlib.util
import io
import itertools
import os
import signal
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
SIDES = ("mmjax", "threads", "grain", "webdataset", "ceiling")
NEEDS = {"webdataset": ("webdataset", "torch")}
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
    dataset = webdataset.WebDataset(shards, resampled=True, shardshuffle=False).shuffle(256)
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


class Side:
    """A loader in a process of its own, which works only during its turns.

    Attributes:
      pictures: given so far.
      seconds: awake so far.
    """

    def __init__(self, name: str, directory: Path):
        command = [sys.executable, "-m", "tools.benchmarks.data_throughput", "--directory", str(directory)]
        self._process = subprocess.Popen(
            [*command, "--side", name],
            stdout=subprocess.PIPE,
            start_new_session=True,  # so that its workers halt and end with it
        )
        os.set_blocking(self._process.stdout.fileno(), False)
        self.pictures, self.seconds = 0, 0.0

    def begin(self) -> None:
        """Works through two batches that do not count."""
        while self.pictures < 2 * BATCH:
            self.turn(0.5)
        self.pictures, self.seconds, self._worked = 0, 0.0, self._work()

    def turn(self, seconds: float) -> None:
        if self._process.poll() is not None:
            raise SystemExit("A side has ended: its message is above.")
        os.killpg(self._process.pid, signal.SIGCONT)
        start = time.monotonic()
        time.sleep(seconds)
        os.killpg(self._process.pid, signal.SIGSTOP)
        self.seconds += time.monotonic() - start
        self.pictures += BATCH * len(self._process.stdout.read() or b"")

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def rate(self) -> float:
        return self.pictures / self.seconds

    @property
    def per_core(self) -> float:
        return self.pictures / (self._work() - self._worked)

    @property
    def resident(self) -> float:
        """MiB."""
        pages = (int((directory / "statm").read_text().split()[1]) for directory in self._processes())
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _processes(self) -> list[Path]:
        """It and its children."""
        own = Path("/proc", str(self._process.pid))
        children = "".join(file.read_text() for file in own.glob("task/*/children")).split()
        return [own, *(Path("/proc", number) for number in children)]

    def _work(self) -> float:
        """Seconds of one core."""
        fields = (
            (directory / "stat").read_text().rpartition(")")[2].split() for directory in self._processes()
        )
        return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


def serve(name: str, directory: Path) -> None:
    """What runs in the process of a side: a dot for each batch, until it is killed."""
    tokenizer = Tokenizer.from_json((directory / "tokenizer.json").read_text())
    for _ in globals()[name](directory, tokenizer):
        sys.stdout.write(".")
        sys.stdout.flush()


def report(sides: dict[str, Side | None]) -> None:
    """Prints the table."""
    heads = ("pictures/s", "mmjax is", "per core", "mmjax is", "target", "MiB")
    print(" " * 12 + "".join(f"{head:>12s}" for head in heads))
    for name, side in sides.items():
        if side is None:
            print(f"{name:12s}{'not installed':>24s}")
            continue
        cells = []
        for figure in ("rate", "per_core"):
            ours, theirs = getattr(sides["mmjax"], figure), getattr(side, figure)
            cells += [f"{theirs:.0f}", f"{ours / theirs:.2f}x"]
        cells += [f"{TARGETS[name]:.1f}x" if name in TARGETS else "", f"{side.resident:.0f}"]
        print(f"{name:12s}" + "".join(f"{cell:>12s}" for cell in cells), flush=True)


def alone(side: Side, minutes: float) -> None:
    """Prints whether its memory grows: batches in flight come and go, so medians are compared."""
    sizes = []
    side.pictures, side.seconds = 0, 0.0
    while side.seconds < 60 * minutes:
        side.turn(1.0)
        sizes.append(side.resident)
    half = sizes[len(sizes) // 2 :]
    fifth = max(len(half) // 5, 1)
    growth = statistics.median(half[-fifth:]) - statistics.median(half[:fifth])
    print(
        f"mmjax alone for {minutes:g} minutes: {side.rate:.0f} pictures/s, {sizes[-1]:.0f} MiB, "
        f"{growth:.1f} MiB growth in the second half"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, default=Path("~/.cache/mmjax/throughput").expanduser())
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--turn", type=float, default=3.0)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options.side, options.directory)
    if not (options.directory / "world" / world.MANIFEST).exists():
        write(options.directory)
    sides: dict[str, Side | None] = {}
    try:
        for name in SIDES:
            if all(map(importlib.util.find_spec, NEEDS.get(name, ()))):
                sides[name] = Side(name, options.directory)
                sides[name].begin()
            else:
                sides[name] = None
        there = [side for side in sides.values() if side]
        while any(side.seconds < options.seconds or not side.pictures for side in there):
            for side in there:
                side.turn(options.turn)
        report(sides)
        if options.minutes:
            alone(sides["mmjax"], options.minutes)
    finally:
        for side in filter(None, sides.values()):
            side.end()


if __name__ == "__main__":
    main()
