"""Plots as inline SVG: no script, no picture file, colours from the page's style sheet, so that dark and print work.

Every function returns one `<svg>` text. Text in a plot is escaped here; sizes are in the units of the plot's viewBox.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]
MARKS_MAX = 400  # points drawn of one curve; more are thinned, ends and the last one kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One line of a chart.

    Attributes:
        name: shown at the line's right end.
        style: a class of the style sheet: `ours`, `random` or `everything`.
        values: one a position, None where it was not measured (the line then goes on to the next one).
        low, high: ends of the interval at each position, empty for none.
    """

    name: str
    style: str
    values: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """One bar of a timeline: a device ran something from `start` to `end` seconds."""

    row: str
    start: float
    end: float
    text: str
    style: str = "span-0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """One moment on a timeline row."""

    row: str
    at: float
    text: str
    style: str = "mark"


def line_chart(
    series: Sequence[Series], positions: Sequence[str], *, low: float, high: float, chance: float | None, label: str
) -> str:
    """Lines over rounds with interval bands; the last value of each line is written at its right end.

    Args:
        positions: names of the x positions, such as start, 1, 2.
        low, high: ends of the y axis.
        chance: value that guessing would reach, drawn as a faint line; None for none.
        label: what the chart shows, for those who cannot see it.
    """
    width, height, left, right, top, bottom = 400, 220, 30, 104, 10, 26
    to_y = _scale(low, high, height - bottom, top)
    to_x = _scale(0, max(1, len(positions) - 1), left, width - right)
    parts = [_open(width, height, label)]
    for tick in _ticks(low, high):
        parts.append(_line((left, to_y(tick)), (width - right, to_y(tick)), "grid"))
        parts.append(_text(left - 6, to_y(tick) + 4, f"{tick:.1f}", "axis end"))
    for index, name in enumerate(positions):
        parts.append(_text(to_x(index), height - 8, name, "axis middle"))
    if chance is not None and low < chance < high:
        parts.append(_line((left, to_y(chance)), (width - right, to_y(chance)), "chance"))
        parts.append(_text(left + 4, to_y(chance) - 4, "guessing", "axis"))
    parts += [_band(item, to_x, to_y) for item in series if item.low]
    for item in series:
        points = [(to_x(index), to_y(value)) for index, value in enumerate(item.values) if value is not None]
        parts.append(_path(points, f"line {item.style}"))
        for index, value in enumerate(item.values):
            if value is not None:
                spoken = f"{item.name}, {positions[index]}: {value:.3f}"
                parts.append(_dot(to_x(index), to_y(value), f"dot {item.style}", spoken))
    parts += _end_labels(series, to_x, to_y, top, height - bottom)
    return "".join([*parts, "</svg>"])


def _band(item: Series, to_x: Callable[[float], float], to_y: Callable[[float], float]) -> str:
    known = [
        (to_x(index), to_y(low), to_y(high))
        for index, (low, high) in enumerate(zip(item.low, item.high, strict=True))
        if low is not None and high is not None
    ]
    if not known:
        return ""
    edge = [(x, high) for x, _, high in known] + [(x, low) for x, low, _ in reversed(known)]
    return f'<path class="band {item.style}" d="M{_joined(edge)}Z"/>'


def _end_labels(
    series: Sequence[Series], to_x: Callable[[float], float], to_y: Callable[[float], float], top: float, bottom: float
) -> list[str]:
    """Names and last values at the right, moved apart where they would lie on each other."""
    ends = []
    for item in series:
        last = [(index, value) for index, value in enumerate(item.values) if value is not None][-1:]
        ends += [(to_y(value), to_x(index), item, value) for index, value in last]
    ends.sort(key=lambda end: end[0])
    heights = spread([end[0] for end in ends], gap=13, low=top + 6, high=bottom - 2)
    return [
        _text(x + 9, height + 4, f"{item.name} {value:.2f}", f"name {item.style}")
        for height, (_, x, item, value) in zip(heights, ends, strict=True)
    ]


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """The sorted positions moved apart to at least `gap`, kept inside low..high where they fit.

    >>> spread([10, 11, 40], gap=10, low=0, high=50)
    [10, 20, 40]
    >>> spread([48, 49], gap=10, low=0, high=50)
    [40, 50]
    """
    placed: list[float] = []
    for value in wanted:
        placed.append(max(value, low, placed[-1] + gap if placed else low))
    ceiling = high
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed


def bytes_chart(rounds: Sequence[tuple[str, int, int]], *, label: str) -> str:
    """Bars of (round, bytes uploaded, bytes decided on): the outline is everything, the filled part was sent."""
    row, left, right, width = 30, 64, 200, 760
    height = row * len(rounds) + 8
    to_x = _scale(0, max([1, *(whole for _, _, whole in rounds)]), left, width - right)
    parts = [_open(width, height, label)]
    for index, (name, sent, whole) in enumerate(rounds):
        y = index * row + 6
        parts.append(_text(left - 8, y + 14, name, "axis end"))
        parts.append(_box(left, y, max(0.0, to_x(whole) - left), 18, "whole"))
        parts.append(_box(left, y, max(0.0, to_x(sent) - left), 18, "sent"))
        share = f" · {sent / whole:.0%}" if whole else ""
        parts.append(_text(to_x(whole) + 8, y + 14, f"{size_text(sent)} of {size_text(whole)}{share}", "note"))
    return "".join([*parts, "</svg>"])


def timeline_chart(rows: Sequence[str], spans: Sequence[Span], marks: Sequence[Mark], *, end: float, label: str) -> str:
    """What ran on each device over the seconds of the run, with moments marked on it."""
    row, left, width, top = 34, 118, 980, 6
    height = top + row * len(rows) + 26
    to_x = _scale(0, max(end, 1.0), left, width - 12)
    base = top + row * len(rows)
    parts = [_open(width, height, label)]
    for tick in _ticks(0, max(end, 1.0), count=8):
        parts.append(_line((to_x(tick), top), (to_x(tick), base), "grid"))
        parts.append(_text(to_x(tick), base + 17, f"{tick:g} s", "axis middle"))
    for index, name in enumerate(rows):
        parts.append(_text(left - 10, top + index * row + 21, name, "axis end"))
        parts.append(_line((left, top + (index + 1) * row), (width - 12, top + (index + 1) * row), "grid"))
    for span in spans:
        y = top + rows.index(span.row) * row + 6
        reach = max(1.5, to_x(span.end) - to_x(span.start))
        title = f"<title>{escape(f'{span.row}: {span.text}, {span.start:.1f} to {span.end:.1f} s')}</title>"
        box = _box(to_x(span.start), y, reach, 22, f"span {span.style}", title)
        parts.append(box)
        if reach > 7.2 * len(span.text) + 8:
            parts.append(_text(to_x(span.start) + 5, y + 15, span.text, "in-span"))
    for mark in marks:
        y = top + rows.index(mark.row) * row + 17
        parts.append(
            _dot(to_x(mark.at), y, f"moment {mark.style}", f"{mark.row}, {mark.at:.1f} s: {mark.text}", radius=5)
        )
    return "".join([*parts, "</svg>"])


def evidence_chart(curve: Sequence[Point], *, limit: float, x_name: str, label: str) -> str:
    """An e-process on a logarithmic axis, with the line at which it decides.

    Args:
        curve: (count so far, e-value), counts growing, e-values above 0.
        limit: the e-value at which the rollout is reverted, 1/alpha.
    """
    width, height, left, right, top, bottom = 720, 270, 52, 24, 14, 40
    curve = thin(list(curve))
    logs = [math.log10(max(value, 1e-9)) for _, value in curve]
    low = math.floor(min([0.0, *logs]))
    high = math.ceil(max([math.log10(limit) + 0.4, *logs]))
    to_y = _scale(low, high, height - bottom, top)
    to_x = _scale(0, max([1.0, *(count for count, _ in curve)]), left, width - right)
    parts = [_open(width, height, label)]
    for power in range(low, high + 1):
        parts.append(_line((left, to_y(power)), (width - right, to_y(power)), "grid"))
        name = f"{10**power:,.0f}".replace(",", "\u202f") if power >= 0 else f"{10.0**power:g}"
        parts.append(_text(left - 6, to_y(power) + 4, name, "axis end"))
    for tick in _ticks(0, max([1.0, *(count for count, _ in curve)]), count=8):
        parts.append(_text(to_x(tick), height - bottom + 16, f"{tick:g}", "axis middle"))
    parts.append(_text((left + width - right) / 2, height - 6, x_name, "axis middle"))
    border = to_y(math.log10(limit))
    parts.append(_line((left, border), (width - right, border), "limit"))
    parts.append(_text(left + 6, border - 6, f"reverts at {limit:g}", "limit-name"))
    points = [(to_x(count), to_y(value)) for (count, _), value in zip(curve, logs, strict=True)]
    parts.append(_path(points, "line ours"))
    for (count, value), (x, y) in zip(curve, points, strict=True):
        over = " over" if value >= limit else ""
        parts.append(_dot(x, y, f"dot ours{over}", f"{x_name} {count:g}: e-value {value:.3g}"))
    return "".join([*parts, "</svg>"])


def thin(points: list[Point]) -> list[Point]:
    """At most MARKS_MAX of the points, evenly taken, the first and the last among them.

    >>> len(thin([(n, 1) for n in range(5000)])) <= MARKS_MAX
    True
    """
    if len(points) <= MARKS_MAX:
        return points
    return [points[round(index * (len(points) - 1) / (MARKS_MAX - 1))] for index in range(MARKS_MAX)]


def size_text(size_bytes: float) -> str:
    """Bytes for people.

    >>> size_text(1_384_000), size_text(950)
    ('1.38 MB', '950 B')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes:.0f} B"


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round values between low and high, about `count` of them.

    >>> _ticks(0.4, 1.0)
    [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    >>> _ticks(0, 470, count=8)
    [0, 50, 100, 150, 200, 250, 300, 350, 400, 450]
    """
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda candidate: abs(candidate - raw))
    first = math.ceil(low / step - 1e-9)
    return [_tidy(number * step) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _tidy(value: float) -> float:
    rounded = round(value, 9)
    return int(rounded) if (rounded == int(rounded) and abs(rounded) > 1) or rounded == 0 else rounded


def _open(width: float, height: float, label: str) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label, quote=True)}">'


def _joined(points: Sequence[Point]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _path(points: Sequence[Point], style: str) -> str:
    return f'<path class="{style}" d="M{_joined(points)}"/>' if points else ""


def _line(start: Point, end: Point, style: str) -> str:
    return f'<line class="{style}" x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _box(x: float, y: float, width: float, height: float, style: str, inside: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{style}" {place} rx="3">{inside}</rect>'


def _dot(x: float, y: float, style: str, title: str, *, radius: float = 3) -> str:
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"><title>{escape(title)}</title></circle>'
