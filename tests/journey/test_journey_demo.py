"""The whole story with real processes: what `edgewise demo factory --quick` promises, read from its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]
QUALITY = {"plant", "metric", "value", "low", "high", "random", "everything"}


def run_demo(out: Path, *arguments: str) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGEWISE_")}
    done = subprocess.run(
        [sys.executable, "-m", "edgewise", "demo", "factory", "--quick", "--out", str(out), *arguments],
        capture_output=True,
        text=True,
        timeout=540,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert "Traceback" not in done.stdout + done.stderr
    return dict(json.loads((out / "report.json").read_text()))


def check_promises(report: dict[str, Any], data: str, measures: set[str]) -> None:
    """What holds on any data; qualities are measured in the benchmark, not asserted here."""
    assert report["data"] == data
    assert len(report["rounds"]) >= 2
    for one in report["rounds"]:
        assert set(one["quality"]) == measures
        assert all(set(value) >= QUALITY for value in one["quality"].values())
        assert one["bytes_uploaded"] > 0
        assert one["labels_used"] > 0
    last = report["rounds"][-1]["quality"].values()
    assert all(value["random"] is not None and value["everything"] is not None for value in last)
    sent = sum(one["bytes_uploaded"] for one in report["rounds"])
    assert sent <= 0.16 * report["bytes_if_all_uploaded"], "the byte budget of the whole run is 15 %"
    offline = report["offline"]
    assert offline["decisions_made"] > 0
    assert (offline["records_lost"], offline["records_duplicated"]) == (0, 0)
    assert report["power_cut"]["bundle_whole"] is True
    bad = report["bad_candidate"]
    assert bad["stopped_by_gate"] is True
    assert bad["signer_refused"] is True
    assert bad["reverted"] is True
    assert bad["devices_exposed"] == 1
    assert bad["labels_until_revert"] <= bad["decisions_until_revert"]
    assert bad["returned_to"] == report["rounds"][-1]["release"]
    assert all(report["decision_latency_ms"][name] > 0 for name in ("p50", "p99", "bare_p50"))


def test_the_story_on_generated_pictures(tmp_path: Path) -> None:
    report = run_demo(tmp_path / "out")
    check_promises(report, "generated", {"north", "east", "south", "west"})
    page = (tmp_path / "out" / "report.html").read_text()
    assert "GENERATED" in page.upper()


def test_the_story_on_real_photographs(tmp_path: Path, data_root: Path) -> None:
    report = run_demo(tmp_path / "out", "--data", str(data_root))
    check_promises(report, "real", {"a_zoom2", "a_zoom1_scale", "a_zoom1_pitting", "b", "b_auc", "c"})


def test_a_folder_that_is_not_a_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "edgewise",
            "demo",
            "factory",
            "--quick",
            "--data-dir",
            str(tmp_path),
            "--out",
            str(tmp_path / "o"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("EDGEWISE_")},
    )
    assert done.returncode == 2
    assert "precious" not in done.stderr
    assert "--data-dir" in done.stderr
    assert (tmp_path / "precious.txt").read_text() == "mine"
