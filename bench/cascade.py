"""A cascade: how many frames must be handed over for 95 % of the little-big gap, and what that costs a decision.

`make bench NAME=cascade` runs it: scikit-learn's digits, a logistic regression on pooled pixels before a network of 256
hidden units, ten seeds; then the device's own loop before a real `edge serve` process behind a proxy that cuts, stalls
and slows the link. Writes `cascade.json` and `cascade.md` into the results folder.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from cascade_parts.digits import Split, deferred_for, eases, split, streamed
from cascade_parts.link import measure
from scipy.stats import t
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.exceptions import ConvergenceWarning

SHARE_MAX = 0.4
STREAMED = ("margin", "margin, by label", "learned doubt")


def run_seed(seed: int) -> tuple[dict[str, Any], Split]:
    """Every rule's figures for one seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the big network need not be at its very best
        made = split(seed)
    found = eases(made)
    row: dict[str, Any] = {
        "seed": seed,
        "little": float(made.little_right.mean()),
        "big": float(made.big_right.mean()),
        "deferred": {name: deferred_for(made, ease) for name, ease in found.items()},
        "streamed": {name: streamed(made, found[name], SHARE_MAX) for name in STREAMED},
    }
    return row, made


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half of the 95 % interval by Student's t over the seeds."""
    spread = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)), float(t.ppf(0.975, len(values) - 1)) * spread


def words(values: list[float]) -> str:
    mean, half = interval(values)
    return f"{mean:.1%} ± {half:.1%}"


def markdown(rows: list[dict[str, Any]], link: dict[str, dict[str, Any]], about: str) -> str:
    lines = [
        f"{about}. Mean and 95 % interval (Student's t) over {len(rows)} seeds.", "",
        f"Little {words([row['little'] for row in rows])} right, big {words([row['big'] for row in rows])}.", "",
        "| rule | handed over for 95 % of the gap | at most 40 %, frame by frame: handed over | gap closed |",
        "|---|---|---|---|",
    ]  # fmt: skip
    for name in rows[0]["deferred"]:
        cells = [words([row["deferred"][name] for row in rows]), "", ""]
        if name in STREAMED:
            cells[1:] = [words([row["streamed"][name][key] for row in rows]) for key in ("share", "gap")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| link | decisions | p50 | p99 | longest | fates |", "|---|---|---|---|---|---|"]
    for name, one in link.items():
        fates = ", ".join(f"{key} {value}" for key, value in one.items() if not key.endswith(("_ms", "decisions")))
        numbers = f"{one['p50_ms']:.3f} ms | {one['p99_ms']:.3f} ms | {one['longest_ms']:.2f} ms"
        lines.append(f"| {name} | {one['decisions']} | {numbers} | {fates} |")
    return "\n".join(lines) + "\n"


def same_size(made: Split) -> float:
    """How often as many trees as the doubt has are right, when they are the little classifier themselves."""
    from cascade_parts.digits import pooled
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, truth = load_digits(return_X_y=True)
    known, new, known_truth, new_truth = train_test_split(
        pixels / 16.0, truth, test_size=0.4, random_state=0, stratify=truth
    )
    assert len(new) == len(made.pixels)
    trees = ExtraTreesClassifier(100, min_samples_leaf=3, random_state=0).fit(pooled(known), known_truth)
    return float(trees.score(pooled(new), new_truth))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--decisions", type=int, default=2000, help="for each weather of the link")
    parser.add_argument("--every-ms", type=float, default=5.0, help="between two frames")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    started, rows, first = time.monotonic(), [], None
    for seed in range(options.seeds):
        row, made = run_seed(seed)
        rows.append(row)
        first = first or made
        shares = {name: round(share, 3) for name, share in row["deferred"].items()}
        print(f"seed {seed}: {shares}", file=sys.stderr, flush=True)  # noqa: T201 - a script's own output
    assert first is not None
    with tempfile.TemporaryDirectory() as place:
        every_s = options.every_ms / 1000
        link = measure(first, Path(place), share_max=SHARE_MAX, count=options.decisions, every_s=every_s)
    about = f"{platform.machine()}, Python {platform.python_version()}, {time.monotonic() - started:.0f} s"
    text = markdown(rows, link, about)
    text += f"\nThe doubt's trees as the little classifier itself: {same_size(first):.1%} right.\n"
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "cascade.json").write_text(json.dumps({"seeds": rows, "link": link}, indent=1))
    (options.results / "cascade.md").write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
