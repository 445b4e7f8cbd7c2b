"""Compiles a program for described chips and says what it needs and how fast it can be."""

import dataclasses
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from mmjax.errors import UserError
from mmjax.planning.programs import TRAINING, Program
from mmjax.sharding.chips import GIB
from mmjax.sharding.costs import Cost, measure
from mmjax.sharding.roofline import Roofline, estimate
from mmjax.sharding.topology import Topology

_NEEDED = (r"temporaries \(([\d.]+)([KMGT])\)", r"Used ([\d.]+)([KMGT]) of", r"([\d.]+)([KMGT])[^.]* exceed")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class OutOfMemory(UserError):
    """The compiler refused a program that needs `needed` bytes of HBM."""

    def __init__(self, message: str, needed: float):
        super().__init__(message)
        self.needed = needed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of HBM on one device.

    Attributes:
      arguments: what the program is given, by name, before the hardware's padding.
      resident: all arguments as they lie in memory, and results that do not reuse them.
      temporaries: activations, gradients and buffers of the compiler, at their largest.
      program: the instructions.
    """

    arguments: Mapping[str, int]
    resident: int
    temporaries: int
    program: int
    capacity: float

    @property
    def peak(self) -> int:
        return self.resident + self.temporaries + self.program

    @property
    def fits(self) -> bool:
        return self.peak <= self.capacity


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What one program needs of one device of a topology, and how fast it can be.

    Attributes:
      cost: of one call. Where a loop runs as long as data decide (decoding), all of it but the loop.
      iteration: the roofline of one iteration of that loop; None where there is none.
      compiler_flops: what the compiler itself counts, loops once.
      compile_seconds: optimizing alone, after tracing.
    """

    program: str
    topology: Topology
    mesh: Mapping[str, int]
    rows: int
    memory: Memory
    cost: Cost
    roofline: Roofline
    iteration: Roofline | None
    compiler_flops: float
    trace_seconds: float
    compile_seconds: float

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data; bytes, FLOPs and seconds of one device."""
        memory, cost, roofline = self.memory, self.cost, self.roofline
        return {
            "program": self.program,
            "topology": self.topology.name,
            "slices": self.topology.slices,
            "chips": self.topology.chips,
            "devices_per_chip": self.topology.chip.devices,
            "mesh": dict(self.mesh),
            "rows": self.rows,
            "memory": {
                **dataclasses.asdict(memory),
                "peak": memory.peak,
                "fits": memory.fits,
            },
            "flops": {
                "model": roofline.model_flops,
                "compiled": cost.flops,
                "compiled_matmul": cost.matmul_flops,
                "compiler_counts_loops_once": self.compiler_flops,
            },
            "hbm_bytes": cost.hbm_bytes,
            "host_bytes": cost.host_bytes,
            "bytes_accessed": cost.bytes_accessed,
            "collectives": [dataclasses.asdict(each) for each in roofline.traffic],
            "roofline": _roofline_json(roofline),
            "loop_iteration": None if self.iteration is None else _roofline_json(self.iteration),
            "trace_seconds": self.trace_seconds,
            "compile_seconds": self.compile_seconds,
        }


def _roofline_json(roofline: Roofline) -> dict[str, Any]:
    return {
        "seconds": dict(roofline.seconds),
        "bound": roofline.bound,
        "step_seconds": roofline.step,
        "step_seconds_without_overlap": roofline.without_overlap,
        "mfu": roofline.mfu(roofline.step),
        "mfu_without_overlap": roofline.mfu(roofline.without_overlap),
    }


def compile_program(program: Program, topology: Topology, *, hlo: str | Path | None = None) -> Report:
    """Compiles ahead of time; minutes for large programs.

    Args:
      hlo: a file that receives the optimized program.

    Raises:
      OutOfMemory: the compiler finds that the program cannot fit.
    """
    started = time.monotonic()
    lowered = program.lower()
    traced = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        raise _explained(str(error), program, topology) from error
    done = time.monotonic()
    optimized = compiled.as_text()
    if hlo:
        Path(hlo).write_text(optimized)
    cost = measure(optimized, devices=program.mesh.size)
    loop = max(cost.loops, key=lambda each: each.bytes_accessed, default=None)
    return Report(
        program=program.name,
        topology=topology,
        mesh=dict(program.mesh.shape),
        rows=program.rows,
        memory=_memory(compiled, program, topology),
        cost=cost,
        roofline=estimate(cost, program.mesh, topology, model_flops=program.model_flops),
        iteration=loop and estimate(loop, program.mesh, topology, model_flops=None),
        compiler_flops=(compiled.cost_analysis() or {}).get("flops", 0.0),
        trace_seconds=traced - started,
        compile_seconds=done - traced,
    )


def capacity(topology: Topology) -> float:
    """Bytes of HBM that a program may use on one device."""
    return topology.chip.hbm / topology.chip.devices


def _memory(compiled: jax.stages.Compiled, program: Program, topology: Topology) -> Memory:
    found = compiled.memory_analysis()
    return Memory(
        arguments=program.arguments,
        resident=found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes,
        temporaries=found.temp_size_in_bytes,
        program=found.generated_code_size_in_bytes,
        capacity=capacity(topology),
    )


def _explained(message: str, program: Program, topology: Topology) -> Exception:
    if "RESOURCE_EXHAUSTED" not in message and "out of memory" not in message.lower():
        first = message.strip().splitlines()[0]
        return UserError(f"the TPU compiler refuses the {program.name} on {topology.name}: {first}")
    needed = 0.0
    for pattern in _NEEDED:
        if found := re.search(pattern, message):
            needed = float(found[1]) * _UNITS[found[2]]
            break
    have = capacity(topology)
    sentence = (
        f"the {program.name} needs {needed / GIB:.1f} GiB of HBM where a device of {topology.name} has "
        f"{have / GIB:.2f}; {advice(program.name, program.arguments, program.mesh.shape, have)}"
    )
    return OutOfMemory(sentence, needed)


def advice(program: str, arguments: Mapping[str, int], mesh: Mapping[str, int], have: float) -> str:
    """What to change about a program that does not fit, by its name."""
    state = sum(size for name, size in arguments.items() if name != "batch")
    if state > 0.5 * have:
        return (
            f"its state alone is {state / GIB:.1f} GiB: split parameters over more devices "
            f"(sharding.rules=fsdp, --mesh fsdp={2 * mesh['fsdp'] * max(mesh['sequence'], 1)})"
        )
    if program != TRAINING:
        return "take fewer rows at a time (--batch), or shorter ones (data.text_length, --length)"
    return (
        "recompute more in the backward pass (remat='full' of the model's transformers), use more "
        "microbatches (training.accumulate), or let --search find a layout that fits"
    )
