"""Kills a training run again and again, and compares what becomes of it with a run that was left alone.

    python tools/torture.py --kills 20 --workdir /tmp/torture

Each kill is a `kill -9` at a random time: during start-up, training, or the save that comes every few
updates. What must hold: every restart goes on from the newest checkpoint that was finished when the kill
came, and in the end every array of the state equals that of the undisturbed run, bit for bit.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import tensorstore

LONGEST = 3.0  # seconds from a run's first update to its kill, at most


def train(arguments: argparse.Namespace, workdir: Path, steps: int, log: Path) -> subprocess.Popen:
    """`mmjax train`, started."""
    command = [
        sys.executable,
        "-m",
        "mmjax",
        "train",
        "--config",
        arguments.config,
        "--workdir",
        str(workdir),
    ]
    settings = {
        "data.source": arguments.workdir / "world",
        "training.steps": steps,
        "training.checkpoint_every": arguments.every,
        "training.evaluate_every": 0,
        "training.log_every": 1,
        "training.batch_size": 8,
        "optimizer.schedule": "constant",  # so that an update does not depend on how many there will be
    }
    command += [f"--config.{key}={value}" for key, value in settings.items()]
    with log.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=file)


def finished(workdir: Path) -> int:
    """The newest finished checkpoint; 0 for none."""
    folder = workdir / "checkpoints"
    return max((int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()), default=0)


def resumed(log: Path) -> int | None:
    """After which update the run went on; 0 for a fresh one, None as long as it has not started."""
    text = log.read_text(errors="replace")
    found = re.search(r"resuming after update (\d+)", text)
    return int(found[1]) if found else (0 if "example/s" in text else None)


def kill_once(arguments: argparse.Namespace, workdir: Path, dice: random.Random, log: Path) -> str:
    """Starts a run and kills it; returns what happened. Raises AssertionError where work was lost."""
    before = finished(workdir)
    process = train(arguments, workdir, 1_000_000, log)
    start = time.monotonic()
    early = dice.random() < 0.2
    moment = dice.uniform(0, LONGEST)
    while True:
        if early and time.monotonic() - start > moment:
            break
        if not early and resumed(log) is not None and finished(workdir) > before:
            time.sleep(moment)
            break
        assert process.poll() is None, log.read_text()[-2000:]
        time.sleep(0.01)
    process.kill()
    process.wait()
    went_on, after = resumed(log), finished(workdir)
    assert went_on in (None, before), f"went on from {went_on}, but {before} was finished"
    assert after >= before
    half = sum("tmp" in path.name for path in (workdir / "checkpoints").glob("*"))
    state = "before it trained" if went_on is None else f"went on from {went_on}"
    return f"{state}, finished {after} since, {half} unfinished save(s) left behind"


def arrays(workdir: Path, step: int) -> dict[str, tuple[tuple[int, ...], str, bytes]]:
    """Shape, type and content of every array of a checkpoint."""
    base = f"file://{workdir / 'checkpoints' / str(step) / 'state'}/"
    keys = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result().list().result()
    names = sorted(key.decode().removesuffix("/zarr.json") for key in keys if key.endswith(b"/zarr.json"))
    stores = {
        name: {"driver": "zarr3", "kvstore": {"driver": "ocdbt", "base": base, "path": f"{name}/"}}
        for name in names
    }
    values = {name: tensorstore.open(spec).result().read().result() for name, spec in stores.items()}
    return {name: (value.shape, str(value.dtype), value.tobytes()) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--config", default="language:tiny")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=int, default=3, help="updates from one save to the next")
    parser.add_argument("--seed", type=int, default=0, help="of the times of the kills")
    parser.add_argument("--workdir", type=Path, required=True, help="is emptied first")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.workdir, ignore_errors=True)
    arguments.workdir.mkdir(parents=True)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    build = [sys.executable, "-m", "mmjax", "data", "build", "openmoji", "--limit", "120", "--size", "32"]
    subprocess.run([*build, "--output", str(arguments.workdir / "world")], check=True, capture_output=True)

    dice, tortured = random.Random(arguments.seed), arguments.workdir / "tortured"
    for number in range(1, arguments.kills + 1):
        log = arguments.workdir / f"{number}.log"
        print(f"kill {number}: {kill_once(arguments, tortured, dice, log)}", flush=True)
    steps = finished(tortured) + 2 * arguments.every
    for workdir in (tortured, arguments.workdir / "undisturbed"):
        log = arguments.workdir / f"{workdir.name}.log"
        if code := train(arguments, workdir, steps, log).wait():
            sys.exit(f"the run in {workdir} ended with code {code}; see {log}")
    one, other = arrays(tortured, steps), arrays(arguments.workdir / "undisturbed", steps)
    if different := sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)):
        sys.exit(f"after {steps} updates these arrays differ: {', '.join(different)}")
    size = sum(len(content) for _, _, content in one.values())
    print(f"after {steps} updates all {len(one)} arrays ({size:,} bytes) equal the undisturbed run's bits")


if __name__ == "__main__":
    main()
