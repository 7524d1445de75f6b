"""The tables and plain sentences of `bench/loop.py`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def spread(values: Sequence[float | None]) -> str:
    """Mean over seeds, and the smallest and largest in brackets."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    return f"{statistics.mean(known):.3f} ({min(known):.3f}–{max(known):.3f})"


def markdown(result: Mapping[str, Any]) -> str:
    """The result as tables for docs/benchmarks.md."""
    seeds = result["seeds"]
    training = result["config"] or "the trainer's own settings"
    names = list(seeds[0]["start"])
    lines = [
        f"### Quality over rounds, {result['data'].upper()} data",
        "",
        f"{result['text']}. {len(seeds)} seeds; each cell is the mean over seeds (smallest–largest). "
        f"Machine: {result['machine']}. Command: `{result['command']}`. Training: {training}.",
        "",
    ]
    for name in names:
        lines += [f"**{name}**", "", *_measure_table(seeds, name), ""]
    lines += ["**Cost**", "", *_cost_table(seeds), ""]
    latency = [one["latency_ms"] for one in seeds]
    lines += [
        f"Decision latency: p50 {spread([one['p50'] for one in latency])} ms, "
        f"p99 {spread([one['p99'] for one in latency])} ms, "
        f"bare runtime p50 {spread([one['bare_p50'] for one in latency])} ms.",
        "",
        *_verdicts(seeds, seeds[0]["measures"]),
    ]
    return "\n".join(lines) + "\n"


def _measure_table(seeds: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    rounds = len(next(iter(seeds[0]["lines"].values())))
    head = ["| what | start |", "|---|---|"]
    head = [head[0] + "".join(f" {number} |" for number in range(1, rounds + 1)), head[1] + "---|" * rounds]
    rows = []
    for line in seeds[0]["lines"]:
        cells = [spread([seed["start"][name] for seed in seeds])]
        cells += [spread([seed["lines"][line][index]["quality"][name] for seed in seeds]) for index in range(rounds)]
        rows.append(f"| {line} | " + " | ".join(cells) + " |")
        if "floor" in seeds[0]["lines"][line][0]:
            cells = [spread([seed["start_floor"][name] for seed in seeds])]
            cells += [spread([seed["lines"][line][index]["floor"][name] for seed in seeds]) for index in range(rounds)]
            rows.append(f"| HOG + logistic regression, labels of {line} | " + " | ".join(cells) + " |")
    return head + rows


def _cost_table(seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = ["| what | labels | share of bytes | training seconds a round |", "|---|---|---|---|"]
    for line in seeds[0]["lines"]:
        labels = [sum(row["labels"] for row in seed["lines"][line]) for seed in seeds]
        share = [sum(row["bytes"] for row in seed["lines"][line]) / seed["bytes_if_all_uploaded"] for seed in seeds]
        seconds = [statistics.mean(row["train_seconds"] for row in seed["lines"][line]) for seed in seeds]
        rows.append(f"| {line} | {spread([float(one) for one in labels])} | {spread(share)} | {spread(seconds)} |")
    return rows


def _verdicts(seeds: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Plain sentences: where the floor is not beaten, where random wins, and what was forgotten."""
    found = []
    for line in seeds[0]["lines"]:
        for name in names:
            last = [seed["lines"][line][-1] for seed in seeds]
            ours = _mean(one["quality"][name] for one in last)
            floor = _mean(one["floor"][name] for one in last) if "floor" in last[0] else None
            if floor is not None and ours is not None and ours <= floor:
                found.append(f"- {line}, {name}: **not above the floor**, {ours:.3f} against {floor:.3f}.")
            if line.startswith("loop") and ours is not None:
                rival = _mean(seed["lines"][line.replace("loop", "random")][-1]["quality"][name] for seed in seeds)
                if rival is not None and rival > ours:
                    found.append(f"- {line}, {name}: random upload ended higher, {rival:.3f} against {ours:.3f}.")
        if "a_zoom2" in names:
            lost = _mean(seed["start"]["a_zoom2"] - seed["lines"][line][-1]["quality"]["a_zoom2"] for seed in seeds)
            found.append(f"- {line}: forgetting on a_zoom2 {100 * (lost or 0):.1f} points.")
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None
