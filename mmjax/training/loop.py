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
   and saved. A SIGTERM to any process saves on all of them after the same update, waits for the disk and
   exits with code 75.
5. Nothing is copied between host and device behind our back: but for the batch, saving and evaluating,
   `jax.transfer_guard` forbids it.
"""

import contextlib
import dataclasses
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from mmjax.errors import EXIT_TEMPORARY, UserError
from mmjax.sharding import ShardingConfig, activate, put_batch
from mmjax.systems.system import System
from mmjax.training import checkpoints as checkpointing
from mmjax.training import metrics as logs
from mmjax.training import optimizers
from mmjax.training.state import TrainState
from mmjax.training.telemetry import Profiler, Telemetry, Window
from mmjax.training.trainer import Trainer, TrainingConfig, model_flops
from mmjax.training.watchdog import Watchdog

DIAGNOSIS = "diagnosis"

Batches = Callable[
    [int], Iterable[Mapping[str, np.ndarray]]
]  # first step -> this process's batches from there
Evaluate = Callable[[int, Any], Mapping[str, float]]  # (step, parameters) -> metrics
Observe = Callable[[], Mapping[str, float]]  # further figures for every logged line


class Interrupted(SystemExit):
    """SIGTERM came, everything is saved; the process exits with code 75."""

    def __init__(self):
        super().__init__(EXIT_TEMPORARY)


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
    observe: Observe = dict,
    profile: Window | None = None,
) -> TrainState:
    """Trains to `config.steps` updates, resuming from the newest checkpoint in `workdir` if there is one.

    Args:
      batches: called once with the first step to do; gives this process's rows of every global batch. If the
        iterator has a `close`, it is called at the end.
      run: JSON stored with every checkpoint (see `mmjax.training.checkpoints`).
      evaluate: given the step and the parameters (the EMA where there is one), returns metrics to log.
      observe: figures of the data or the machine to log beside the loss; must be quick.
      profile: updates to trace to WORKDIR/profile.

    Raises:
      UserError: something does not fit, or the loss is no longer finite.
      Interrupted: SIGTERM came; everything is saved.
    """
    workdir = Path(workdir)
    trainer = Trainer.prepare(system, config=config, optimizer=optimizer, sharding=sharding)
    telemetry = Telemetry(batch_size=config.batch_size, devices=trainer.mesh.devices.flatten().tolist())
    retention = config.retention(logs.read(workdir / logs.FILE))
    with (
        Watchdog(
            config.hang_seconds, workdir, leave=config.hang_exit, doing=lambda: telemetry.doing
        ) as watchdog,
        checkpointing.Checkpoints(workdir, retention=retention) as checkpoints,
        _sigterm() as terminated,
    ):
        with telemetry.phase("restore"):
            if checkpoints.latest is None:
                state, first = trainer.create(), 0
            else:
                state, data, _ = checkpoints.restore(trainer.target)
                first = data["step"]
                if jax.process_index() == 0:
                    print(f"resuming after update {first}", file=sys.stderr, flush=True)
        if first >= config.steps:
            return state
        with (
            activate(trainer.mesh, trainer.rules),
            logs.Metrics(workdir, start_step=first) as metrics,
            _progress(config, first) as progress,
            Profiler(profile, workdir) as profiler,
            contextlib.closing(_Input(batches(first))) as source,
        ):
            loop = _Loop(
                trainer=trainer,
                source=source,
                log=_Log(
                    config=config,
                    metrics=metrics,
                    progress=progress,
                    telemetry=telemetry,
                    watchdog=watchdog,
                    observe=observe,
                ),
                checkpoints=checkpoints,
                run=run or {},
                evaluate=evaluate,
                terminated=terminated,
                telemetry=telemetry,
                profiler=profiler,
            )
            try:
                with jax.transfer_guard("disallow"):
                    return loop.updates(state, first)
            except _NotFinite as problem:
                raise UserError(_diagnose(workdir, problem, checkpoints, run or {})) from problem


@dataclasses.dataclass(kw_only=True)
class _Loop:
    trainer: Trainer
    source: "_Input"
    log: "_Log"
    checkpoints: checkpointing.Checkpoints
    run: Mapping[str, Any]
    evaluate: Evaluate | None
    terminated: threading.Event
    telemetry: Telemetry
    profiler: Profiler

    def updates(self, state: TrainState, first: int) -> TrainState:
        """The state after the last update."""
        trainer, log, phase = self.trainer, self.log, self.telemetry.phase
        config = trainer.config
        pending = None  # (number, metrics) of the newest update whose metrics were not read yet
        try:
            for number in range(first + 1, config.steps + 1):
                self.profiler.before(number)
                with phase("input"):
                    rows = next(self.source)
                    with jax.transfer_guard("allow"):
                        batch = put_batch(rows, trainer.mesh)
                with phase("dispatch" if number > first + 1 else "compile"):
                    state, metrics = trainer.step(state, batch)
                    if number == first + 1:  # while the devices work on it
                        self.telemetry.model_flops = model_flops(
                            trainer.system, trainer.treatments, trainer.target.params, batch
                        )
                log.read(pending)
                pending = (number, metrics)

                stop, last = _must_stop(self.terminated, number), number == config.steps
                scored = bool(self.evaluate) and _due(number, config.evaluate_every, last=last)
                if stop or last or _due(number, config.checkpoint_every) or (scored and config.keep_best):
                    log.read(pending)
                    pending = None
                    with phase("save"), jax.transfer_guard("allow"):
                        self.checkpoints.save(number, state, data={"step": number}, run=self.run)
                if stop and not last:  # soon there will be no machine to evaluate on
                    self._finish()
                    raise Interrupted
                if scored:
                    log.read(pending)
                    pending = None
                    self._evaluate(number, state)
        except _NotFinite as problem:
            problem.state = state
            raise
        self._finish()
        return state

    def _evaluate(self, number: int, state: TrainState) -> None:
        params = state.params if state.ema is None else optimizers.merge(state.params, state.ema)
        with self.telemetry.phase("evaluate"), jax.transfer_guard("allow"):
            values = self.evaluate(number, params)
        self.checkpoints.retention.score(number, values)
        self.log.write(number, values)

    def _finish(self) -> None:
        with self.telemetry.phase("save"):
            self.checkpoints.wait()


def _due(number: int, every: int, *, last: bool = False) -> bool:
    return every > 0 and (last or number % every == 0)


class _Input:
    """An iterator over anything iterable, with a `close` that does no harm."""

    def __init__(self, batches: Iterable[Mapping[str, np.ndarray]]):
        self._iterator = iter(batches)

    def __next__(self) -> Mapping[str, np.ndarray]:
        return next(self._iterator)

    def close(self) -> None:
        getattr(self._iterator, "close", lambda: None)()


class _NotFinite(Exception):
    """The loss or gradient of update `number` is NaN or infinite."""

    def __init__(self, number: int, values: Mapping[str, float]):
        super().__init__(number)
        self.number, self.values, self.state = number, values, None


@dataclasses.dataclass(kw_only=True)
class _Log:
    """Reads metrics off the device and passes them on."""

    config: TrainingConfig
    metrics: logs.Metrics
    progress: tqdm
    telemetry: Telemetry
    watchdog: Watchdog
    observe: Observe

    def read(self, pending: tuple[int, Mapping[str, jax.Array]] | None) -> None:
        """Waits for an update's metrics; raises `_NotFinite`, and writes a line when one is due."""
        if pending is None:
            return
        number, values = pending
        with self.telemetry.phase("device"):
            values = {name: float(value) for name, value in jax.device_get(dict(values)).items()}
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise _NotFinite(number, values)
        self.telemetry.count()
        self.watchdog.beat()
        self.progress.update(self.config.batch_size)
        if number == self.config.steps or _due(number, self.config.log_every):
            self.write(number, {**values, **self.telemetry.metrics(), **self.observe()})
            self.progress.set_postfix(loss=f"{values['loss']:.4f}", step=number)

    def write(self, number: int, values: Mapping[str, float]) -> None:
        """A line of metrics; an evaluation's are a sign of life too."""
        self.watchdog.beat()
        self.metrics.write(number, dict(values))


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
    """An event that SIGTERM sets, as long as the context lasts (signals reach the main thread only).

    Among several processes JAX's own handler must stay: it tells the others.
    """
    event = threading.Event()
    if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
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
