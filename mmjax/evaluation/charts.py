"""Curves as inline SVG that follows the colours of the page around it."""

import math
from collections.abc import Sequence

_WIDTH, _HEIGHT = 400, 160
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 24


def curve(points: Sequence[tuple[float, float]], *, label: str, floor: float | None = None) -> str:
    """An SVG line through (step, value) points.

    label: read out by screen readers. floor: lower end of the axis when it is meaningful, such as 0.
    """
    points = [(x, y) for x, y in points if math.isfinite(y)]
    if len(points) < 2:
        return '<p class="note">Too few points to draw.</p>'
    steps, values = [x for x, _ in points], [y for _, y in points]
    ticks = nice_ticks(min(values) if floor is None else min(floor, *values), max(values))
    last = nice_ticks(0, max(steps))[1:]

    def place_x(x):
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / max(steps)

    def place_y(y):
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (ticks[-1] - y) / (ticks[-1] - ticks[0])

    lines = "".join(
        f'<path class="grid" d="M{_LEFT} {place_y(y):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 6}" y="{place_y(y) + 3.5:.1f}" text-anchor="end">{_short(y)}</text>'
        for y in ticks
    )
    lines += "".join(
        f'<text x="{place_x(x):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{_short(x)}</text>'
        for x in last
        if x <= max(steps)
    )
    path = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in points)
    x, y = points[-1]
    return (
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{lines}'
        f'<polyline points="{path}"/><circle cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="3"/></svg>'
    )


def nice_ticks(low: float, high: float, *, about: int = 4) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`."""
    span = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / about))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * about >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * n, 10) for n in range(first, max(last, first + 1) + 1)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"
