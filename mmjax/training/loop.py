"""The training loop: one for every system.

What holds, in the order in which things happen:

1. The state after n updates is a pure function of (config, n). The batch and the random key of update n
   depend on (seed, n) alone, so a run that stops and resumes ends in the same bits as one that does not.
2. The host never waits for the device inside the loop: update n + 1 is dispatched before the metrics of
   update n are read. That wait, one update behind, is all that bounds how far ahead the host runs.
3. Metrics are read before the state they describe is saved: a checkpoint holds finite numbers only. The first
   loss or gradient that is not finite freezes the state on the device (`TrainState.healthy`), so what is
   saved for diagnosis is the state just before it, even though the next update is already under way.
4. After update n, each if it is due: log, save (asynchronously), evaluate. The last update is always logged
   and saved. A SIGTERM saves after the update in progress, waits for the disk and exits with code 75.
5. Nothing is copied between host and device behind our back: but for saving and evaluating,
   `jax.transfer_guard` forbids it.
"""

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from mmjax.errors import UserError
from mmjax.sharding import ShardingConfig, activate, put_batch
from mmjax.systems.system import System
from mmjax.training import checkpoints as checkpointing
from mmjax.training import optimizers
from mmjax.training.metrics import Metrics
from mmjax.training.state import TrainState
from mmjax.training.trainer import Trainer, TrainingConfig

EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: run the same command again
DIAGNOSIS = "diagnosis"

Batches = Callable[
    [int], Iterable[Mapping[str, np.ndarray]]
]  # first step -> this process's batches from there
Evaluate = Callable[[int, Any], Mapping[str, float]]  # (step, parameters) -> metrics


class Interrupted(SystemExit):
    """SIGTERM came, everything is saved; the process exits with `EXIT_INTERRUPTED`."""

    def __init__(self):
        super().__init__(EXIT_INTERRUPTED)


def train(
    system: System,
    *,
    config: TrainingConfig,
    optimizer: optimizers.OptimizerConfig,
    sharding: ShardingConfig,
    batches: Batches,
    workdir: str | Path,
    run: Mapping[str, Any] | None = None,
    evaluate: Evaluate | None = None,
) -> TrainState:
    """Trains to `config.steps` updates, resuming from the newest checkpoint in `workdir` if there is one.

    Args:
      batches: called once with the first step to do; gives this process's rows of every global batch. If the
        iterator has a `close`, it is called at the end.
      run: JSON stored with every checkpoint (see `mmjax.training.checkpoints`).
      evaluate: given the step and the parameters (the EMA where there is one), returns metrics to log.

    Raises:
      UserError: something does not fit, or the loss is no longer finite.
      Interrupted: SIGTERM came; everything is saved.
    """
    workdir = Path(workdir)
    trainer = Trainer.prepare(system, config=config, optimizer=optimizer, sharding=sharding)
    with checkpointing.Checkpoints(workdir, keep=config.keep) as checkpoints, _sigterm() as terminated:
        if checkpoints.latest is None:
            state, first = trainer.create(), 0
        else:
            state, data, _ = checkpoints.restore(trainer.target)
            first = data["step"]
        if first >= config.steps:
            return state
        with (
            activate(trainer.mesh, trainer.rules),
            Metrics(workdir, start_step=first) as metrics,
            _progress(config, first) as progress,
        ):
            log = _Log(config=config, metrics=metrics, progress=progress)
            iterator = iter(batches(first))
            try:
                with jax.transfer_guard("disallow"):
                    return _loop(
                        trainer, state, first, iterator, log, checkpoints, run or {}, evaluate, terminated
                    )
            except _NotFinite as problem:
                raise UserError(_diagnose(workdir, problem, checkpoints, run or {})) from problem
            finally:
                getattr(iterator, "close", lambda: None)()


