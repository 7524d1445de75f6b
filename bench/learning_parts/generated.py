"""The generated world: every way to choose, with the plain recipe and with the whole loop, on seeds of its own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

from learning_parts import arms
from learning_parts.rounds import PLAIN, WHOLE, Recipe, World, first_bundle, run_arm
from learning_parts.world import NEW_FROM, SITES, SitePlan

SEEDS = (3, 4, 5)  # the world was calibrated, and our settings chosen, on 0 to 2
STABLE = next(site.name for site in SITES if site.drift == "none")
NEW_SITES = {site.name: NEW_FROM[site.drift] for site in SITES if site.drift in NEW_FROM}
OURS = "edgewise"
T_975 = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571}  # Student's t, two-sided 95 %, by degrees of freedom
FIGURES = {"recall": 0.77, "bytes": 0.035, "new recall": 0.6, "stable": -0.01}


def _chooser(name: str, seed: int) -> Callable[[SitePlan], arms.Choice]:
    def number(site: SitePlan) -> int:
        return 100 * seed + SITES.index(site)

    kinds: dict[str, Callable[[SitePlan], arms.Choice]] = {
        "nothing": lambda _site: arms.nothing,
        "random": lambda site: arms.Random(number(site)),
        "entropy": lambda _site: arms.entropy,
        "Sedna": lambda _site: arms.sedna,
        "everything": lambda _site: arms.everything,
        OURS: lambda site: arms.Ours(number(site)),
    }
    return kinds[name]


# The first network as it is, for each recipe: what an undrifted site has without any loop.
FIRST = {PLAIN: "nothing, plain", WHOLE: "nothing, our first network"}
RUNS: tuple[tuple[str, str, Recipe], ...] = (
    *((f"{name}, plain", name, PLAIN) for name in ("nothing", "random", "entropy", "Sedna", "everything")),
    (FIRST[WHOLE], "nothing", replace(WHOLE, adapts=False)),
    *((f"{name}, our recipe", name, WHOLE) for name in ("nothing", "random", "entropy", "Sedna")),
    ("edgewise, plain", OURS, PLAIN),
    (OURS, OURS, WHOLE),
)


def one_run(seed: int, run: int) -> dict[str, Any]:
    """One arm on one seed, as plain values."""
    row, name, recipe = RUNS[run]
    world = World.make(seed)
    line = run_arm(world, first_bundle(world, recipe), row, _chooser(name, seed), recipe)
    return {"row": row, "seed": seed, "whole_bytes": world.bytes_whole, "rounds": line.rounds}


def all_runs(seeds: Sequence[int], jobs: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every arm on every seed, some at a time in processes of their own."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(one_run, seed, run) for seed in seeds for run in reversed(range(len(RUNS)))]
        found = []
        for future in waiting:
            found.append(future.result())
            say(f"{found[-1]['row']}, seed {found[-1]['seed']}: {found[-1]['rounds'][-1]['macro_recall']:.3f}")
    return found


def summed_up(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By row: what it reached, what it cost, and what it did where nothing drifted."""
    first = {recipe: {run["seed"]: run for run in runs if run["row"] == row} for recipe, row in FIRST.items()}
    found = {}
    for row, _name, recipe in RUNS:
        mine = [run for run in runs if run["row"] == row]
        if not mine:
            continue
        still = first[PLAIN if recipe is PLAIN else WHOLE]
        found[row] = {
            "recall": interval([run["rounds"][-1]["macro_recall"] for run in mine]),
            "seeds": [round(run["rounds"][-1]["macro_recall"], 3) for run in mine],
            "bytes": statistics.mean(sum(one["bytes"] for one in run["rounds"]) / run["whole_bytes"] for run in mine),
            "labels": statistics.mean(sum(one["labels"] for one in run["rounds"]) for run in mine),
            "stable": interval([_at(run, STABLE) - _at(still[run["seed"]], STABLE) for run in mine]),
            "sites": {site.name: statistics.mean(_at(run, site.name) for run in mine) for site in SITES},
            "first label": [_first_label(run) for run in mine],
            "new recall": [_new_recalls(run) for run in mine],
            "train seconds": statistics.mean(one["train_seconds"] for run in mine for one in run["rounds"]),
        }
    return found


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval over seeds, by Student's t; a single value has none."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = T_975[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def _at(run: dict[str, Any], site: str) -> float:
    """Macro recall at a site, over the last three rounds: of one round's 144 pictures it is rough."""
    return statistics.mean(one["sites"][site] for one in run["rounds"][-3:])


def _first_label(run: dict[str, Any]) -> int | None:
    """Rounds after the new class first came until it was first among what was sent: 0 is the very round."""
    first = min(NEW_SITES.values())
    came = next((one["round"] for one in run["rounds"] if one["new_class_labels"]), None)
    return None if came is None else came - first


def _new_recalls(run: dict[str, Any]) -> dict[str, float]:
    """By site: the best recall of the new class on the next round, within three rounds of its coming."""
    return {
        site: max(one["new_class_recall"].get(site, 0.0) for one in run["rounds"] if first <= one["round"] < first + 3)
        for site, first in NEW_SITES.items()
    }


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """The rows as Markdown."""
    lines = [
        "| arm | macro recall, next round (95 %) | bytes | labels | undrifted site, points "
        "| new class: first label after, best recall within three rounds |",
        "|---|---|---|---|---|---|",
    ]
    for row, one in found.items():
        first = ", ".join("never" if value is None else str(value) for value in one["first label"])
        recalls = [value for run in one["new recall"] for value in run.values()]
        stable = "–" if row.startswith("nothing") else _points(one["stable"])
        lines.append(
            f"| {row} | {one['recall'][0]:.3f} ({one['recall'][1]:.3f} to {one['recall'][2]:.3f}) "
            f"| {one['bytes']:.2%} | "
            f"{one['labels']:.0f} | {stable} | {first} rounds; {min(recalls):.2f} to {max(recalls):.2f} |"
        )
    return lines


def missed(found: dict[str, dict[str, Any]]) -> list[str]:
    """A sentence for each figure that ours does not reach."""
    ours = found[OURS]
    recalls = [value for run in ours["new recall"] for value in run.values()]
    told = []
    if ours["recall"][0] < FIGURES["recall"]:
        told.append(f"macro recall {ours['recall'][0]:.3f}, needed {FIGURES['recall']}")
    if ours["bytes"] > FIGURES["bytes"]:
        told.append(f"bytes {ours['bytes']:.2%}, allowed {FIGURES['bytes']:.1%}")
    if any(value is None or value > 1 for value in ours["first label"]):
        told.append(f"first label of the new class after {ours['first label']} rounds, needed within one")
    if min(recalls) < FIGURES["new recall"]:
        told.append(
            f"recall of the new class {min(recalls):.2f} at the worst site and seed, needed {FIGURES['new recall']}"
        )
    if ours["stable"][0] < FIGURES["stable"]:
        told.append(f"undrifted site {_points(ours['stable'])} points, allowed -1")
    return told


def _points(value: tuple[float, float, float]) -> str:
    return f"{100 * value[0]:+.1f} ({100 * value[1]:+.1f} to {100 * value[2]:+.1f})"
