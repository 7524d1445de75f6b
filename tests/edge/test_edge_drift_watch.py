"""The watch raises one alarm when a stream has changed, none while it has not, and takes the new one for normal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from edgewise.edge._drift_watch import DriftLimits, DriftWatch
from edgewise.wire import encode, record_digest

LIMITS = DriftLimits(window_frames=16, calibration=24)


def periods(count: int, shift: float, seed: int) -> list[Any]:
    dice = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        items = [SimpleNamespace(embedding=dice.normal(shift, 0.4, 8).astype(np.float32)) for _ in range(16)]
        made.append(SimpleNamespace(pipeline="main", bundle="b", items=items))
    return made


def alarms(watch: DriftWatch, stream: list[Any]) -> list[float]:
    return [evidence for period in stream if (evidence := watch.take(period)) is not None]


def test_an_alarm_comes_once_when_the_stream_has_changed_and_then_the_new_one_is_normal():
    watch = DriftWatch(lambda: SimpleNamespace(bundle="b"), LIMITS)  # type: ignore[arg-type, return-value]
    assert alarms(watch, periods(60, 0.0, 1)) == []
    found = alarms(watch, periods(100, 1.5, 2))
    assert len(found) == 1
    assert found[0] >= LIMITS.mean_count


def test_another_bundle_is_another_stream_and_one_that_does_not_decide_is_not_looked_at():
    runs = SimpleNamespace(bundle="b")
    watch = DriftWatch(lambda: runs, LIMITS)  # type: ignore[arg-type, return-value]
    assert alarms(watch, periods(60, 0.0, 1)) == []
    runs.bundle = "c"
    assert alarms(watch, periods(60, 1.5, 2)) == []
    changed = [SimpleNamespace(**{**vars(one), "bundle": "c"}) for one in periods(60, 1.5, 2)]
    assert alarms(watch, changed) == []


def test_a_bundle_without_a_reference_keeps_its_identity(fleet):
    """The new field of the manifest is left out where it is empty, so older bundles keep their digests."""
    device = fleet.device()
    fleet.assign(fleet.release(1))
    fleet.run(device, 3)
    manifest = device.updater.running.pipeline.manifest
    assert manifest.reference is None
    assert b"reference" not in encode(manifest)
    assert len(record_digest(manifest)) == 64
    device.close(fleet.clock.now())
