"""Where the time of a run goes, and how much of the chips' peak it uses.

The host's clock alone is read, so nothing here waits for a device. Of each update the host spends
    input      waiting for the batch and handing it to the devices,
    dispatch   starting the update,
    device     waiting for the metrics of the update before,
and a run is bound by the devices when the last is most of it. Compilation, saving and evaluation are counted
apart.
"""

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax

from mmjax.errors import UserError
from mmjax.sharding.chips import CHIPS

UPDATE = ("input", "dispatch", "device")
KINDS = {  # `device_kind` of JAX -> chip
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "TPU7x": "tpu7x",
}
# Dense bf16 FLOP/s of NVIDIA's data sheets (float16 where a chip has no bf16).
GPU_FLOPS = {"H200": 9.89e14, "H100": 9.89e14, "A100": 3.12e14, "L4": 1.21e14, "T4": 6.5e13}


def peak_flops(devices: Sequence[jax.Device]) -> float | None:
    """bf16 FLOP/s of the chips that `devices` are, or are cores of; None where a chip is in neither table."""
    chips = {(getattr(d, "slice_index", 0), tuple(getattr(d, "coords", (d.id,)))): d for d in devices}
    peaks = [_peak_of(device.device_kind) for device in chips.values()]
    return None if None in peaks else sum(peaks)


def _peak_of(kind: str) -> float | None:
    """Example: 'NVIDIA H100 80GB HBM3', 'Tesla T4', 'TPU v5e'."""
    if kind in KINDS:
        return CHIPS[KINDS[kind]].flops
    words = kind.replace("-", " ").split()
    return next((peak for name, peak in GPU_FLOPS.items() if name in words), None)


@dataclasses.dataclass(kw_only=True)
class Telemetry:
    """Adds up the phases of a run and turns them into metrics.

    Attributes:
      batch_size: rows of an update.
      devices: all devices of the run.
      model_flops: of one update, see `mmjax.training.trainer.model_flops`; None where they are not known.
      doing: the phase the run is in, for who asks from another thread.
    """

    batch_size: int
    devices: Sequence[jax.Device]
    model_flops: float | None = None
    clock: Callable[[], float] = time.monotonic
    doing: str = "start"

    def __post_init__(self):
        self._start = self._since = self.clock()
        self._total, self._line = Counter(), Counter()
        self._updates = 0

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the time inside as `name`."""
        before, self.doing, start = self.doing, name, self.clock()
        try:
            yield
        finally:
            spent = self.clock() - start
            self._total[name] += spent
            self._line[name] += spent
            self.doing = before

    def count(self) -> None:
        """One more update is finished."""
        self._updates += 1

    def metrics(self) -> dict[str, float]:
        """What happened since the last call.

        `seconds/compile` stands in the first line alone, which has no rates: its updates waited for the
        compiler. `goodput` is the share of the whole run so far that went into updates, waits for input
        not included.
        """
        now, line, updates = self.clock(), self._line, self._updates
        other = sum(seconds for name, seconds in line.items() if name not in UPDATE)
        step = max(now - self._since - other, 1e-9) / max(updates, 1)
        self._since, self._line, self._updates = now, Counter(), 0
        if "compile" in line:
            return {"seconds/compile": line["compile"], **self._memory()}
        lost = sum(seconds for name, seconds in self._total.items() if name not in ("dispatch", "device"))
        return {
            "seconds/step": step,
            **{f"seconds/{name}": line[name] / max(updates, 1) for name in UPDATE},
            "examples_per_second": self.batch_size / step,
            "input_wait_share": line["input"] / max(updates, 1) / step,
            "goodput": max(1 - lost / max(now - self._start, 1e-9), 0.0),
            **self._flops(step),
            **self._memory(),
        }

    def _flops(self, step: float) -> dict[str, float]:
        if not self.model_flops:
            return {}
        rate, peak = self.model_flops / step, peak_flops(self.devices)
        return {"model_flops_per_second": rate, **({"mfu": rate / peak} if peak else {})}

    def _memory(self) -> dict[str, float]:
        """The most memory any device of this process ever had in use, where the backend tells."""
        mine = [device for device in self.devices if device.process_index == jax.process_index()]
        peak = max((device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in mine)
        return {"memory/peak_bytes": float(peak)} if peak else {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """The updates that `--profile START:COUNT` asks for."""

    start: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Window":
        """Raises UserError for what is not START:COUNT."""
        start, _, count = text.partition(":")
        if not (start.isdigit() and count.isdigit() and int(start) and int(count)):
            raise UserError(f"--profile={text} is not of the form START:COUNT, such as 20:5")
        return cls(start=int(start), count=int(count))


class Profiler:
    """Traces a window of updates to WORKDIR/profile, which TensorBoard's and XProf's viewers read."""

    def __init__(self, window: Window | None, workdir: Path):
        self._window, self._directory = window, workdir / "profile"
        self._running = False

    def before(self, number: int) -> None:
        """Call before update `number` is started."""
        window = self._window
        if window is None:
            return
        if self._running and number >= window.start + window.count:
            self._stop()
        elif not self._running and number == window.start:
            jax.profiler.start_trace(str(self._directory))
            self._running = True

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._running, self._window = False, None

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._running:
            self._stop()
