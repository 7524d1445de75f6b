"""What users of other systems complain about, as whole-device tests; docs/invariants.md has the list."""

from __future__ import annotations

import random

import pytest

from edgewise.edge.device import DeviceLimits
from edgewise.edge.update import Phase
from edgewise.wire import NotValid, Terms, Window

NIGHT = Terms(windows=(Window(opens="22:00", closes="05:00"),))
DAY = Terms(windows=(Window(opens="12:00", closes="20:00"),))


def ready(fleet, **more):
    device = fleet.device(**more)
    fleet.assign(fleet.release(1))
    fleet.run(device, 3)
    assert device.updater.running is not None
    return device


def test_a_bundle_comes_early_over_a_thin_bad_link_and_is_switched_to_later_in_its_window(fleet):
    device = ready(fleet)
    device.close(fleet.clock.now())
    device = fleet.device(limits=DeviceLimits(bytes_per_s_max=400))
    two = fleet.release(2)
    fleet.hub.deltas = None
    fleet.hub.fetched.clear()
    fleet.assign(two, download=DAY, activation=NIGHT)
    dice = random.Random(1)
    fleet.lost = lambda _what: dice.random() < 0.2
    fleet.feed(40)
    fleet.run(device, 1500, seconds=5)
    assert (device.updater.phase, device.updater.running.release) == (Phase.STAGED, "parts@1")
    offsets = [offset for _, offset in fleet.hub.fetched]
    assert max(offsets) > 0, "it came in pieces"
    fleet.lost = lambda _what: True  # the link is gone for good; what is here suffices
    before = device.decisions
    fleet.feed(40)
    fleet.run(device, 50)
    assert device.decisions == before + 40
    assert device.updater.running.release == "parts@1", "it is still day"
    fleet.clock.advance(10 * 3600)
    fleet.run(device, 10)
    assert (device.updater.phase, device.updater.running.release) == (Phase.COMMITTED, two.id)
    assert device.updater.state.failure is None


@pytest.mark.parametrize("stuck", ["download", "trial"])
def test_a_stuck_update_needs_no_visit_the_next_assignment_replaces_it(fleet, stuck):
    device = ready(fleet)
    broken = fleet.release(2)
    if stuck == "download":
        blob = next(name for name, data in fleet.hub.blobs.items() if b'"seed": 2' in data)
        whole = fleet.hub.blobs[blob]
        fleet.hub.blobs[blob] = whole[: len(whole) // 2]  # the hub serves half of it, for ever
        fleet.hub.deltas = None
    fleet.assign(broken, trial_s=1e9)
    fleet.run(device, 300)
    assert device.updater.phase.value == ("fetching" if stuck == "download" else "trial")
    fixed = fleet.release(3)
    fleet.assign(fixed)
    fleet.run(device, 100)
    assert (device.updater.phase, device.updater.running.release) == (Phase.COMMITTED, fixed.id)
    assert fleet.hub.uploads[-1].report.failure is None
    fleet.feed(5)
    assert fleet.run(device, 10) == 5


def test_a_first_release_that_fails_leaves_the_agent_alive_deciding_nothing_and_the_next_one_runs(fleet):
    device = fleet.device()
    fleet.feed(10)
    fleet.assign(fleet.release(1, broken=True), rollout="a" * 32)
    assert fleet.run(device, 100) == 0, "nothing is decided, nothing is lost"
    report = fleet.hub.uploads[-1].report
    assert (report.phase, report.release, report.failed_rollout) == ("idle", None, "a" * 32)
    assert (report.failure.code, report.failure.component) == ("golden_failed", "trial")
    device.outbox.close()  # and it survives a power cut in that state
    device = fleet.device()
    assert device.updater.running is None
    heard = len(fleet.hub.uploads)
    fleet.run(device, 100)
    assert len(fleet.hub.uploads) > heard, "the agent goes on talking to its hub"
    with pytest.raises(NotValid):
        device.feedback(fleet.clock.now(), verdict="wrong")
    fleet.assign(fleet.release(2))
    assert fleet.run(device, 100) == 10
    assert fleet.hub.uploads[-1].report.failure is None


def test_whatever_fails_what_was_good_is_still_there_to_go_back_to(fleet):
    device = ready(fleet)
    good = device.updater.running.bundle
    for seed in range(2, 8):
        fleet.assign(fleet.release(seed, broken=True))
        fleet.run(device, 80)
        device.outbox.close()
        device = fleet.device()
        assert device.updater.running.bundle == good
        assert device.updater.installed.lies_in(device.updater.running.slot, good)
    fleet.feed(5)
    assert fleet.run(device, 10) == 5
    assert len(list((fleet.folder / "slots").iterdir())) <= 2


def test_planned_restarts_and_reboots_within_an_update_are_no_failures(fleet):
    device = ready(fleet)
    fleet.assign(fleet.release(2), trial_s=600)
    fleet.clock.advance(100)
    fleet.run(device, 5)
    assert device.updater.phase is Phase.TRIAL
    for _ in range(5):
        device.close(fleet.clock.now())
        device = fleet.device()
        fleet.run(device, 20, seconds=5)
    fleet.run(device, 100, seconds=10)
    assert (device.updater.phase, device.updater.running.release) == (Phase.COMMITTED, "parts@2")
    assert fleet.hub.uploads[-1].report.failure is None
    assert device.updater.state.known_bad == {}


def test_an_update_that_cuts_the_link_is_judged_here_and_reported_later(fleet):
    device = ready(fleet)
    fleet.assign(fleet.release(2), trial_s=60)
    fleet.clock.advance(100)
    fleet.run(device, 3)
    assert device.updater.phase is Phase.TRIAL
    fleet.lost = lambda _what: True
    fleet.feed(20)
    assert fleet.run(device, 400, seconds=10) == 20
    assert (device.updater.phase, device.updater.running.release) == (Phase.COMMITTED, "parts@2")
    assert device.updater.state.failure is None
    fleet.lost = lambda _what: False
    fleet.run(device, 200, seconds=10)
    report = fleet.hub.uploads[-1].report
    assert (report.phase, report.release, report.failure) == ("committed", "parts@2", None)
    moves = [item["data"]["to"] for item in fleet.stored("event") if item["what"] == "phase"]
    assert moves[-3:] == ["staged", "trial", "committed"], "what happened without a link is told in order"
    assert device.contacts.error is None


def test_a_link_that_comes_and_goes_changes_nothing_where_all_is_as_it_should_be(fleet):
    device = ready(fleet)
    moves = device.updater.state.moves
    running, state = device.updater.running, (fleet.folder / "update.json").read_bytes()
    for _ in range(10):
        fleet.lost = lambda _what: True
        fleet.run(device, 30, seconds=20)
        fleet.lost = lambda _what: False
        fleet.run(device, 30, seconds=20)
    assert device.updater.running is running, "the very same session"
    assert device.updater.state.moves == moves
    assert (fleet.folder / "update.json").read_bytes() == state
