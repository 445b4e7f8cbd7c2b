"""Looks for the fastest layout of a training step that fits: mesh, remat policy, microbatches.

Only few of them are worth the minutes that compiling takes. What a layout would hold is estimated first: the
state exactly, from shapes and shardings; what the backward pass keeps from the traced program, per row. The
likeliest are compiled, until `tries` are, and ranked by their rooflines. What a compiled layout really holds
corrects the estimates of those that recompute as much, so that no minutes go to what misses by as much again.
"""

import dataclasses
import functools
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from flax import linen as nn
from tqdm import tqdm

from mmjax.config import Experiment, replaced
from mmjax.errors import UserError
from mmjax.layers.transformer import REMAT_POLICIES
from mmjax.planning import programs
from mmjax.planning.compiler import OutOfMemory, Report, advice, capacity, compile_program
from mmjax.sharding.chips import GIB
from mmjax.sharding.report import bytes_per_device
from mmjax.sharding.topology import Topology
from mmjax.systems.system import ContrastiveSystem, System
from mmjax.training import optimizers
from mmjax.training.state import abstract_params
from mmjax.training.trainer import Trainer

# What recomputing costs, relative to a step that recomputes nothing (3 units of forward work). What is
# offloaded is mostly waited for, since PCIe is so much slower than HBM.
_RECOMPUTED = {None: 1.0, "full": 4 / 3, "offload": 5 / 3}
_EMBEDDED_TWICE = 1 / 3  # microbatches of a contrastive system
_SLACK = 1.15  # estimates may be this much too high before a layout is dropped for them


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """One way to run a step; sizes of the mesh axes, a remat policy of every stack, microbatches."""

    sizes: tuple[tuple[str, int], ...]
    rules: str
    remat: str | None
    accumulate: int

    def __str__(self) -> str:
        mesh = ",".join(f"{axis}={size}" for axis, size in self.sizes if size > 1) or "data=1"
        return f"{mesh} rules={self.rules} remat={self.remat} accumulate={self.accumulate}"

    @property
    def row_shards(self) -> int:
        """Parts that the activations of a batch are cut into, over devices and microbatches."""
        return math.prod(size for _, size in self.sizes) * self.accumulate

    def of(self, experiment: Experiment) -> Experiment:
        """The experiment laid out so."""
        return dataclasses.replace(
            experiment,
            system=replaced(experiment.system, remat=self.remat),
            training=dataclasses.replace(experiment.training, accumulate=self.accumulate),
            sharding=dataclasses.replace(experiment.sharding, rules=self.rules, **dict(self.sizes)),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A layout that was compiled; `report` is None where the compiler ran out of memory."""

    layout: Layout
    estimate: float
    report: Report | None

    def to_json(self) -> dict[str, Any]:
        report = self.report and self.report.to_json()
        return {
            **dataclasses.asdict(self.layout),
            "estimate": self.estimate,
            "fits": self.fits,
            "report": report,
        }

    @property
    def fits(self) -> bool:
        return self.report is not None and self.report.memory.fits


def search(experiment: Experiment, topology: Topology, *, tries: int) -> list[Found]:
    """Compiled layouts: those that fit first, the fastest at the top.

    Raises:
      UserError: no layout is likely to fit, or none did.
    """
    kept = {policy: _kept_per_row(experiment, policy) for policy in [None, *REMAT_POLICIES]}
    states, candidates = {}, []
    for layout in layouts(experiment, topology):
        if layout.sizes not in states:  # neither remat nor microbatches change it
            states[layout.sizes] = _state(layout, experiment, topology)
        if (state := states[layout.sizes]) is not None:
            rows = experiment.training.batch_size / layout.row_shards
            candidates.append((state + rows * kept[layout.remat], layout))
    fitting = [each for each in candidates if each[0] <= _SLACK * capacity(topology)]
    if not fitting:
        least = min((needed for needed, _ in candidates), default=math.inf)
        raise UserError(
            f"no layout of this step fits {topology.name}: the smallest is estimated at {least / GIB:.1f} "
            f"GiB of {capacity(topology) / GIB:.2f}; take more chips or fewer rows (training.batch_size)"
        )
    fitting.sort(key=lambda each: _likely_slow(each[1], experiment.system))
    found = _compiled(fitting, experiment, topology, tries=tries)
    if not any(each.fits for each in found):
        raise UserError(
            f"none of the {len(found)} likeliest layouts fits {topology.name}; try more with --tries"
        )
    return sorted(found, key=_rank)


def _compiled(
    candidates: Sequence[tuple[float, Layout]], experiment: Experiment, topology: Topology, *, tries: int
) -> list[Found]:
    """In the order given, each told as soon as it is known; up to an interrupt, so that what was found by
    then is still ranked."""
    found, tell = [], functools.partial(tqdm.write, file=sys.stderr)
    too_low: dict[str | None, float] = {}  # by which factor the estimates are, for each policy
    tell(_HEAD)
    with tqdm(total=min(tries, len(candidates)), unit="layout") as progress:
        try:
            for estimate, layout in candidates:
                if len(found) == tries:
                    break
                if estimate * too_low.get(layout.remat, 0.0) > capacity(topology):
                    continue
                report, peak = _report(layout, experiment, topology)
                too_low[layout.remat] = peak / estimate
                found.append(Found(layout=layout, estimate=estimate, report=report))
                tell(_row(found[-1]))
                progress.update()
        except KeyboardInterrupt:
            tell(f"stopped after {len(found)} of {progress.total} layouts")
            if not found:
                raise
    return found


def _report(layout: Layout, experiment: Experiment, topology: Topology) -> tuple[Report | None, float]:
    """The report of a layout, None where the compiler refuses it; and the bytes that it needs."""
    try:
        report = compile_program(programs.training(layout.of(experiment), topology.devices), topology)
    except OutOfMemory as error:
        return None, error.needed
    return report, report.memory.peak


def layouts(experiment: Experiment, topology: Topology) -> Iterator[Layout]:
    """Those that make sense: powers of two on every axis, a preset that uses the axes, rows that divide."""
    count, rows = len(topology.devices), experiment.training.batch_size
    powers = [2**n for n in range(count.bit_length()) if count % 2**n == 0]
    for fsdp in powers:
        for tensor, sequence in ((1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 4), (1, 8)):
            if count % (fsdp * tensor * sequence):
                continue
            data = count // (fsdp * tensor * sequence)
            sizes = dict(data=data, fsdp=fsdp, tensor=tensor, sequence=sequence)
            rules = "fsdp_tensor" if tensor > 1 else "fsdp_sequence" if sequence > 1 else "fsdp"
            rules = "replicated" if fsdp * tensor * sequence == 1 else rules
            for accumulate in (1, 2, 4, 8):
                if rows % (data * fsdp * accumulate):
                    continue
                for remat in (None, *REMAT_POLICIES):
                    yield Layout(sizes=tuple(sizes.items()), rules=rules, remat=remat, accumulate=accumulate)


def table(found: Sequence[Found]) -> str:
    """Ranked layouts as text; what does not fit is bound by memory."""
    return "\n".join([_HEAD, *map(_row, found)])


_HEAD = f"{'peak':>10}  {'step':>10}  {'serial':>10}  {'MFU':>6}  {'bound':<7}  layout"


def _row(found: Found) -> str:
    if found.report is None:
        return f"{'too much':>10}  {'-':>10}  {'-':>10}  {'-':>6}  {'memory':<7}  {found.layout}"
    roofline, peak = found.report.roofline, found.report.memory.peak / GIB
    mfu = roofline.mfu(roofline.step)
    step, serial = (1e3 * seconds for seconds in (roofline.step, roofline.without_overlap))
    return (
        f"{peak:6.2f} GiB  {step:7.1f} ms  {serial:7.1f} ms  "
        f"{'-' if mfu is None else format(mfu, '6.1%')}  {roofline.bound if found.fits else 'memory':<7}  "
        f"{found.layout}"
    )


def does_not_fit(report: Report) -> str:
    """One sentence for a program that compiles but exceeds the memory of a chip."""
    memory = report.memory
    return (
        f"the {report.program} needs {memory.peak / GIB:.2f} GiB of HBM where a device of "
        f"{report.topology.name} has {memory.capacity / GIB:.2f}; "
        f"{advice(report.program, memory.arguments, report.mesh, memory.capacity)}"
    )


def _rank(found: Found) -> tuple[bool, float]:
    return (not found.fits, found.report.roofline.without_overlap if found.report else math.inf)


def _likely_slow(layout: Layout, system: System) -> tuple[float, int]:
    """Order in which layouts are tried: little recomputation, few splits, few microbatches."""
    sizes = dict(layout.sizes)
    cost = _RECOMPUTED.get(layout.remat, 1.1) + 0.02 * math.log2(layout.accumulate)
    cost += 0.1 * math.log2(sizes["tensor"]) + 0.05 * math.log2(sizes["sequence"])
    if layout.accumulate > 1 and isinstance(system, ContrastiveSystem):
        cost += _EMBEDDED_TWICE
    return cost, sizes["fsdp"]


def _state(layout: Layout, experiment: Experiment, topology: Topology) -> float | None:
    """Bytes of a device for the state and its gradients; None where the layout is refused."""
    laid = layout.of(experiment)
    try:
        trainer = Trainer.prepare(
            laid.system,
            config=laid.training,
            optimizer=laid.optimizer,
            sharding=laid.sharding,
            devices=topology.devices,
        )
    except UserError:
        return None
    trainable, _ = optimizers.split(trainer.target.params, trainer.treatments)
    leaves = [*jax.tree.leaves(trainer.target), *jax.tree.leaves(trainable)]
    return sum(bytes_per_device(leaf, leaf.sharding) for leaf in leaves)


def _kept_per_row(experiment: Experiment, remat: str | None) -> float:
    """Bytes that the forward pass keeps for the backward pass, for one more row of the batch."""
    system: System = replaced(experiment.system, remat=remat)
    boxed = abstract_params(system)
    treatments = optimizers.treat(system.treatments(), boxed)
    trainable, frozen = optimizers.split(nn.meta.unbox(boxed), treatments)

    def residuals(rows: int) -> int:
        batch = programs.batch_shapes(experiment.data, rows)

        def keep(trainable: Any, frozen: Any, batch: Any, key: jax.Array) -> Any:
            def loss(trainable: Any) -> Any:
                terms, _ = system.loss(optimizers.merge(trainable, frozen), batch, key)
                return [total for _, total, _ in terms.values()]

            return jax.vjp(loss, trainable)[1]

        found = jax.eval_shape(keep, trainable, frozen, batch, jax.random.key(0))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(found))

    return (residuals(16) - residuals(8)) / 8
