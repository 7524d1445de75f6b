"""One id from the device's log through the hub's to the worker's, with the processes that people run."""

from __future__ import annotations

import io
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgewise.apps.processes import Installation
from edgewise.edge._data_key import device_safe
from edgewise.edge.outbox import Entry, Outbox, OutboxLimits
from edgewise.ports import SystemChance
from edgewise.ports.api import HubApi
from edgewise.wire import Decision, Sample, digest

USECASE = b"""
name: press
app: factory
outcome: {goal: find pits, labels: [good, pit], good_labels: [good]}
people: {owner: ann, approver: bob, oversight: the line's stop button}
sites: [{name: north}]
retrain: {labels_min: 1000}
connectivity: {contact_s: 1}
"""
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), (number * 10, 200 - number * 10, 100)).save(out, "PNG")
    return out.getvalue()


def fill(folder: Path, count: int) -> list[str]:
    """Samples that wait in a device's outbox, as after decisions; comes back with their ids."""
    outbox = Outbox(
        folder / "outbox", chance=SystemChance(), limits=OutboxLimits(bytes_max=10 << 20), safe=device_safe(folder).safe
    )
    ids = []
    for number in range(count):
        content = picture(number)
        decision = Decision(label="good", confidence=0.6, margin=0.2, bundle="0" * 64)
        record = Sample(
            id=f"{number + 1:032x}", frame=f"f{number}", site="north", taken_at=NOW, kept_at=NOW, why="margin",
            decision=decision, inclusion_probability=1, blob=digest(content), size_bytes=len(content),
            media_type="image/png",
        )  # fmt: skip
        entry = Entry(
            record=record, record_class="sample", policy_version=1, transform="strip-metadata", content=content
        )
        assert outbox.add(entry)
        ids.append(record.id)
    outbox.close()
    return ids


def lines(path: Path) -> list[dict[str, Any]]:
    found = [line for line in path.read_text().splitlines() if line.startswith("{")]
    return [json.loads(line) for line in found]


def until(found: Any, what: str, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.2)
    raise AssertionError(what)


# The installation lets go of its ceremony's process as soon as that has said its word.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_trace_is_in_the_logs_of_device_hub_and_worker(tmp_path: Path) -> None:
    device = tmp_path / "device"
    with Installation(tmp_path / "all", http_port=0, device_port=0) as there:
        with HubApi(there.url, there.token("admin")) as api:
            api.post("/usecases", content=USECASE, media_type="application/yaml")
            token = api.post("/enrolment-tokens", {"use_case": "press", "site": "north"})["token"]
            enrol = ["edge", "enroll", "--token", token, "--hub", there.device_url, "--data-dir", str(device)]
            there.start("enrol", enrol).wait_for("is enrolled")
            ids = fill(device, 8)
            camera = tmp_path / "camera"
            camera.mkdir()
            run = ["edge", "run", "--data-dir", str(device), "--source", str(camera), "--http-port", "0"]
            there.start("device", run)
            until(lambda: len(api.get("/samples", use_case="press")["samples"]) == 8, "the samples did not arrive")
            said = [{"sample": name, "label": "good" if number % 2 else "pit"} for number, name in enumerate(ids)]
            api.post("/labels", {"labels": said})
            order = api.post("/orders", {"use_case": "press", "why": "a test of traces"})
        trace = order["trace"]
        assert trace is not None

        def worker() -> list[dict[str, Any]]:
            return [one for one in lines(there.log("worker")) if order["id"] in one["text"]]

        begun = until(worker, "the worker did not begin")
        assert {one["trace"] for one in begun} == {trace}
        written = [one for path in sorted((device / "log").iterdir()) for one in lines(path)]
        told = [one for one in written if one.get("trace") == trace]
        assert "stored at the hub" in told[0]["text"]

        def hub() -> set[str]:
            return {one["what"] for one in lines(there.log("hub")) if one.get("trace") == trace}

        # The contact that brought the sample, and the worker's calls for the order that followed from it.
        until(lambda: {"hub.contact", "hub.request"} <= hub(), f"the hub's log has {hub()} of the trace", 120)
