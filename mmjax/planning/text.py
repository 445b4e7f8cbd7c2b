"""A compile report as text."""

from collections.abc import Iterator

from mmjax.planning.compiler import Report
from mmjax.sharding.chips import GIB
from mmjax.sharding.roofline import Roofline

_MANY = 8  # lines of collectives worth reading


def describe(report: Report) -> str:
    """The report, one figure a line."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    topology, memory, cost = report.topology, report.memory, report.cost
    sizes = ", ".join(f"{axis}={size}" for axis, size in report.mesh.items() if size > 1) or "one device"
    slices = f" x {topology.slices} slices" if topology.slices > 1 else ""
    unit = "chip" if topology.chip.devices == 1 else f"device ({topology.chip.devices} a chip)"
    where = f"{topology.name}{slices}: {topology.chips} chips"
    yield f"{report.program} on {where}, mesh {sizes}, {report.rows} rows"
    yield ""
    yield f"memory per {unit}"
    for name, size in memory.arguments.items():
        if size:
            yield _line(name, _bytes(size))
    yield _line("activations and other temporaries", _bytes(memory.temporaries))
    yield _line("program", _bytes(memory.program))
    share = memory.peak / memory.capacity
    verdict = "fits" if memory.fits else "does not fit"
    yield _line("peak", f"{_bytes(memory.peak)} of {memory.capacity / GIB:.2f} GiB ({share:.0%}): {verdict}")
    yield ""
    yield f"work per {unit}"
    model = report.roofline.model_flops
    if model is not None:
        yield _line("model FLOPs", _scaled(model, "FLOP"))
    yield _line(
        "compiled FLOPs", f"{_scaled(cost.flops, 'FLOP')} ({_scaled(cost.matmul_flops, 'FLOP')} in products)"
    )
    yield _line("HBM traffic", _scaled(cost.hbm_bytes, "B"))
    if cost.host_bytes:
        yield _line("traffic with the host's memory", _scaled(cost.host_bytes, "B"))
    for each in report.roofline.traffic[:_MANY]:
        seconds = each.ici_seconds + each.dcn_seconds
        where = "DCN" if each.dcn_seconds > each.ici_seconds else "ICI"
        yield _line(
            f"{each.kind} over {each.axes}",
            f"{_scaled(each.sent, 'B')} sent in {each.count:,.0f}, {_time(seconds)} on {where}",
        )
    left = report.roofline.traffic[_MANY:]
    if left:
        yield _line(f"{len(left)} smaller exchanges", _scaled(sum(each.sent for each in left), "B") + " sent")
    yield ""
    yield from _bounds("roofline of one call", report.roofline)
    if report.iteration:
        yield ""
        yield from _bounds("roofline of one iteration of its loop (one token)", report.iteration)
    yield ""
    yield f"traced in {report.trace_seconds:.1f} s, compiled in {report.compile_seconds:.1f} s"


def _bounds(title: str, roofline: Roofline) -> Iterator[str]:
    yield title
    for name, seconds in roofline.seconds.items():
        if seconds:
            yield _line(name, _time(seconds) + ("  <- bound" if name == roofline.bound else ""))
    mfu, slow = roofline.mfu(roofline.step), roofline.mfu(roofline.without_overlap)
    if mfu is not None:
        yield _line(
            "MFU",
            f"{mfu:.1%} with everything overlapped, {slow:.1%} with nothing, limited by {roofline.bound}",
        )


def _line(name: str, value: str) -> str:
    return f"  {name:<36} {value}"


def _bytes(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:.2f} MiB"


def _scaled(value: float, unit: str) -> str:
    for prefix, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= 0.1 * scale:
            return f"{value / scale:,.2f} {prefix}{unit}"
    return f"{value / 1e3:,.2f} k{unit}"


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:,.2f} ms" if seconds >= 1e-4 else f"{1e6 * seconds:,.2f} us"
