"""Dashboards and alert rules: they name what exists, the rules hold in Prometheus' own tests, the docs list all."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgewise.cli._app import build
from edgewise.edge._device_metrics import metrics_page
from edgewise.edge._v2_metrics import metrics_page as served_page
from edgewise.edge._v2_models import Tally
from edgewise.hub.api.metrics import Metrics
from exposition import families, promtool

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"\bedgewise_[a-z0-9_]+\b")
DASHBOARDS = ("edgewise-fleet", "edgewise-rollout", "edgewise-device", "edgewise-quality")


def edge_page(folder: Path) -> str:
    spec = importlib.util.spec_from_file_location("edge_surroundings", ROOT / "tests" / "edge" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    surroundings = importlib.util.module_from_spec(spec)
    sys.modules["edge_surroundings"] = surroundings
    spec.loader.exec_module(surroundings)
    fleet = surroundings.Fleet(folder)
    device = fleet.device()
    fleet.assign(fleet.release(1))
    fleet.run(device, 5)
    tally = Tally()
    tally("net", 200, 0.004)
    return metrics_page(device, None).decode() + served_page(tally).decode()


@pytest.fixture
def page(make_yard, tmp_path):
    """Everything that a hub with a folder, a device and a served network show."""
    hub = make_yard(data_dir=tmp_path / "hub").hub
    hub.tick()
    return Metrics(hub).text().decode() + edge_page(tmp_path / "device")


@pytest.fixture
def written(tmp_path):
    folder = tmp_path / "monitoring"
    done = CliRunner().invoke(build(), ["hub", "monitoring", "-o", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


def names(page: str) -> set[str]:
    found = set()
    for name, kind in families(page).items():
        found |= {f"{name}{end}" for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return found


def test_every_metric_that_a_dashboard_or_a_rule_names_exists(page, written):
    there = names(page)
    for file in sorted(written.iterdir()):
        if file.suffix not in (".json", ".yaml") or file.name == "prometheus.yaml":
            continue
        unknown = set(NAME.findall(file.read_text())) - there
        assert unknown == set(), f"{file.name} names what no page has: {sorted(unknown)}"


def test_the_dashboards_are_whole(written):
    for name in DASHBOARDS:
        board = json.loads((written / f"{name}.json").read_text())
        assert board["uid"] == name
        ids = [panel["id"] for panel in board["panels"]]
        assert ids == sorted(set(ids))
        assert all(target["expr"] for panel in board["panels"] for target in panel["targets"])


def test_the_rules_are_clean_and_each_alert_comes_when_it_should_and_only_then(written):
    rules = (written / "rules.yaml").read_text()
    said = promtool("check", "rules", str(written / "rules.yaml"))
    assert "SUCCESS" in said, said
    assert "SUCCESS" in promtool("test", "rules", str(written / "rules_test.yaml"))
    assert "SUCCESS" in promtool("check", "config", str(written / "prometheus.yaml"))
    tests = (written / "rules_test.yaml").read_text()
    for alert in re.findall(r"alert: (\w+)", rules):
        assert f"{alert}, bad" in tests
        assert f"{alert}, good" in tests
    # A threshold that is never met must be found by the tests.
    (written / "rules.yaml").write_text(rules.replace("< 0.1", "< 0.0001"))
    assert "FAILED" in promtool("test", "rules", str(written / "rules_test.yaml"))


def test_the_docs_list_exactly_the_metrics_that_exist(page):
    text = (ROOT / "docs" / "monitoring.md").read_text()
    told = set(re.findall(r"^\| `(edgewise_\w+)` \|", text, re.M))
    assert told == set(families(page))


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(build(), ["hub", "monitoring", "-o", str(tmp_path / "file" / "x")])
    assert done.exit_code != 0
    assert "cannot be written" in str(done.exception) + done.output
