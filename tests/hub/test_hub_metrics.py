"""The hub's metrics: clean by Prometheus' own tool, complete, and without a series for each device."""

from __future__ import annotations

from datetime import timedelta

import pytest

from edgewise.hub.api.metrics import SERIES_MAX, Metrics, _by
from edgewise.hub.counters import Counters
from edgewise.hub.intake import Gap
from exposition import families, labels_of, promtool
from loop_world import LoopWorld


@pytest.fixture
def world():
    made = LoopWorld()
    made.enrol("d1", site="a")
    made.hear("d1")
    made.tick(1)
    yield made
    made.hub.close()


def page(hub) -> str:
    return Metrics(hub).text().decode()


def test_the_page_is_clean_by_promtool_and_no_device_is_a_label(world):
    text = page(world.hub)
    assert promtool("check", "metrics", given=text) == ""
    assert not any("device" in names for names in labels_of(text).values())
    assert all(name.startswith(("edgewise_hub_", "edgewise_build_info")) for name in families(text))


def test_contacts_refusals_and_commits_are_counted_and_timed(yard):
    talker = yard.enrol("press-4")
    talker.send(talker.segment(1, talker.telemetry()))
    with pytest.raises(Gap):
        talker.send(talker.segment(7, talker.telemetry()))
    asked = yard.hub.counters.registry.get_sample_value
    assert asked("edgewise_hub_contacts_total", {"outcome": "stored"}) == 1
    assert asked("edgewise_hub_contacts_total", {"outcome": "refused"}) == 1
    assert asked("edgewise_hub_intake_duration_seconds_count", {"kind": "full"}) == 2
    assert asked("edgewise_hub_commit_pieces_count") >= 1
    assert asked("edgewise_hub_writer_wait_seconds_count") > 1
    text = page(yard.hub)
    assert 'edgewise_hub_records{class="telemetry",outcome="stored"} 1.0' in text
    assert 'edgewise_hub_devices_heard{age="minute",use_case="press"} 1.0' in text
    yard.clock.advance(timedelta(hours=2).total_seconds())
    assert 'edgewise_hub_devices_heard{age="day",use_case="press"} 1.0' in page(yard.hub)


def test_each_controller_is_timed_and_its_failures_counted(yard):
    assert yard.hub.tick()
    asked = yard.hub.counters.registry.get_sample_value
    for name in ("quiet_contacts", "repository", "orders", "rollouts", "drift", "threats"):
        assert asked("edgewise_hub_controller_duration_seconds_count", {"controller": name}) == 1, name
    assert asked("edgewise_hub_leads") == 1
    with pytest.raises(RuntimeError), yard.hub.counters.turn("orders"):
        raise RuntimeError("a mistake")
    assert asked("edgewise_hub_controller_failures_total", {"controller": "orders"}) == 1


def test_values_that_devices_choose_make_no_endless_series():
    rows = [("press", f"phase-{number}", 1) for number in range(SERIES_MAX + 50)]
    family = _by("edgewise_hub_devices", "devices", ("use_case", "phase"), rows)
    assert len(family.samples) == SERIES_MAX + 1
    assert family.samples[-1].labels == {"use_case": "other", "phase": "other"}
    assert family.samples[-1].value == 50
    counters = Counters()
    for number in range(300):
        counters.refused(f"code_{number}")
    assert counters.registry.get_sample_value("edgewise_hub_refusals_total", {"code": "other"}) == 100
