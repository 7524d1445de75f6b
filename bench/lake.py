"""What the lake costs and how soon a row is seen in it: `make bench NAME=lake`.

A hub in a folder gets readings of four channels through its own intake; then its committer is timed alone. Processor
time is this process's own, all threads. Every cell is the median over rounds, with the least and the most. Exit code 1
if a figure that is needed is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from hub_parts.lake import lag, measured

NEEDED = {"rows a core and second": 500_000}
LAG_S_MAX = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readings", type=int, default=500_000, help="of each round and size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000], help="readings a segment")
    parser.add_argument("--lag-seconds", type=int, default=90)
    options = parser.parse_args()
    missed, lines = [], ["| readings a segment | figure | needed | found |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for each in options.sizes:
            rounds = [
                measured(Path(folder) / f"{each}-{number}", segments=options.readings // each, each=each)
                for number in range(options.rounds)
            ]
            for name in rounds[0]:
                values = [one[name] for one in rounds]
                middle, bound = statistics.median(values), NEEDED.get(name)
                if bound is not None and middle < bound:
                    missed.append(f"{each} a segment: {name}: {middle:,.0f}, needed at least {bound:,}")
                form = ",.0f" if middle >= 100 else ".2f"
                cell = f"{middle:{form}} ({min(values):{form}} to {max(values):{form}})"
                lines.append(f"| {each} | {name} | {'–' if bound is None else f'{bound:,}'} | {cell} |")
        worst = lag(Path(folder) / "lag", seconds=options.lag_seconds)
    if worst > LAG_S_MAX:
        missed.append(f"a row was seen after {worst:.1f} s, needed at most {LAG_S_MAX}")
    lines.append(f"| 4 | longest time from ack to row, s | {LAG_S_MAX} | {worst:.1f} |")
    sys.stdout.write("\n".join([*lines, "", *(f"- missed: {one}" for one in missed)]) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
