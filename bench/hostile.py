"""Time and memory of refusing hostile bundles: `make bench NAME=hostile`.

Every file of the tests' corpus goes through the function behind `edgewise bundle verify`, in a process of its own.
Memory is the peak of that process over one that verified a small good bundle, and the peak of its limited child over
the child of that good bundle. Time is that of the processor, both processes together, since a busy machine stretches
the other one, which is shown too. Exit code 1 if a refusal takes 2 s, or 64 MB, or does not happen; of the large file
only the memory is judged.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

SECONDS_MAX, MB_MAX = 2.0, 64.0
MEASURE = """
import json, resource, sys, time
from pathlib import Path
from edgewise.ports import OnnxRuntime, verify_bundle
from edgewise.wire import EdgewiseError
began, cpu, code = time.perf_counter(), time.process_time(), "good"
try:
    verify_bundle(Path(sys.argv[1]), OnnxRuntime())
except EdgewiseError as error:
    code = error.code
took = time.perf_counter() - began
children = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = time.process_time() - cpu + children.ru_utime + children.ru_stime
own = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
print(json.dumps({"code": code, "seconds": took, "cpu": cpu, "own": own, "child": children.ru_maxrss / 1024}))
"""


def say(text: str) -> None:
    """One line of output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def load_corpus() -> ModuleType:
    """The tests' hostile files."""
    place = Path(__file__).parents[1] / "tests" / "hostile_corpus.py"
    spec = importlib.util.spec_from_file_location("hostile_corpus", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(path: Path) -> dict[str, Any]:
    """One verification in a new process."""
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def cases(corpus: ModuleType, folder: Path, large_mb: int) -> dict[str, tuple[Path, str]]:
    """All hostile bundles by name, with the code that each needs."""
    made: dict[str, tuple[Path, str]] = {}
    for name, (make, code) in corpus.NETWORKS.items():
        made[f"network: {name}"] = (corpus.bundle_folder(folder / f"n{len(made)}" / "bundle", make()), code)
    for name, (pack, code) in corpus.PACKED.items():
        place = folder / f"p{len(made)}"
        made[f"file: {name}"] = (pack(place / "packed.zip", corpus.bundle_folder(place / "bundle")), code)
    for name, (change, code) in corpus.FOLDERS.items():
        place = corpus.bundle_folder(folder / f"f{len(made)}" / "bundle")
        change(place)
        made[f"folder: {name}"] = (place, code)
    values = np.ones((2, large_mb * 125_000), np.float32)
    values[1, -1] = np.nan
    large = corpus.network(tensors=[corpus.weights(values)])
    made[f"large: NaN at the end of {large_mb} MB"] = (
        corpus.bundle_folder(folder / "large" / "bundle", large),
        "weights_not_finite",
    )
    return made


def main() -> int:
    """Run the benchmark; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large-mb", type=int, default=256, help="size of the large network")
    parser.add_argument("--only", default="", help="only cases whose name has this word")
    options = parser.parse_args()
    corpus, missed = load_corpus(), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = corpus.bundle_folder(folder / "good")
        base = measure(good)
        say(f"{'':58}{'cpu s':>7}{'wall s':>8}{'MB':>7}{'MB child':>10}  refused as")
        figures = f"{base['cpu']:7.2f}{base['seconds']:8.2f}{base['own']:7.0f}{base['child']:10.0f}"
        say(f"{'a good bundle (the base)':58}{figures}")
        for title, (path, code) in cases(corpus, folder, options.large_mb).items():
            if options.only not in title:
                continue
            seen = measure(path)
            own, child = max(0.0, seen["own"] - base["own"]), max(0.0, seen["child"] - base["child"])
            wrong = (
                seen["code"] != code
                or own > MB_MAX
                or child > MB_MAX
                or (seen["cpu"] > SECONDS_MAX and not title.startswith("large"))
            )
            missed += wrong
            line = f"{title:58}{seen['cpu']:7.2f}{seen['seconds']:8.2f}{own:7.1f}{child:10.1f}  {seen['code']}"
            say(line + ("   <- missed" if wrong else ""))
    say(f"limits: {SECONDS_MAX:g} s and {MB_MAX:g} MB over the base; {missed} missed")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
