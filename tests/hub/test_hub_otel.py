"""Export by OTLP: off by default, spans that meet the log lines, and a collector that is away changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edgewise.ports.otel import is_wanted
from edgewise.wire.trace import HEADER, Trace
from needed import needs_module

TRACE = Trace(id="a" * 32, span="b" * 16)
COLLECTOR = Path(__file__).resolve().parents[1] / "otlp_collector.py"


@pytest.fixture
def collector() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    needs_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    process = subprocess.Popen([sys.executable, str(COLLECTOR)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip(), process
    process.kill()
    process.wait()
    process.stdout.close()


def hub(folder: Path, **more: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EDGEWISE_", "OTEL_"))}
    command = ["hub", "serve", "--data-dir", str(folder), "--http-port", "0", "--device-port", "0"]
    with (folder.parent / "hub.err").open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "edgewise", *command],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**kept, **more},
        )


def ask(process: subprocess.Popen[str], folder: Path, times: int = 3) -> float:
    """A few requests in the trace, and a clean end; comes back with how long the slowest took."""
    assert process.stdout is not None
    url = process.stdout.readline().strip().rpartition(" ")[2]
    token = (folder / "tokens" / "admin.token").read_text().strip()
    slowest = 0.0
    with httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {token}", HEADER: TRACE.header}, timeout=20
    ) as http:
        for _ in range(times):
            started = time.perf_counter()
            assert http.get("/api/v1/overview").status_code == 200
            slowest = max(slowest, time.perf_counter() - started)
    process.terminate()
    assert process.wait(30) == 0
    process.stdout.close()
    return slowest


def test_spans_and_metrics_reach_a_real_collector_under_the_trace_of_who_asked(collector, tmp_path):
    url, process = collector
    ask(hub(tmp_path / "hub", EDGEWISE_OTLP_ENDPOINT=url), tmp_path / "hub")
    process.terminate()
    assert process.stdout is not None
    found = [json.loads(line) for line in process.stdout]
    spans = [one for one in found if one.get("name") == "GET /overview"]
    assert len(spans) == 3
    assert {(one["trace"], one["parent"], one["service"]) for one in spans} == {(TRACE.id, TRACE.span, "edgewise-hub")}
    assert len({one["span"] for one in spans}) == 3
    assert spans[0]["told"]["http.response.status_code"] == 200
    metrics = {one["metric"]: one for one in found if "metric" in one}
    assert metrics["edgewise_hub_requests_total"]["kind"] == "sum"
    assert [{"route": "/overview", "status": "200"}, 3.0] in metrics["edgewise_hub_requests_total"]["values"]
    assert metrics["edgewise_hub_leads"]["values"] == [[{}, 1.0]]
    assert metrics["edgewise_hub_request_duration_seconds_count"]["kind"] == "sum"


def test_a_collector_that_is_away_changes_nothing(tmp_path):
    slowest = ask(hub(tmp_path / "hub", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9"), tmp_path / "hub", times=20)
    assert slowest < 5
    assert "Traceback" not in (tmp_path / "hub.err").read_text()


def test_the_export_is_off_unless_it_is_asked_for_and_then_loads_nothing():
    assert not is_wanted({})
    assert not is_wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"})
    heavy = "('opentelemetry.sdk', 'opentelemetry.exporter')"
    code = f"import sys, edgewise.hub.serve; print([n for n in sys.modules if n.startswith({heavy})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
