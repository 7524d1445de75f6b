"""Rows of the result: what was measured, what is needed, and whether it is."""

from __future__ import annotations

from dataclasses import dataclass

from edge_parts.measure import Samples, middle, say


@dataclass
class Row:
    """One figure. `needed` is None where the issue names no target for it."""

    part: str
    what: str
    value: float
    low: float
    high: float
    unit: str
    needed: float | None = None
    at_least: bool = False  # the value needs to be at least `needed`, else at most

    @property
    def missed(self) -> bool:
        if self.needed is None:
            return False
        return self.value < self.needed if self.at_least else self.value > self.needed


def print_rows(rows: list[Row]) -> None:
    """The table, a line a figure; a star marks a missed target."""
    for row in rows:
        goal = "" if row.needed is None else f"  [{'≥' if row.at_least else '≤'} {row.needed:g}]"
        star = " *" if row.missed else ""
        spread = f"({row.low:.3g}–{row.high:.3g})"
        say(f"{row.part:22} {row.what:34} {row.value:9.3g} {row.unit:5} {spread}{goal}{star}")


def over(part: str, what: str, ours: list[float], bare: list[float], unit: str, **goal: object) -> Row:
    """Ours less bare, round by round: median, least, most."""
    values = [one - other for one, other in zip(ours, bare, strict=True)]
    return Row(part, what, *middle(values), unit, **goal)  # type: ignore[arg-type]


def times(part: str, what: str, ours: list[float], bare: list[float], **goal: object) -> Row:
    """Ours over bare, round by round."""
    values = [one / other for one, other in zip(ours, bare, strict=True)]
    return Row(part, what, *middle(values), "x", **goal)  # type: ignore[arg-type]


def rows_of_loops(name: str, found: dict[str, Samples]) -> list[Row]:
    """The issue's figures for the loop in this process."""
    bare, part = found["bare"], f"in process, {name}"
    rows = [Row(part, "bare p50", *middle(bare.p50_us), "us"), Row(part, "bare CPU", *middle(bare.cpu_us), "us")]
    small = name == "small"
    for label, samples in found.items():
        if label == "bare":
            continue
        path = label == "copy-run-record"
        rows.append(times(part, f"{label} CPU", samples.cpu_us, bare.cpu_us, needed=_cpu_goal(label, small)))
        limit = 15.0 if label == "loop" and small else None
        rows.append(over(part, f"{label} CPU - bare", samples.cpu_us, bare.cpu_us, "us", needed=limit))
        limit = 8.0 if label == "worker" else None
        rows.append(
            over(part, f"{label} p10 - bare", samples.p10_us, bare.p10_us, "us", needed=None if path else limit)
        )
    return rows


def _cpu_goal(label: str, small: bool) -> float | None:
    if small:
        return 1.10 if label == "copy-run-record" else None
    return 1.03 if label == "loop" else None


def rows_of_servers(name: str, found: dict[str, Samples]) -> list[Row]:
    """One request at a time, pinned: ours with its targets, peers without."""
    bare, part, small = found["bare"], f"REST c1, {name}", name == "small"
    rows = []
    for label, samples in found.items():
        if label == "bare":
            continue
        ours = label == "edgewise"
        cpu_goal = (4.0 if small else 1.06) if ours else None
        rows.append(times(part, f"{label} CPU", samples.cpu_us, bare.cpu_us, needed=cpu_goal))
        if small:
            limit = 60.0 if ours else None
            rows.append(over(part, f"{label} p10 - bare", samples.p10_us, bare.p10_us, "us", needed=limit))
        else:
            limit = 1.08 if ours else None
            rows.append(times(part, f"{label} p50", samples.p50_us, bare.p50_us, needed=limit))
        rows.append(Row(part, f"{label} p99", *middle(samples.p99_us), "us"))
    return rows
