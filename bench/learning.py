"""How much better the loop makes a model, for how few bytes and labels: `make bench NAME=learning`.

The generated world (`learning_parts/world.py`): eight sites that inspect surfaces, one drift each, seven rounds, ten
crops a site and round; macro recall on the next round. Beside the loop: random upload, entropy, Sedna's filter, and
sending everything, each with the plain recipe that the world was calibrated with, and the first three with our recipe
too, so that the choice and the training can be told apart. Writes `learning.json` and `learning.md` into the results
folder; exit code 1 if a figure that is needed is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

from learning_parts import generated


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(generated.SEEDS))
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    started_s = time.perf_counter()
    runs = generated.all_runs(options.seeds, options.jobs, lambda line: sys.stdout.write(line + "\n"))
    found = generated.summed_up(runs)
    missed = generated.missed(found)
    about = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    lines = [
        f"# Learning ({about}, seeds {', '.join(map(str, options.seeds))}, {time.perf_counter() - started_s:.0f} s)",
        "",
        *generated.table(found),
        "",
        *(f"- missed: {one}" for one in missed),
    ]
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "learning.md").write_text("\n".join(lines) + "\n")
    (options.results / "learning.json").write_text(json.dumps({"runs": runs, "found": found}, indent=1))
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
