"""A device tells a sketch of each day once it is over, exactly once, and nothing that the policy hides."""

from __future__ import annotations

import io
import json
import random
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from edgewise.edge._day_sketch import DaySketches, _private
from edgewise.edge._period import item_of
from edgewise.edge.ring import Ring
from edgewise.frames import Decided, golden_inputs
from edgewise.measure import Sketcher
from edgewise.ports import Frame, MemoryRuntime
from edgewise.wire import (
    DataPolicy,
    DaySketch,
    ImageSpec,
    Manifest,
    Reference,
    SumsNoise,
    canonical,
    decode,
    digest,
    encode,
    loads,
    plain,
)

DAY = 86_400
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def ready(fleet, **more):
    """A device that runs a bundle with a basis, learned from what its network says of random rows."""
    name = fleet.bundle(1)
    manifest = decode(Manifest, fleet.manifests[name])
    network = fleet.hub.blobs[manifest.blobs["net"].sha256]
    outputs = MemoryRuntime().open(network).run(golden_inputs(manifest.graphs[0].pre, 3, 64))
    made = Sketcher.fit(outputs["embedding"], outputs["scores"].argmax(axis=1))
    reference = Reference(count=64, input_mean=(0, 0), input_std=(1, 1), sketch=made.basis())
    data = canonical(loads(fleet.manifests[name]) | {"reference": plain(reference)})
    fleet.manifests[digest(data)] = data
    device = fleet.device(**more)
    fleet.assign(fleet.sign(digest(data)))
    fleet.run(device, 3)
    assert device.updater.running is not None
    return device


def feed(fleet, count: int) -> None:
    dice = random.Random(fleet.fed)
    for _ in range(count):
        row = {"x": dice.gauss(0, 0.4), "y": dice.gauss(0, 0.4)}
        frame = Frame(name=f"f{fleet.fed:06d}", data=json.dumps(row).encode(), media_type="application/json",
                      taken_at=fleet.clock.now())  # fmt: skip
        fleet.fed += 1
        fleet.frames.append(frame)
        fleet.source.add(frame)


def live(fleet, device, days: int, frames: int = 60) -> None:
    for _ in range(days):
        feed(fleet, frames)
        fleet.run(device, frames + 40)
        fleet.run(device, 2, seconds=DAY / 2)
    feed(fleet, frames)  # the first frames of the next day are what ends the last one
    fleet.run(device, frames + 40)
    fleet.run(device, 20, seconds=70)


def sketches(fleet) -> list[DaySketch]:
    return [DaySketch.of_text(one["data"]["sketch"]) for one in fleet.stored("event") if one["what"] == "day_sketch"]


def test_each_day_is_told_once_with_all_its_frames(fleet):
    device = ready(fleet)
    live(fleet, device, 3)
    told = [one["data"] for one in fleet.stored("event") if one["what"] == "day_sketch"]
    assert len({one["day"] for one in told}) == len(told) >= 3
    assert {one["release"] for one in told} == {"parts@1"}
    assert sum(sketch.count for sketch in sketches(fleet)) >= 3 * 60
    assert all(len(one["sketch"]) <= 150 for one in told)
    device.close(fleet.clock.now())


@pytest.mark.parametrize(
    ("private", "told"),
    [({}, True), ({"counts_min": 10}, True), ({"counts_min": 10_000}, False), ({"sums_noise": SumsNoise(
        epsilon_per_day=0.9, clip=3)}, False)],
)  # fmt: skip
def test_what_the_policy_hides_is_not_told(private, told):
    policy = DataPolicy()
    policy = policy.model_copy(update={"private": policy.private.model_copy(update=private)})
    sketch = DaySketch(count=20, sums=(5,) * 16, classes=(19, 1), novelty=(20, *(0,) * 6))
    left = _private(sketch, policy)
    assert (left is not None) == told
    if left is not None and policy.private.counts_min > 1:
        assert (left.classes, left.novelty, left.confidence) == ((), (), ())
        assert left.sums == sketch.sums


def png(level: int, noise: int) -> bytes:
    values = np.random.default_rng(noise).integers(level - noise, level + noise + 1, (20, 30)).astype(np.uint8)
    kept = io.BytesIO()
    Image.fromarray(values).save(kept, "PNG")
    return kept.getvalue()


def light_in(levels: list[int]) -> tuple[int, int, int] | None:
    ring = Ring(bytes_max=1 << 20, key=bytes(32))
    decided = Decided("good", 0.9, None, 0.8, None, "0" * 64)
    items = []
    for number, level in enumerate(levels):
        data = png(level, 8) if level else b"no picture"
        frame = Frame(name=f"f{number}", data=data, media_type="image/png", taken_at=NOW)
        ring.put(frame)
        items.append(item_of(frame, decided, None))
    items.insert(0, item_of(Frame(name="gone", data=b"", media_type="image/png", taken_at=NOW), decided, None))
    return DaySketches(ring, lambda: None)._light(items, ImageSpec(width=32, height=32))


def test_light_is_of_every_fourth_picture_that_is_still_held_and_can_be_read():
    assert light_in([]) is None
    # Behind the one that is gone, places 4, 8, 12 and 16: one of these is no picture.
    count, brightness, _ = light_in([100] * 3 + [50] + [9] * 3 + [0] + [9] * 3 + [200] + [9] * 3 + [100] + [9] * 3)
    assert count == 3
    assert brightness / count / 1024 * 255 == pytest.approx((50 + 200 + 100) / 3, abs=1.5)


def test_where_telemetry_may_not_leave_no_sketch_does(fleet):
    device = ready(fleet, data={"data_class": "measurement", "transforms": [], "leave": ["report", "audit"]})
    live(fleet, device, 2)
    assert sketches(fleet) == []
    device.close(fleet.clock.now())


def test_a_manifest_without_a_basis_keeps_its_bytes():
    reference = Reference(count=1, input_mean=(0,), input_std=(1,))
    assert b"sketch" not in encode(reference)
    assert np.isfinite(reference.count)