def _loop(
    trainer: Trainer,
    state: TrainState,
    first: int,
    iterator: Iterator[Mapping[str, np.ndarray]],
    log: "_Log",
    checkpoints: checkpointing.Checkpoints,
    run: Mapping[str, Any],
    evaluate: Evaluate | None,
    terminated: threading.Event,
) -> TrainState:
    config = trainer.config
    pending = None  # (number, metrics) of the newest update whose metrics were not read yet
    try:
        for number in range(first + 1, config.steps + 1):
            state, metrics = trainer.step(state, put_batch(next(iterator), trainer.mesh))
            log.read(pending)
            pending = (number, metrics)

            stop = _must_stop(terminated, number)
            last = number == config.steps
            if stop or last or _due(number, config.checkpoint_every):
                log.read(pending)
                pending = None
                with jax.transfer_guard("allow"):
                    checkpoints.save(number, state, data={"step": number}, run=run)
            if evaluate and config.evaluate_every and (last or _due(number, config.evaluate_every)):
                log.read(pending)
                pending = None
                params = state.params if state.ema is None else optimizers.merge(state.params, state.ema)
                with jax.transfer_guard("allow"):
                    log.write(number, evaluate(number, params))
            if stop and not last:
                checkpoints.wait()
                raise Interrupted
    except _NotFinite as problem:
        problem.state = state
        raise
    checkpoints.wait()
    return state


def _due(number: int, every: int) -> bool:
    return every > 0 and number % every == 0


class _NotFinite(Exception):
    """The loss or gradient of update `number` is NaN or infinite."""

    def __init__(self, number: int, values: Mapping[str, float]):
        super().__init__(number)
        self.number, self.values, self.state = number, values, None


@dataclasses.dataclass(kw_only=True)
class _Log:
    """Reads metrics off the device and passes them on."""

    config: TrainingConfig
    metrics: Metrics
    progress: tqdm
    since: tuple[float, int] | None = None  # (seconds, update) of the last line

    def read(self, pending: tuple[int, Mapping[str, jax.Array]] | None) -> None:
        """Waits for an update's metrics; raises `_NotFinite`, and writes a line when one is due."""
        if pending is None:
            return
        number, values = pending
        values = {name: float(value) for name, value in jax.device_get(dict(values)).items()}
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise _NotFinite(number, values)
        self.progress.update(self.config.batch_size)
        if number == self.config.steps or _due(number, self.config.log_every):
            now = time.monotonic()
            if self.since:
                values["examples_per_second"] = (
                    (number - self.since[1]) * self.config.batch_size / max(now - self.since[0], 1e-9)
                )
            self.since = (now, number)
            self.metrics.write(number, values)
            self.progress.set_postfix(loss=f"{values['loss']:.4f}", step=number)

    def write(self, number: int, values: Mapping[str, float]) -> None:
        """A line of evaluation metrics; the time it took does not count as training."""
        self.metrics.write(number, dict(values))
        self.since = (time.monotonic(), number)


def _progress(config: TrainingConfig, first: int) -> tqdm:
    return tqdm(
        total=config.steps * config.batch_size,
        initial=first * config.batch_size,
        unit="example",
        unit_scale=True,
        disable=jax.process_index() > 0,
        mininterval=1.0,
    )


def _diagnose(
    workdir: Path, problem: _NotFinite, checkpoints: checkpointing.Checkpoints, run: Mapping[str, Any]
) -> str:
    """Saves the state before the bad update apart from the checkpoints; returns what to tell the user."""
    before = problem.number - 1
    with checkpointing.Checkpoints(workdir, folder=DIAGNOSIS) as diagnosis:
        if not (diagnosis.directory / str(before)).exists():  # from an earlier attempt at the same update
            diagnosis.save(before, problem.state, data={"step": before, "values": problem.values}, run=run)
    good = (
        "there is no earlier checkpoint"
        if checkpoints.latest is None
        else f"checkpoint {checkpoints.latest} is good"
    )
    return (
        f"update {problem.number} gave loss={problem.values['loss']} and gradient_norm="
        f"{problem.values['gradient_norm']}: lower optimizer.learning_rate or look into the state before it, "
        f"saved in {workdir / DIAGNOSIS / str(before)} ({good})"
    )


@contextlib.contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, as long as the context lasts (signals reach the main thread only)."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, previous)


def _must_stop(terminated: threading.Event, number: int) -> bool:
    """Whether to stop after this update; all processes get the same answer."""
    if jax.process_count() == 1:
        return terminated.is_set()
    return multihost_utils.reached_preemption_sync_point(number)
