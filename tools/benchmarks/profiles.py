"""Where the time of a call goes: matrix products, alone or fused with what is around them, and the rest."""

import collections
import re
from collections.abc import Callable
from pathlib import Path

import jax
import torch


def multiplying(program: str) -> dict[str, bool]:
    """The operations of a compiled program by name, and whether each multiplies matrices.

    What only holds others (loops, calls) is left out.
    """
    line_of = re.compile(r"\s+(?:ROOT )?%([\w.-]+) = .*? ([a-z][a-z-]*)\(")
    products, operations, within = set(), {}, ""
    for line in program.splitlines():
        if line.endswith("{") and (head := re.match(r"(?:ENTRY )?%([\w.-]+)", line)):
            within = head[1]
        elif operation := line_of.match(line):
            name, kind = operation.groups()
            calls = re.search(r"calls=%([\w.-]+)", line)
            if kind in ("dot", "convolution") or (kind == "custom-call" and "gemm" in line):
                products |= {within, name}
            if kind not in ("while", "call", "conditional"):
                operations[name] = calls[1] if calls else name
    return {name: called in products or name in products for name, called in operations.items()}


def ours(call: Callable[[], None], program: jax.stages.Compiled, directory: Path) -> collections.Counter:
    """Milliseconds of one call of ours by kind of operation; the trace itself is written to the directory.

    Times of a pool of threads are divided by their number, so that kinds add up to the time on the clock as
    far as the threads are busy.
    """
    with jax.profiler.trace(str(directory)):
        call()
    (*_, newest) = sorted(directory.rglob("*.xplane.pb"))
    operations = multiplying(program.as_text())
    spent, threads = collections.Counter(), 0
    for plane in jax.profiler.ProfileData.from_file(str(newest)).planes:
        for line in plane.lines:
            events = [event for event in line.events if event.name in operations]
            threads += "XLAEigen" in line.name or line.name == "XLA Ops"
            for event in events:
                kind = "products" if operations[event.name] else event.name.split(".")[0]
                spent[kind] += event.duration_ns / 1e6
    return collections.Counter({kind: time_ / max(threads, 1) for kind, time_ in spent.items()})


def peer(call: Callable[[], None], device: str) -> collections.Counter:
    """Milliseconds of one call of PyTorch by kind of operation, without what each calls in turn."""
    with torch.profiler.profile() as trace:
        call()
    time_ = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    products = re.compile(r"(add|b|badd)?mm$|.*gemm|.*convolution|_?scaled_dot_product|.*attention")
    spent = collections.Counter()
    for event in trace.key_averages():
        kind = event.key.removeprefix("aten::")
        spent["products" if products.match(kind) else kind] += getattr(event, time_) / 1e3
    return spent


def told(spent: collections.Counter, most: int = 6) -> str:
    """The products, what is not a product, and which kinds of that take longest."""
    rest = collections.Counter({kind: time_ for kind, time_ in spent.items() if kind != "products"})
    kinds = ", ".join(f"{kind} {time_:.1f}" for kind, time_ in rest.most_common(most))
    return f"products {spent['products']:.1f} + rest {rest.total():.1f} = {spent.total():.1f} ({kinds}, ...)"
