"""When an update may happen: windows, conditions, a bandwidth cap; what waits says so, and loses nothing by it."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.edge import agent
from edgewise.edge._bandwidth import full
from edgewise.edge._facts import RatedFacts
from edgewise.edge.device import DeviceLimits
from edgewise.edge.outbox import Outbox
from edgewise.edge.update import Phase, UpdateLimits
from edgewise.ports import MemoryClock, MemoryFacts, SeededChance, read_bundle
from edgewise.wire import Condition, NotValid, Terms, Window

# The bench's clock starts at 12:00 UTC, which is 13:00 in Berlin.
BERLIN = "Europe/Berlin"
LATE = Terms(windows=(Window(opens="22:00", closes="05:00"),))  # in 9 hours
LATER = Terms(windows=(Window(opens="23:00", closes="05:00"),))
CHARGED = Terms(conditions=(Condition(fact="battery_percent", op="ge", value=40),))


def look(bench, updater, hours=0.0):
    bench.clock.advance(hours * 3600)
    return updater.step(bench.link(), bench.clock.now())


def start(bench, **more):
    updater = bench.updater(**more)
    bench.first = bench.release(1)
    bench.accept(updater, bench.assign(bench.first))
    look(bench, updater)
    assert updater.phase is Phase.COMMITTED
    return updater


def give(bench, updater, release, **terms):
    bench.accept(updater, bench.assign(release, zone=BERLIN, **terms))
    return look(bench, updater)


# -- windows and conditions ------------------------------------------------------------------------------------------


def test_download_and_activation_wait_for_their_own_windows(bench):
    updater, two = start(bench), bench.release(2)
    asked = len(bench.hub.fetched)
    give(bench, updater, two, download=LATE, activation=LATER)
    assert updater.phase is Phase.FETCHING
    assert updater.waits_for == f"the download of {two.id}: the window opens at 2026-03-01T22:00:00+01:00 ({BERLIN})"
    assert updater.not_now.until == datetime(2026, 3, 1, 21, tzinfo=UTC)
    assert len(bench.hub.fetched) == asked, "not a byte before the window"
    look(bench, updater, 9)
    assert updater.phase is Phase.STAGED
    assert updater.waits_for.startswith(f"the activation of {two.id}")
    assert updater.running.release == "parts@1", "the former bundle decides meanwhile"
    look(bench, updater, 1)
    assert (updater.phase, updater.running.release) == (Phase.COMMITTED, two.id)
    assert updater.not_now is None


def test_conditions_hold_back_and_an_unknown_fact_is_no_failure(bench):
    facts = MemoryFacts()
    updater, two = start(bench, reported=facts.read), bench.release(2)
    give(bench, updater, two, download=CHARGED, activation=CHARGED)
    assert updater.report_fields()["not_now"] == ("battery_percent is not reported, needs ge 40",)
    facts.tell(battery_percent=12)
    look(bench, updater)
    assert updater.report_fields()["not_now"] == ("battery_percent is 12, needs ge 40",)
    fields = updater.report_fields()
    assert (fields["last_failure"], fields["failed_rollout"], fields["known_bad"]) == (None, None, ())
    facts.tell(battery_percent=40)
    look(bench, updater)
    assert updater.running.release == two.id


def test_waiting_costs_no_moves_so_it_may_last_for_ever(bench):
    updater = start(bench, limits=UpdateLimits(moves_max=8))
    give(bench, updater, bench.release(2), download=CHARGED)
    before = updater.state
    for _ in range(100):
        assert look(bench, updater, 1) == []
    assert updater.state == before


def test_a_newer_assignment_replaces_one_that_waits(bench):
    updater = start(bench)
    for terms in ({"download": LATE}, {"activation": LATE}):
        give(bench, updater, bench.release(2), **terms)
        fresh = bench.release(3)
        give(bench, updater, fresh)
        assert (updater.phase, updater.running.release) == (Phase.COMMITTED, fresh.id)


def test_new_terms_for_the_same_bundle_hold_at_once(bench):
    updater, two = start(bench), bench.release(2)
    give(bench, updater, two, download=LATE)
    give(bench, updater, two)
    assert updater.running.release == two.id


def test_a_revert_on_the_device_waits_for_nothing(bench):
    updater, two = start(bench), bench.release(2)
    give(bench, updater, two)
    give(bench, updater, bench.first, kind="revert", activation=CHARGED, download=CHARGED)
    assert updater.running.release == "parts@1"


def test_the_running_bundle_goes_back_while_another_waits_for_its_download(bench):
    updater, two, three = start(bench), bench.release(2), bench.release(3)
    give(bench, updater, two)
    give(bench, updater, three, download=LATE)
    for _ in range(5):
        updater.watch.failed(NotValid("no shape"))
    look(bench, updater)
    assert updater.running.release == "parts@1"
    assert set(updater.state.known_bad) == {two.bundles["fp32"]}
    look(bench, updater, 9)
    assert updater.running.release == three.id, "what waited is not given up for it"


# -- power cuts while it waits ---------------------------------------------------------------------------------------


class Cut(BaseException):
    """No handler of ours may catch it: a cut runs no code."""


def walk(bench, updater, releases):
    """Wait for the download, then for the activation, be superseded while staged, then arrive."""
    two, three = releases
    give(bench, updater, two, download=LATE, activation=LATER)
    look(bench, updater, 9)
    give(bench, updater, three, activation=LATER)
    look(bench, updater, 1)


def test_after_a_power_cut_while_it_waits_it_waits_on_and_arrives(tmp_path, request):
    make = next(item.Bench for item in request.session.config.pluginmanager.get_plugins() if hasattr(item, "TinyHub"))
    seen: list[str] = []
    bench = make(tmp_path / "count")
    start(bench)
    walk(bench, bench.updater(seen.append), (bench.release(2), bench.release(3)))
    assert len(seen) > 25
    for at in range(len(seen)):
        bench = make(tmp_path / str(at))
        start(bench)
        two, three = bench.release(2), bench.release(3)
        left = iter(range(at, -1, -1))

        def cut(_name, left=left):
            if next(left, -1) == 0:
                raise Cut

        with contextlib.suppress(Cut):
            walk(bench, bench.updater(cut), (two, three))
        updater = bench.updater()
        stored = read_bundle(bench.folder / "slots" / updater.running.slot)
        assert stored.digest == updater.running.bundle, f"cut at {at} ({seen[at]})"
        good = [name for name, slot in updater.state.slots.items() if slot.committed]
        assert good, f"cut at {at} ({seen[at]}): last-known-good is gone"
        give(bench, updater, three, activation=LATER)
        for _ in range(24):
            look(bench, updater, 1)
        assert (updater.phase, updater.running.release) == (Phase.COMMITTED, three.id), f"cut at {at} ({seen[at]})"


@pytest.mark.parametrize(("terms", "phase"), [("download", Phase.FETCHING), ("activation", Phase.STAGED)])
def test_a_restart_while_it_waits_changes_nothing(bench, terms, phase):
    updater, two = start(bench), bench.release(2)
    give(bench, updater, two, **{terms: LATE})
    before = updater.state
    updater = bench.updater()
    look(bench, updater)
    assert (updater.phase, updater.state) == (phase, before)
    fetched = len(bench.hub.fetched)
    look(bench, updater, 9)
    assert updater.running.release == two.id
    if phase is Phase.STAGED:
        assert len(bench.hub.fetched) == fetched, "what is staged is not fetched again"


# -- what is left behind ---------------------------------------------------------------------------------------------


def test_leftovers_of_superseded_downloads_go_and_common_blobs_stay(bench):
    updater, two, three = start(bench), bench.release(2), bench.release(3)
    give(bench, updater, two, bytes_per_s_max=1000)
    parts = list((bench.folder / "fetch").iterdir())
    assert [part.suffix for part in parts] == [".part"]
    give(bench, updater, three, bytes_per_s_max=1000)
    look(bench, updater, 1 / 3600)
    left = list((bench.folder / "fetch").iterdir())
    assert left
    assert not set(left) & set(parts)
    give(bench, updater, bench.first)  # what runs already
    assert not (bench.folder / "fetch").exists()


def test_a_staged_bundle_that_nobody_wants_any_more_goes_and_last_known_good_stays(bench):
    updater = start(bench)
    give(bench, updater, bench.release(2), activation=LATE)
    assert len(list((bench.folder / "slots").iterdir())) == 2
    give(bench, updater, bench.first)
    assert updater.phase is Phase.IDLE
    assert [folder.name for folder in (bench.folder / "slots").iterdir()] == [updater.running.slot]
    assert list(updater.state.slots) == [updater.running.slot]


def test_the_former_committed_bundle_is_never_collected_at_rest(bench):
    updater = start(bench)
    give(bench, updater, bench.release(2))
    for _ in range(5):
        look(bench, updater, 24)
    assert len(list((bench.folder / "slots").iterdir())) == 2
    assert all(slot.committed for slot in updater.state.slots.values())


# -- bandwidth -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 5000)), max_size=60), st.floats(10, 2000))
def test_no_more_than_the_cap_and_one_burst_ever_comes(looks, rate):
    bucket, now_s, came = full(rate, 0.0), 0.0, 0
    for pause_s, wanted in looks:
        now_s += pause_s
        bucket = bucket.at(now_s)
        taken = min(wanted, bucket.allowed)
        bucket, came = bucket.spent(taken), came + taken
        assert came <= rate * (now_s + 1) + len(looks)


def test_a_clock_that_goes_back_gives_nothing():
    assert full(100, 50.0).spent(100).at(10.0).allowed == 0


@pytest.mark.parametrize(("device_cap", "assigned_cap"), [(1000, None), (None, 1000), (9000, 1000), (1000, 9000)])
def test_the_smallest_cap_counts_and_the_download_resumes_from_piece_to_piece(bench, device_cap, assigned_cap):
    updater = start(bench)
    updater = bench.updater(bytes_per_s_max=device_cap)
    two = bench.release(2)
    bench.hub.fetched.clear()
    began = bench.clock.now()
    give(bench, updater, two, bytes_per_s_max=assigned_cap)
    assert "at most 1000 a second" in updater.waits_for
    while updater.phase is Phase.FETCHING:
        look(bench, updater, 0.05 / 3600)
    assert updater.running.release == two.id
    (size,) = (len(bench.hub.blobs[sha256]) for sha256 in {sha256 for sha256, _ in bench.hub.fetched})
    took_s = (bench.clock.now() - began).total_seconds()
    assert size / 1000 - 1 <= took_s <= size / 1000 + 0.6
    offsets = [offset for _, offset in bench.hub.fetched]
    assert offsets == sorted(set(offsets)), "no byte twice"
    assert len(offsets) <= size / 500 + 1, "few requests"


# -- the whole device ------------------------------------------------------------------------------------------------


def test_the_hub_and_the_status_are_told_what_is_waited_for_and_until_when(fleet):
    facts = MemoryFacts(network_metered=True)
    device = fleet.device(facts=facts)
    fleet.assign(fleet.release(1))
    fleet.run(device, 5)
    metered = Terms(windows=LATE.windows, conditions=(Condition(fact="network_metered", op="eq", value=False),))
    two = fleet.release(2)
    fleet.assign(two, zone=BERLIN, download=metered)
    fleet.run(device, 200)
    report = fleet.hub.uploads[-1].report
    assert report.not_now[0] == "network_metered is True, needs eq False"
    assert report.not_now_until == datetime(2026, 3, 1, 21, tzinfo=UTC)
    assert report.facts["network_metered"] is True
    assert report.last_failure is None
    status = device.status(fleet.clock.now())
    assert status["why"]["next"].startswith("not now: network_metered is True, needs eq False; the window opens at")
    assert status["why"]["not_now_until"] == "2026-03-01T21:00:00+00:00"
    json.dumps(status, default=str)
    facts.tell(network_metered=False)
    fleet.clock.advance(9 * 3600)
    fleet.run(device, 200)
    assert device.updater.running.release == two.id
    assert fleet.hub.uploads[-1].report.not_now == ()


def test_the_use_case_may_cap_downloads_too(fleet):
    device = fleet.device(connectivity={"bytes_per_s_max": 700}, limits=DeviceLimits(bytes_per_s_max=5000))
    fleet.assign(fleet.release(1))
    fleet.run(device, 3)
    assert "at most 700 a second" in " ".join(device.waits_for())


def test_the_machine_is_asked_for_its_facts_at_a_bounded_rate():
    clock, asked = MemoryClock(datetime(2026, 1, 1, tzinfo=UTC)), []

    class Counted(MemoryFacts):
        def read(self):
            asked.append(clock.now())
            return super().read()

    facts = RatedFacts(Counted(idle=True), clock, every_s=10)
    for _ in range(100):
        assert facts.read() == {"idle": True}
        clock.advance(0.25)
    assert len(asked) == 3
    assert asked[1] - asked[0] >= timedelta(seconds=10)


def test_a_device_that_cannot_be_opened_lets_go_of_its_outbox(fleet):
    fleet.device().close(fleet.clock.now())
    file = fleet.folder / "update.json"
    file.write_text(json.dumps({"format": 9}))
    made = []

    class Seen(Outbox):
        def close(self):
            made.append("closed")
            super().close()

    with pytest.raises(NotValid, match="has format 9"):
        fleet.device()
    # The file is free: nobody holds its lock or journal any more.
    again = Seen(fleet.folder / "outbox", chance=SeededChance(1))
    again.put_state("x", b"y")
    again.close()
    assert not (fleet.folder / "outbox" / "outbox.db-wal").exists()


def test_edge_yaml_states_facts_and_a_cap_and_the_environment_wins(tmp_path, monkeypatch):
    (tmp_path / "edge.yaml").write_text("download_bytes_per_s_max: 5000\nfacts: {network_metered: true, dock: 4}\n")
    config = agent.load_config(tmp_path)
    assert (config.download_bytes_per_s_max, config.facts) == (5000, {"network_metered": True, "dock": 4})
    monkeypatch.setenv("EDGEWISE_EDGE_FACTS", "{network_metered: false}")
    assert agent.load_config(tmp_path).facts == {"network_metered": False}
    monkeypatch.setenv("EDGEWISE_EDGE_FACTS", "{")
    with pytest.raises(NotValid, match="EDGEWISE_EDGE_FACTS"):
        agent.load_config(tmp_path)
