"""How much better the loop makes a model, for how few bytes and labels: `make bench NAME=learning`.

The generated world (`learning_parts/world.py`): eight sites that inspect surfaces, one drift each, seven rounds, ten
crops a site and round; macro recall on the next round. Beside the loop: random upload, entropy, Sedna's filter, and
sending everything, each with the plain recipe that the world was calibrated with, and the first three with our recipe
too, so that the choice and the training can be told apart. Two hospitals of real chest X-rays, with EDGEWISE_DATA:
how little of one's labels brings the other's model there; three plants: what the loop gains over random upload. And
how soon a drift is seen, by `learning_parts/drift.py`; what a variant for a site is worth, by
`learning_parts/sites.py`; stated values on real solar stations, by `learning_parts/values.py`; found
boxes on real ceramic tiles, by `learning_parts/boxes.py`. Writes `learning.json`
and `learning.md` into the results folder; exit code 1 if a figure that is needed is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from learning_parts import boxes, drift, generated, hospitals, plants, sites, values


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("world", "hospitals", "plants", "drift", "sites", "values", "boxes", "all")
    parser.add_argument("--part", choices=parts, default="all")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(generated.SEEDS))
    parser.add_argument(
        "--data", default=os.environ.get("EDGEWISE_DATA", ""), help="real data, for the hospitals and the plants"
    )
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    started_s = time.perf_counter()
    plain: dict[str, Any] = {}
    lines: list[str] = []
    missed: list[str] = []
    if options.part in ("world", "all"):
        runs = generated.all_runs(options.seeds, options.jobs, _say)
        found = generated.summed_up(runs)
        plain["world"] = {"runs": runs, "found": found}
        lines += ["## The generated world", "", *generated.table(found), ""]
        missed += generated.missed(found)
    for name, title, part in (("hospitals", "Two hospitals", hospitals), ("plants", "Three plants", plants)):
        if options.part not in (name, "all"):
            continue
        if not options.data:
            _say(f"the {name} are left out: EDGEWISE_DATA is not set, and no --data given")
            continue
        seeds = part.all_seeds(options.data, options.seeds, options.jobs, _say)
        plain[name] = seeds
        lines += [f"## {title}", "", *part.table(seeds), ""]
        missed += part.missed(seeds)
    if options.part in ("drift", "all"):
        figures = drift.drift_figures(options.seeds, _say)
        plain["drift"] = figures
        lines += ["## Drift", "", *drift.table(figures["found"], figures["runs"]), ""]
        missed += figures["missed"]
    if options.part in ("sites", "all"):
        plain["sites"] = sites.site_figures(options.seeds, _say)
        lines += ["## Variants for a site", "", *plain["sites"]["table"], ""]
    if options.part in ("values", "all"):
        if options.data:
            told = values.all_figures(options.data, options.seeds, _say)
            plain["values"] = told
            lines += ["## Stated values on solar stations", "", *values.table(told), ""]
        else:
            _say("the solar stations are left out: EDGEWISE_DATA is not set, and no --data given")
    if options.part in ("boxes", "all"):
        if options.data:
            plain["boxes"] = boxes.all_figures(options.data, options.seeds, _say)
            lines += ["## Found boxes on ceramic tiles", "", *plain["boxes"]["table"], ""]
        else:
            _say("the ceramic tiles are left out: EDGEWISE_DATA is not set, and no --data given")
    about = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    head = f"# Learning ({about}, seeds {', '.join(map(str, options.seeds))}, {time.perf_counter() - started_s:.0f} s)"
    lines = [head, "", *lines, *(f"- missed: {one}" for one in missed)]
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "learning.md").write_text("\n".join(lines) + "\n")
    (options.results / "learning.json").write_text(json.dumps(plain, indent=1))
    _say("\n".join(lines))
    return 1 if missed else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
