"""A bundle that shadows before it may act: whatever it does, the acting one goes on, and a bad one is refused."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from edgewise.edge._guard import GuardLimits
from edgewise.edge._shadow_watch import ShadowWatch
from edgewise.edge.device import DeviceLimits
from edgewise.edge.runtime import RuntimeConfig, open_runtime
from edgewise.edge.update import Phase, UpdateLimits
from edgewise.ports import Frame, SystemClock, SystemFootprint, can_isolate
from edgewise.wire import NotValid, Terms, Window
from faulty_networks import faulty_bundle

ROLLOUT = "b" * 32
NIGHT = Terms(windows=(Window(opens="22:00", closes="05:00"),))


def settle(bench, updater, envelope=None):
    if envelope is not None:
        bench.accept(updater, envelope)
    for _ in range(20):
        before = updater.phase
        updater.step(bench.link(), bench.clock.now())
        if updater.phase is before:
            return


def installed(bench, release, **more):
    updater = bench.updater(**more)
    settle(bench, updater, bench.assign(release))
    return updater


def test_its_download_waits_for_its_window_and_its_shadowing_for_none(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    noon = Terms(windows=(Window(opens="12:30", closes="13:00"),))
    settle(bench, updater, bench.assign(two, shadow=True, download=noon, activation=NIGHT))
    assert (updater.phase, updater.shadow) == (Phase.FETCHING, None)
    assert updater.not_now is not None
    bench.clock.advance(1900)
    settle(bench, updater)
    assert (updater.phase, updater.running.release, updater.shadow.release) == (Phase.SHADOW, one.id, two.id)
    assert updater.not_now is None
    assert updater.state.failure is None


def test_one_that_is_promoted_goes_on_trial_without_another_download_in_its_activation_window(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(two, shadow=True))
    fetched = len(bench.hub.fetched)
    settle(bench, updater, bench.assign(two, activation=NIGHT, trial_s=60))
    assert (updater.phase, updater.running.release, updater.shadow) == (Phase.STAGED, one.id, None)
    bench.clock.advance(11 * 3600)
    settle(bench, updater)
    assert (updater.phase, updater.running.release) == (Phase.TRIAL, two.id)
    assert len(bench.hub.fetched) == fetched


def test_one_that_the_hub_rejects_leaves_no_trace_and_never_acted(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(two, shadow=True, rollout=ROLLOUT))
    back = bench.assign(one, kind="revert", reason="worse in shadow; 0 devices exposed", evidence="e" * 64)
    settle(bench, updater, back)
    assert (updater.phase, updater.running.release, updater.shadow) == (Phase.IDLE, one.id, None)
    assert [slot.release for slot in updater.state.slots.values()] == [one.id]
    assert (updater.state.known_bad, updater.state.failure) == ({}, None)


def test_one_with_other_answers_than_it_must_give_is_refused_before_it_decides_on_anything(bench):
    one, bad = bench.release(1), bench.release(2, broken=True)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(bad, shadow=True, rollout=ROLLOUT))
    assert (updater.phase, updater.running.release, updater.shadow) == (Phase.IDLE, one.id, None)
    fields = updater.report_fields()
    assert fields["known_bad"] == (bad.bundles["fp32"],)
    assert fields["failed_rollout"] == ROLLOUT
    found = fields["failure"]
    assert (found.phase, found.component, found.code) == ("shadow", "shadow", "golden_failed")


@pytest.mark.parametrize(("how", "code"), [("fails", "decisions_failed"), ("late", "latency_over_deadline")])
def test_one_that_does_not_decide_or_not_in_time_is_refused_and_told(bench, how, code):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(two, shadow=True))
    for _ in range(20):
        if how == "fails":
            updater.shadow_watch.failed(NotValid("no shape"))
        else:
            updater.shadow_watch.decided(900)
    settle(bench, updater)
    assert (updater.phase, updater.running.release, updater.shadow) == (Phase.IDLE, one.id, None)
    found = updater.state.failure
    assert (found.phase, found.component, found.code) == ("shadow", "shadow", code)
    settle(bench, updater, bench.assign(two))
    assert updater.running.release == one.id, "what failed in shadow does not act"


def test_one_whose_process_grows_is_refused():
    watch = ShadowWatch(UpdateLimits())
    for held_mb in (40, 300, 300):
        watch.weighed(held_mb, needs_mb=10)
        assert watch.complaint() is None
    watch.weighed(300, needs_mb=10)
    assert watch.complaint().code == "memory_over"
    assert "memory grew by 260 MB" in watch.complaint().text


def test_a_few_late_runs_are_the_busy_machines_fault(bench):
    updater = installed(bench, bench.release(1))
    settle(bench, updater, bench.assign(bench.release(2), shadow=True))
    for number in range(100):
        updater.shadow_watch.decided(900 if number % 3 == 0 else 20)
    settle(bench, updater)
    assert updater.phase is Phase.SHADOW


def test_one_whose_slot_is_damaged_is_fetched_again_and_shadows_on(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(two, shadow=True))
    (bench.folder / "slots" / updater.shadow.slot / "manifest.json").write_bytes(b"{}")
    updater = bench.updater()
    settle(bench, updater)
    settle(bench, updater)
    assert (updater.phase, updater.running.release, updater.shadow.release) == (Phase.SHADOW, one.id, two.id)


def test_a_restart_in_shadow_shadows_on_and_three_crashes_are_the_shadows_fault(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one, boot="x")
    settle(bench, updater, bench.assign(two, shadow=True))
    for _ in range(2):
        updater = bench.updater(boot="x")
        settle(bench, updater)
        assert (updater.phase, updater.shadow.release) == (Phase.SHADOW, two.id)
    updater = bench.updater(boot="x")
    assert (updater.phase, updater.running.release) == (Phase.IDLE, one.id)
    assert (updater.state.failure.component, updater.state.failure.code) == ("shadow", "crash_loop")


def test_while_one_shadows_the_guard_still_watches_the_acting_one(bench):
    updater = installed(bench, bench.release(1))
    settle(bench, updater, bench.assign(bench.release(2), shadow=True))
    for _ in range(5):
        updater.watch.failed(NotValid("odd"))
    happened = updater.step(bench.link(), bench.clock.now())
    assert [item.what for item in happened] == ["bundle_unhealthy"]
    assert updater.phase is Phase.SHADOW


# -- real networks in processes of their own -------------------------------------------------------------------------

FAULTS = [
    ("raises", "decisions_failed"),
    ("nan", "decisions_failed"),
    ("hangs", "decisions_failed"),
    ("memory", "decisions_failed"),
]


@pytest.mark.skipif(not can_isolate(), reason="workers need Linux 5.3 or newer")
@pytest.mark.parametrize(("fault", "code"), FAULTS)
def test_a_shadow_that_breaks_in_any_way_costs_the_acting_bundle_nothing_and_is_refused(fleet, fault, code):
    fleet.bundle = lambda seed, kind="none": faulty_bundle(fleet, kind, seed)
    fleet.clock = SystemClock()
    runtime = open_runtime(RuntimeConfig(run_ms_max=400, memory_mb_max=60, restarts_per_minute_max=20))
    limits = DeviceLimits(update=UpdateLimits(latency_ms_max=2000, guard=GuardLimits(run_ms_max=1e9)))
    device = fleet.device(runtime=runtime, limits=limits, footprint=SystemFootprint())
    first = fleet.sign(fleet.bundle(1))
    fleet.assign(first)
    step_until(fleet, device, lambda: device.updater.phase is Phase.COMMITTED)
    fleet.assign(fleet.sign(fleet.bundle(1, fault)), shadow=True, rollout=ROLLOUT)
    step_until(fleet, device, lambda: device.updater.phase is Phase.SHADOW and device.updater.shadow is not None)
    assert device.updater.shadow.is_contained
    took = Counter()
    for number in range(12):
        row = b'{"x": 20.0, "y": 0.5}'  # on which the shadow shows its fault
        frame = Frame(name=f"f{number}", data=row, media_type="application/json", taken_at=fleet.clock.now())
        fleet.source.add(frame)
        began = time.monotonic()
        decision = device.decide_step(fleet.clock.now())
        took["longest"] = max(took["longest"], time.monotonic() - began)
        assert decision is not None
        assert decision.release == first.id
        device.beside_step()
        device.record_step(fleet.clock.now())
        device.update_step(fleet.clock.now())
        if device.updater.phase is not Phase.SHADOW:
            break
    assert took["longest"] < 0.4, "no decision waits for the shadow's run"
    assert (device.updater.running.release, device.updater.shadow) == (first.id, None)
    found = device.updater.state.failure
    assert (found.component, found.code) == ("shadow", code), found
    assert device.report(fleet.clock.now()).failed_rollout == ROLLOUT
    device.close(fleet.clock.now())


def step_until(fleet, device, done) -> None:
    for _ in range(400):
        device.contacts.hurry(fleet.clock.now())
        device.step(fleet.clock.now())
        if done():
            return
        time.sleep(0.01)
    raise AssertionError(device.waits_for())
