"""The device sends the sums of its channels once what it sees has changed, and nothing while it has not."""

from __future__ import annotations

import json
import random

import numpy as np

from edgewise.edge._drift_watch import DriftLimits, DriftWatch
from edgewise.edge._sums_told import read_sums
from edgewise.ports import Frame
from edgewise.wire import encode, record_digest

LIMITS = DriftLimits(window_frames=16, calibration=24, inputs_per_window=4)


def rows(fleet, count: int, shift: float, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(count):
        row = {"x": dice.gauss(shift, 0.4), "y": dice.gauss(0, 0.4)}
        frame = Frame(
            name=f"f{fleet.fed:06d}", data=json.dumps(row).encode(), media_type="application/json",
            taken_at=fleet.clock.now(),
        )  # fmt: skip
        fleet.fed += 1
        fleet.frames.append(frame)
        fleet.source.add(frame)


def ready(fleet, **more):
    device = fleet.device(**more)
    device.keeper.drift = DriftWatch(device.ring, lambda: device.updater.running, LIMITS)
    fleet.assign(fleet.release(1))
    fleet.run(device, 3)
    assert device.updater.running is not None
    return device


def test_sums_are_sent_once_when_the_stream_has_changed_and_then_the_new_one_is_normal(fleet):
    device = ready(fleet)
    rows(fleet, 16 * 60, 0.0, seed=1)
    fleet.run(device, 16 * 60 + 40)
    fleet.run(device, 20, seconds=70)
    assert [item for item in fleet.stored("event") if item["what"] == "channel_sums"] == []
    rows(fleet, 16 * 40, 1.5, seed=2)
    fleet.run(device, 16 * 40 + 40)
    fleet.run(device, 20, seconds=70)
    sent = [item for item in fleet.stored("event") if item["what"] == "channel_sums"]
    assert len(sent) == 1
    data = sent[0]["data"]
    assert (data["release"], data["pipeline"]) == ("parts@1", "main")
    inputs, embedding = read_sums(data["input"]), read_sums(data["embedding"])
    assert inputs.mean().shape == (2,)
    assert embedding.mean().shape == (8,)
    assert 0.3 < inputs.mean()[0] < 1.7  # windows from before and after the change
    assert embedding.count == 16 * LIMITS.kept_windows
    assert [item.record_class for item in fleet.hub.headers if item.record_class == "telemetry"]
    assert len(json.dumps(data)) < 2000
    device.close(fleet.clock.now())


def test_where_telemetry_may_not_leave_no_sums_do(fleet):
    device = ready(fleet, data={"data_class": "measurement", "transforms": [], "leave": ["report", "audit"]})
    for shift, seed in ((0.0, 1), (1.5, 2)):
        rows(fleet, 16 * 45, shift, seed)
        fleet.run(device, 16 * 45 + 40)
    fleet.run(device, 20, seconds=70)
    assert [item for item in fleet.stored("event") if item["what"] == "channel_sums"] == []
    device.close(fleet.clock.now())


def test_a_bundle_without_a_reference_keeps_its_identity(fleet):
    """The new field of the manifest is left out where it is empty, so older bundles keep their digests."""
    manifest = ready(fleet).updater.running.pipeline.manifest
    assert manifest.reference is None
    assert b"reference" not in encode(manifest)
    assert len(record_digest(manifest)) == 64
    assert np.isfinite(manifest.defect_threshold)
