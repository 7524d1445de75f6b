"""Rollouts that know model quality: how soon a worse release is found, on how many devices, and how often a good one
is taken back: `make bench NAME=rollout`.

A simulated fleet of 1,000 devices (`rollout_parts/simulated.py`), waves of 10, 50, 200, 500 and 1,000 a day each,
labels half a day late. Our rules are the product's own functions with the default policy and a shadow set of 100
devices; some runs go through the whole engine of rollouts as well, device by device. Beside them a fixed threshold, a
z-test and Kayenta's Mann-Whitney rule, as they are and with the bound at which 1 % of the equal candidates are taken
back. Our defaults were chosen, and the peers' bounds are calibrated, on seed 1; what is reported comes from seed 2.
Then the time of the engine's own look at 100,000 devices. Writes `rollout.json` and `rollout.md` into the results
folder; exit code 1 if a figure that is needed is missed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rollout_parts import cells, peers
from rollout_parts.cells import CASES, STRICT, Number, Share
from rollout_parts.replay import agreements
from rollout_parts.steps import Timing, timings

TUNED_ON = 1
BUDGETS = (200, 300, 400)
SHADOWED = ("two", "one", "equal", "some", "better", "five", "two, apart", "one, apart", "mixed")
ROLLED = ("two", "one", "equal", "some", "two, apart", "one, apart", "mixed")
UNLABELLED = ("five", "two", "one", "equal", "some", "mixed")
WHOLE = ("two", "one", "equal", "some")
REPLAYED = (("one", 200), ("two", 400), ("some", 300), ("equal", 300))
PEERS = ("equal", "one", "two", "five", "some", "mixed")
STEPS_MS_MAX = 200.0
Row = dict[str, Share | Number]
Tables = dict[str, dict[str, Row]]


def measured(options: argparse.Namespace) -> Tables:
    """Every cell, by table and row."""

    def runs(case: str) -> int:
        return int(options.strict_runs if case in STRICT else options.runs)

    def name(case: str, a_day: int) -> str:
        return f"{CASES[case].name}; {a_day} labels a day" if a_day else CASES[case].name

    tables: Tables = {"shadow": {}, "waves": {}, "waves without labels": {}, "shadow and waves": {}, "others": {}}
    tables["through the whole engine"] = {}
    seed = options.seed
    for a_day in BUDGETS:
        for case in SHADOWED:
            found = cells.in_shadow(case, a_day, seed=seed, runs=runs(case))
            _note(tables, "shadow", name(case, a_day), cells.shadow_row(found))
        for case in ROLLED:
            rolled = cells.in_waves(case, a_day, seed=seed, runs=runs(case))
            _note(tables, "waves", name(case, a_day), cells.waves_row(rolled))
    for case in UNLABELLED:
        rolled = cells.in_waves(case, 0, seed=seed, runs=runs(case))
        _note(tables, "waves without labels", name(case, 0), cells.waves_row(rolled))
    for a_day in (BUDGETS[0], BUDGETS[-1]):
        for case in WHOLE:
            through = cells.whole(case, a_day, seed=seed, runs=options.runs)
            _note(tables, "shadow and waves", name(case, a_day), cells.whole_row(through))
    for case, a_day in REPLAYED:
        alike = agreements(CASES[case], a_day, cells.chances(seed, f"replay {case}", options.replays))
        _note(tables, "through the whole engine", name(case, a_day), {"ends alike": cells.share(alike)})
    bounds = peers.calibrated(cells.by_peers("equal", seed=TUNED_ON, runs=options.strict_runs))
    for case in PEERS:
        seen = cells.by_peers(case, seed=seed, runs=runs(case))
        for rule, nominal in peers.NOMINAL.items():
            for word, bound in (("as it is", nominal), ("at 1 %", bounds[rule])):
                _note(tables, "others", f"{CASES[case].name}; {rule}, {word}", cells.peer_row(seen, rule, bound))
    return tables


def _note(tables: Tables, table: str, name: str, row: Row) -> None:
    tables[table][name] = row
    print(f"{table}: {name}: " + ", ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr, flush=True)  # noqa: T201 - a script's own output


def needed(tables: Tables) -> list[dict[str, Any]]:
    """The figures that are asked for: table, row, column, and what the value has to be."""
    wanted: list[tuple[str, str, int | None, str, str, float]] = []
    for a_day in BUDGETS:
        wanted += [
            ("shadow", "two", a_day, "rejected", "≥", 0.99),
            ("shadow", "two", a_day, "labels to reject", "≤", 150),
            ("shadow", "one", a_day, "promoted", "≤", 0.02),
            ("shadow", "equal", a_day, "rejected", "≤", 0.01),
            ("waves", "two", a_day, "hours", "≤", 24),
            ("waves", "two", a_day, "devices exposed", "≤", 20),
            ("waves", "one", a_day, "within 48 h", "≥", 0.95),
            ("waves", "one", a_day, "devices exposed", "≤", 80),
            ("waves", "equal", a_day, "taken back", "≤", 0.01),
            ("waves", "some", a_day, "taken back", "≥", 0.95),
            ("shadow", "some", a_day, "rejected", "≥", 0.95),
        ]
    wanted += [
        ("waves without labels", "five", None, "hours", "≤", 24),
        ("waves without labels", "five", None, "devices exposed", "≤", 30),
        ("waves without labels", "equal", None, "taken back", "≤", 0.015),
    ]
    wanted += [("through the whole engine", case, a_day, "ends alike", "≥", 1.0) for case, a_day in REPLAYED]
    result = []
    for table, case, a_day, column, sign, bound in wanted:
        row = CASES[case].name + (f"; {a_day} labels a day" if a_day else "")
        found = tables[table][row][column]
        met = found.value >= bound if sign == "≥" else found.value <= bound
        limit = f"{sign} {100 * bound:g} %" if isinstance(found, Share) else f"{sign} {bound:g}"
        result.append({"what": f"{table}: {row}: {column}", "needed": limit, "found": str(found), "met": bool(met)})
    return result


def markdown(tables: Tables, goals: list[dict[str, Any]], steps: dict[str, Timing], devices: int, about: str) -> str:
    lines = [f"{about}. In brackets 95 % intervals; **bold** misses what is needed.", ""]
    lines += ["| figure | needed | found |", "|---|---|---|"]
    for goal in goals:
        found = goal["found"] if goal["met"] else f"**{goal['found']}**"
        lines.append(f"| {goal['what']} | {goal['needed']} | {found} |")
    for table, rows in tables.items():
        columns = list(next(iter(rows.values())))
        lines += ["", f"## {table}", "", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        lines += [f"| {name} | {' | '.join(str(value) for value in row.values())} |" for name, row in rows.items()]
    lines += ["", f"## One look at {devices:,} devices", "", "| situation | ms (least–most) | processor ms | steps |"]
    lines += ["|---|---|---|---|"]
    for name, one in steps.items():
        span = f"{one.middle:.0f} ({one.least:.0f}–{one.most:.0f})"
        lines.append(
            f"| {name} | {span if one.least <= STEPS_MS_MAX else f'**{span}**'} | {one.cpu:.0f} | {one.steps} |"
        )
    return "\n".join(lines) + "\n"


def _plain(row: Row) -> dict[str, Any]:
    return {column: asdict(value) for column, value in row.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, help="of each cell")
    parser.add_argument("--strict-runs", type=int, default=3000, help="of the equal and the 1-point-worse cells")
    parser.add_argument("--replays", type=int, default=25, help="runs that go through the whole engine as well")
    parser.add_argument("--seed", type=int, default=2, help="1 is what the defaults were chosen on")
    parser.add_argument("--devices", type=int, default=100_000, help="of the fleet whose look is timed")
    parser.add_argument("--rounds", type=int, default=15, help="of each timing")
    parser.add_argument("--quick", action="store_true", help="few runs: to see that it works")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.strict_runs, options.replays, options.rounds = 30, 60, 5, 3
    started = time.monotonic()
    steps = timings(options.devices, options.rounds)
    tables = measured(options)
    goals = needed(tables)
    about = (
        f"{platform.machine()}, Python {platform.python_version()}, seed {options.seed}, {options.runs} runs a cell, "
        f"{options.strict_runs} of the equal and the 1-point-worse one, {time.monotonic() - started:.0f} s"
    )
    text = markdown(tables, goals, steps, options.devices, about)
    options.results.mkdir(parents=True, exist_ok=True)
    plain = {
        "about": about,
        "needed": goals,
        "tables": {table: {name: _plain(row) for name, row in rows.items()} for table, rows in tables.items()},
        "steps": {name: asdict(one) for name, one in steps.items()},
    }
    (options.results / "rollout.json").write_text(json.dumps(plain, indent=1))
    (options.results / "rollout.md").write_text(text)
    sys.stdout.write(text)
    missed = [goal for goal in goals if not goal["met"]] + [one for one in steps.values() if one.least > STEPS_MS_MAX]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
