"""Updates: all or nothing, never without a way back, and whole after a power cut at any point."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edgewise.edge._update_state import read_state
from edgewise.edge.update import MOVES, Event, Phase, UpdateLimits, move
from edgewise.ports import MemoryClock, read_bundle
from edgewise.wire import Needs, NotTrusted, NotValid, Release, Terms, Window, digest, encode


def settle(bench, updater, envelope=None, seconds=0.0):
    if envelope is not None:
        bench.accept(updater, envelope)
    bench.clock.advance(seconds)
    return updater.step(bench.link(), bench.clock.now())


def bench_class(request):
    """The class behind the `bench` fixture: a state machine makes its own, and a conftest cannot be imported."""
    plugins = request.session.config.pluginmanager.get_plugins()
    return next(plugin.Bench for plugin in plugins if hasattr(plugin, "TinyHub"))


def installed(bench, *releases: Release):
    """A device that has committed these releases one after the other."""
    updater = bench.updater()
    for release in releases:
        settle(bench, updater, bench.assign(release))
        assert updater.phase is Phase.COMMITTED, updater.state.last_failure
    return updater


# -- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", Event)
def test_every_move_is_in_the_table_or_refused(phase, event):
    if (phase, event) in MOVES:
        assert move(phase, event) is MOVES[phase, event]
    else:
        with pytest.raises(NotValid, match="cannot happen"):
            move(phase, event)


def test_every_phase_can_be_reached_and_left_again():
    reached, open_ = {Phase.IDLE}, [Phase.IDLE]
    while open_:
        phase = open_.pop()
        for (origin, _), target in MOVES.items():
            if origin is phase and target not in reached:
                reached.add(target)
                open_.append(target)
    assert reached == set(Phase)
    for phase in Phase:
        assert any(origin is phase for origin, _ in MOVES)
    # Whatever is going on, a newer assignment leads out of it (invariant 8).
    for phase in (Phase.FETCHING, Phase.STAGED, Phase.SHADOW, Phase.TRIAL):
        assert (phase, Event.SUPERSEDED) in MOVES


def test_the_diagram_in_the_docs_is_drawn_from_the_table():
    text = (Path(__file__).parents[2] / "docs" / "edge.md").read_text()
    for (phase, event), target in MOVES.items():
        assert f"{phase.value} --> {target.value}: {event.value}\n" in text
    assert text.count(" --> ") == len(MOVES)


# -- the straight way ------------------------------------------------------------------------------------------------


def test_the_first_install_works_without_a_previous_bundle(bench):
    one = bench.release(1)
    updater = installed(bench, one)
    assert updater.running.release == one.id
    assert updater.report_fields()["previous"] is None
    assert bench.updater().running.bundle == one.bundles["fp32"]  # and after a restart, offline


def test_the_bundle_decides_in_trial_and_commits_when_its_time_is_over(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(two, trial_s=60))
    assert (updater.phase, updater.running.release) == (Phase.TRIAL, two.id)
    assert "ends in 60 s" in updater.waits_for
    settle(bench, updater, seconds=59)
    assert updater.phase is Phase.TRIAL
    settle(bench, updater, seconds=2)
    assert updater.phase is Phase.COMMITTED
    assert updater.report_fields()["previous"] == one.id


def test_the_same_assignment_again_changes_nothing(bench):
    updater = installed(bench, bench.release(1))
    before = (bench.folder / "update.json").read_bytes()
    assert updater.accept(bench.hub.assignment, bench.clock.now()) is False
    assert settle(bench, updater) == []
    assert (bench.folder / "update.json").read_bytes() == before


def test_the_previous_bundle_shadows_while_baking_and_stops_when_told(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(two, bake=True, rollout="b" * 32))
    assert updater.shadow.release == one.id
    assert updater.rollout == "b" * 32
    assert bench.updater().shadow.release == one.id
    settle(bench, updater, bench.assign(two, bake=False))
    assert updater.shadow is None
    assert updater.phase is Phase.COMMITTED


def test_a_bundle_can_decide_in_the_shadow_before_it_acts(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(two, shadow=True))
    assert (updater.phase, updater.running.release, updater.shadow.release) == (Phase.SHADOW, one.id, two.id)
    settle(bench, updater, bench.assign(two))
    assert (updater.phase, updater.running.release, updater.shadow) == (Phase.COMMITTED, two.id, None)


def test_blobs_that_a_slot_holds_are_not_fetched_again(bench):
    one = bench.release(1)
    updater = installed(bench, one)
    again = bench.release(1)  # the same bundle under a new release
    bench.hub.fetched.clear()
    settle(bench, updater, bench.assign(again))
    assert updater.running.release == again.id
    assert bench.hub.fetched == []


def test_a_download_goes_on_where_it_broke_off(bench):
    one = bench.release(1)
    updater = bench.refreshed(bench.updater())
    bench.accept(updater, bench.assign(one))
    replies = iter([False] * 5 + [True])  # the blob's reply breaks off half-way
    bench.lost = lambda _what: next(replies, False)
    settle(bench, updater)
    assert updater.phase is Phase.FETCHING
    assert "lost" in updater.waits_for
    updater = bench.updater()
    settle(bench, updater)
    assert updater.phase is Phase.COMMITTED
    offsets = [offset for _, offset in bench.hub.fetched]
    assert offsets[0] == 0
    assert offsets[-1] > 0


def test_a_long_download_gives_the_contact_its_turn(bench):
    updater = bench.updater(limits=UpdateLimits(fetch_bytes_per_step=1000))
    settle(bench, updater, bench.assign(bench.release(1)))
    # The link hands over whole blobs here, so one step may bring more than asked for, but never starts another.
    assert updater.phase in (Phase.FETCHING, Phase.COMMITTED)


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_release_that_nobody_trusted_signed_is_not_installed(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    honest = dict(bench.repository.signers["releases-parts"])
    # The hub's own online key must not do (invariant 5).
    bench.repository.signers["releases-parts"] = bench.repository.signers["snapshot"]
    two = bench.release(2, version=9)
    bench.hub.fetched.clear()
    happened = settle(bench, updater, bench.assign(two))
    assert (updater.phase, updater.running.release) == (Phase.FETCHING, one.id)
    assert [item.what for item in happened] == ["metadata_refused", "phase"]
    assert "releases-parts version 3 has 0 valid signatures" in happened[0].text
    assert any("releases-parts version 3" in text for text in updater.warnings(bench.clock.now()))
    assert bench.hub.fetched == []  # refused before any of it is downloaded
    assert settle(bench, updater) == []  # told once
    bench.repository.signers["releases-parts"] = honest
    bench.publish("releases-parts")
    settle(bench, updater, bench.assign(two))
    assert updater.running.release == two.id, "the metadata were refused, not the assignment"


def test_a_release_that_no_role_lists_is_refused_for_good(bench):
    one = bench.release(1)
    updater = installed(bench, one)
    made_up = one.model_copy(update={"id": "parts@7", "version": 7})
    happened = settle(bench, updater, bench.assign(made_up))
    assert (updater.phase, updater.running.release) == (Phase.IDLE, one.id)
    assert "vouches for target 'parts/7/release.json'" in updater.state.last_failure
    assert [item.data["to"] for item in happened] == ["fetching", "idle"]
    assert settle(bench, updater) == []  # never retried


def test_a_bundle_in_a_slot_runs_only_with_the_proof_of_its_release(bench):
    installed(bench, bench.release(1))
    state = read_state(bench.folder)
    slot = state.slots["a"]
    other = json.loads(slot.proof.role)
    other["signed"]["targets"]["parts/1/release.json"]["hashes"]["sha256"] = digest(b"x")
    for changes in ({"release": "{}"}, {"role": json.dumps(other)}, {"targets": slot.proof.role}):
        proof = slot.proof.model_copy(update=changes)
        slots = {"a": slot.model_copy(update={"proof": proof})}
        (bench.folder / "update.json").write_bytes(encode(state.model_copy(update={"slots": slots})))
        assert bench.updater().running is None
    bench.root = type(bench.repository)(bench.clock.now()).published["root"][0].decode()
    (bench.folder / "update.json").write_bytes(encode(state))
    assert bench.updater().running is None, "the proof stands on another root than the pinned one"


def test_an_assignment_for_another_device_or_use_case_or_of_the_past_is_refused(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    for more in ({"device": "d2"}, {"use_case": "other"}, {"number": 0 + 1}):
        with pytest.raises(NotTrusted):
            bench.accept(updater, bench.assign(two, **more))
    assert updater.running.release == one.id


def test_a_blob_changed_on_the_way_is_refused_and_leaves_the_old_bundle(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    manifest = json.loads(bench.manifests[two.bundles["fp32"]])
    name = manifest["blobs"]["net"]["sha256"]
    bench.hub.blobs[name] = b"x" * len(bench.hub.blobs[name])
    settle(bench, updater, bench.assign(two))
    assert (updater.phase, updater.running.release) == (Phase.IDLE, one.id)
    assert "was changed on the way" in updater.state.last_failure


def test_a_hostile_network_is_refused_before_anything_is_changed_and_remembered(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one, two)
    evil = bench.hostile_release(9)
    slots = {path: path.stat().st_mtime_ns for path in (bench.folder / "slots").rglob("*")}
    happened = settle(bench, updater, bench.assign(evil))
    assert (updater.phase, updater.running.release) == (Phase.IDLE, two.id)
    assert {path: path.stat().st_mtime_ns for path in (bench.folder / "slots").rglob("*")} == slots
    assert not (bench.folder / "fetch").exists()
    (told,) = [item for item in happened if item.what == "bundle_refused"]
    assert told.data["code"] == "not_json"
    assert told.data["bundle"] in updater.state.known_bad
    settle(bench, updater, bench.assign(evil))
    assert "failed on this device before" in updater.state.last_failure


def test_a_bundle_that_needs_more_than_the_device_has_is_refused_before_the_download(bench):
    one, big = bench.release(1), bench.release(2, needs=Needs(opset=18, ram_mb=10_000, latency_ms=1))
    updater = bench.updater(facts={"ram_mb": 500})
    settle(bench, updater, bench.assign(one))
    bench.hub.fetched.clear()
    settle(bench, updater, bench.assign(big))
    assert "10000 MB" in updater.state.last_failure
    assert bench.hub.fetched == []


def test_going_back_needs_a_revert(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one, two)
    settle(bench, updater, bench.assign(one))
    assert updater.running.release == two.id
    assert "needs a signed revert" in updater.state.last_failure


# -- back ------------------------------------------------------------------------------------------------------------


def test_wrong_golden_outputs_never_decide_and_the_bundle_is_remembered(bench):
    one, bad = bench.release(1), bench.release(2, broken=True)
    updater = installed(bench, one)
    happened = settle(bench, updater, bench.assign(bad, rollout="c" * 32))
    assert (updater.phase, updater.running.release) == (Phase.IDLE, one.id)
    fields = updater.report_fields()
    assert fields["known_bad"] == (bad.bundles["fp32"],)
    assert fields["failed_rollout"] == "c" * 32
    assert [item.data["to"] for item in happened] == ["fetching", "staged", "trial", "reverting", "idle"]
    assert settle(bench, updater, bench.assign(bad)) != []
    assert "failed on this device before" in updater.state.last_failure


def test_a_failed_first_install_leaves_a_device_that_waits(bench):
    updater = bench.updater()
    settle(bench, updater, bench.assign(bench.release(1, broken=True)))
    assert (updater.phase, updater.running) == (Phase.IDLE, None)
    settle(bench, updater, bench.assign(bench.release(2)))
    assert updater.phase is Phase.COMMITTED


def test_a_trial_with_slow_or_failing_decisions_is_taken_back(bench):
    one, two, three = bench.release(1), bench.release(2), bench.release(3)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(two, trial_s=60))
    for _ in range(30):
        updater.watch.decided(latency_ms=900)
    settle(bench, updater)
    assert updater.running.release == one.id
    assert "95th percentile" in updater.state.last_failure
    settle(bench, updater, bench.assign(three, trial_s=60))
    for _ in range(5):
        updater.watch.failed(NotValid("no shape"))
    settle(bench, updater)
    assert updater.running.release == one.id
    assert "5 decisions in a row failed" in updater.state.last_failure


def test_the_guard_takes_a_committed_bundle_back_without_any_link(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one, two)
    bench.lost = lambda _what: True
    for _ in range(5):
        updater.watch.failed(NotValid("broken since this morning"))
    settle(bench, updater)
    assert (updater.phase, updater.running.release) == (Phase.IDLE, one.id)


def test_a_limping_only_bundle_goes_on_and_says_so_once(bench):
    updater = installed(bench, bench.release(1))
    for _ in range(5):
        updater.watch.failed(NotValid("odd"))
    assert [item.what for item in settle(bench, updater)] == ["bundle_unhealthy"]
    assert settle(bench, updater) == []
    assert updater.running is not None


def test_a_revert_by_assignment_goes_back_at_once_and_offline_bytes_suffice(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(two, bake=True))
    bench.hub.blobs.clear()
    settle(bench, updater, bench.assign(one, kind="revert"))
    assert (updater.phase, updater.running.release, updater.shadow) == (Phase.IDLE, one.id, None)
    assert two.bundles["fp32"] not in updater.state.known_bad  # the hub's judgement, not a failure here


def test_a_revert_during_the_trial_goes_back_at_once(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(two, trial_s=60))
    settle(bench, updater, bench.assign(one, kind="revert"))
    assert (updater.phase, updater.running.release) == (Phase.IDLE, one.id)


def test_a_revert_to_what_lies_in_no_slot_any_more_is_fetched(bench):
    one, two, three = bench.release(1), bench.release(2), bench.release(3)
    updater = installed(bench, one, two, three)
    settle(bench, updater, bench.assign(one, kind="revert"))
    assert (updater.phase, updater.running.release) == (Phase.COMMITTED, one.id)


def test_a_revert_to_what_never_ran_here_is_refused(bench):
    one, two, never = bench.release(1), bench.release(2), bench.release(5)
    updater = installed(bench, one, two)
    settle(bench, updater, bench.assign(never, kind="revert"))
    assert updater.running.release == two.id
    assert "never committed here" in updater.state.last_failure


@pytest.mark.parametrize("how", ["fetching", "shadow", "trial"])
def test_a_newer_assignment_always_replaces_a_stuck_one(bench, how):
    one, two, three = bench.release(1), bench.release(2), bench.release(3)
    updater = installed(bench, one)
    if how == "fetching":
        bench.lost = lambda _what: True
    settle(bench, updater, bench.assign(two, trial_s=1e6, shadow=how == "shadow"))
    assert updater.phase.value == how
    bench.lost = lambda _what: False
    settle(bench, updater, bench.assign(three))
    assert (updater.phase, updater.running.release) == (Phase.COMMITTED, three.id)


def test_last_known_good_is_in_a_slot_all_the_time_of_a_trial(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(two, trial_s=60))
    held = {read_bundle(folder).digest for folder in (bench.folder / "slots").iterdir()}
    assert one.bundles["fp32"] in held
    assert updater.running.release == two.id


# -- restarts --------------------------------------------------------------------------------------------------------


def test_one_crash_in_a_trial_may_be_a_power_cut_two_are_the_bundles_fault(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(two, trial_s=60))
    updater = bench.updater()
    assert (updater.phase, updater.running.release) == (Phase.TRIAL, two.id)
    updater = bench.updater()
    assert (updater.phase, updater.running.release) == (Phase.IDLE, one.id)
    assert two.bundles["fp32"] in updater.state.known_bad


def test_a_planned_restart_is_not_a_failure(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    settle(bench, updater, bench.assign(two, trial_s=60))
    for _ in range(4):
        updater.close()
        updater = bench.updater()
    assert (updater.phase, updater.running.release) == (Phase.TRIAL, two.id)
    settle(bench, updater, seconds=61)
    assert updater.phase is Phase.COMMITTED


def test_a_damaged_slot_falls_back_to_the_other_and_is_fetched_again(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one, two)
    (bench.folder / "slots" / updater.running.slot / "manifest.json").write_bytes(b"{}")
    updater = bench.updater()
    assert updater.running.release == one.id
    settle(bench, updater)
    assert (updater.phase, updater.running.release) == (Phase.COMMITTED, two.id)


def test_a_state_file_of_another_version_is_refused_with_what_to_do(bench):
    installed(bench, bench.release(1))
    file = bench.folder / "update.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 9}))
    with pytest.raises(NotValid, match="has format 9") as caught:
        bench.updater()
    assert caught.value.code == "data_dir_version"


# -- power cuts ------------------------------------------------------------------------------------------------------


def scenario(bench, two, three, updater):
    """An update, a bad one that is taken back by the device, and a revert that the hub orders."""
    settle(bench, updater, bench.assign(two, trial_s=10, bake=True))
    settle(bench, updater, seconds=11)
    bad = bench.release(4, broken=True)
    settle(bench, updater, bench.assign(bad))
    settle(bench, updater, bench.assign(three))
    settle(bench, updater, bench.assign(two, kind="revert"))


def checkpoints_of(make_bench) -> list[str]:
    seen: list[str] = []
    bench = make_bench("count")
    installed(bench, bench.release(1))
    scenario(bench, bench.release(2), bench.release(3), bench.updater(seen.append))
    return seen


@pytest.fixture(scope="module")
def make_bench(request):
    made = []

    def make(name):
        folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        made.append(folder)
        return bench_class(request)(folder / name)

    yield make
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


def whole(bench, allowed: set[str]):
    """The bundle that a fresh start runs is whole, verified and one of the allowed."""
    updater = bench.updater()
    assert updater.running is not None
    stored = read_bundle(bench.folder / "slots" / updater.running.slot)
    assert stored.digest == updater.running.bundle
    assert all(digest(data) == name for name, data in stored.blobs.items())
    assert stored.digest in allowed
    updater.running.pipeline.check_golden()
    # A slot that the state names holds just that bundle: otherwise a revert would find nothing there.
    for name, slot in updater.state.slots.items():
        assert read_bundle(bench.folder / "slots" / name).digest == slot.bundle
    return updater


class Cut(BaseException):
    """No handler of ours may catch it: a cut runs no code."""


def test_after_a_power_cut_at_any_point_a_whole_bundle_runs_and_the_update_comes_to_its_end(make_bench):
    names = checkpoints_of(make_bench)
    assert len(names) > 40
    for at in range(len(names)):
        bench = make_bench(str(at))
        one = bench.release(1)
        installed(bench, one)
        two, three = bench.release(2), bench.release(3)
        left = iter(range(at, -1, -1))

        def cut(_name, left=left):
            if next(left, -1) == 0:
                raise Cut

        updater = bench.updater(cut)
        with contextlib.suppress(Cut):
            scenario(bench, two, three, updater)
        allowed = {release.bundles["fp32"] for release in (one, two, three)}
        updater = whole(bench, allowed)
        # And from there the newest wish is fulfilled, whatever was cut.
        bench.assign(three)
        settle(bench, updater, bench.hub.assignment)
        settle(bench, updater, seconds=100)
        assert updater.phase in (Phase.COMMITTED, Phase.IDLE), f"cut at {at} ({names[at]})"
        assert updater.running.bundle == three.bundles["fp32"], f"cut at {at} ({names[at]})"


def test_the_first_install_survives_a_power_cut_at_any_point(make_bench):
    seen: list[str] = []
    bench = make_bench("first")
    settle(bench, bench.updater(seen.append), bench.assign(bench.release(1)))
    for at in range(len(seen)):
        bench = make_bench(f"first{at}")
        one = bench.release(1)
        left = iter(range(at, -1, -1))

        def cut(_name, left=left):
            if next(left, -1) == 0:
                raise Cut

        with contextlib.suppress(Cut):
            settle(bench, bench.updater(cut), bench.assign(one))
        updater = bench.updater()
        settle(bench, updater, bench.hub.assignment)
        assert (updater.phase, updater.running.release) == (Phase.COMMITTED, one.id), f"cut at {at} ({seen[at]})"


SOON = Terms(windows=(Window(opens="12:01", closes="12:02"), Window(opens="12:04", closes="12:00")))


class UpdateMachine(RuleBasedStateMachine):
    """Assignments of any kind, lost links, power cuts anywhere, planned restarts and failing bundles, in any order."""

    bench_class = None

    @initialize()
    def start(self) -> None:
        self.root = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.bench = self.bench_class(self.root)
        self.releases = [self.bench.release(seed) for seed in range(1, 5)] + [self.bench.release(9, broken=True)]
        self.bad = self.releases[-1].bundles["fp32"]
        self.left = -1
        self.updater = installed(self.bench, self.releases[0])
        self.restart()

    def cut(self, _name: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise Cut

    def guarded(self, act) -> None:
        try:
            act()
        except Cut:
            self.left = -1
            self.restart()

    @rule()
    def restart(self) -> None:
        self.updater = self.bench.updater(self.cut, limits=UpdateLimits(delta_bytes_min=0))

    @rule()
    def planned_restart(self) -> None:
        self.guarded(self.updater.close)
        self.restart()

    @rule(
        which=st.integers(0, 4),
        revert=st.booleans(),
        trial_s=st.sampled_from([0, 30]),
        shadow=st.booleans(),
        bake=st.booleans(),
        wait=st.sampled_from([{}, {"download": SOON}, {"activation": SOON}, {"bytes_per_s_max": 300.0}]),
    )
    def assign(self, which, revert, trial_s, shadow, bake, wait) -> None:
        kind = "revert" if revert else "run"
        envelope = self.bench.assign(self.releases[which], kind=kind, trial_s=trial_s, shadow=shadow, bake=bake, **wait)
        self.guarded(lambda: self.bench.accept(self.updater, envelope))

    @rule(seconds=st.sampled_from([0, 20, 40]), lose=st.integers(0, 6), cut_after=st.integers(0, 12))
    def step(self, seconds, lose, cut_after) -> None:
        self.bench.clock.advance(seconds)
        replies = iter(range(lose))
        self.bench.lost = lambda _what: bool(lose) and next(replies, None) is None
        self.left = cut_after or -1
        self.guarded(lambda: self.updater.step(self.bench.link(), self.bench.clock.now()))
        self.left = -1
        self.bench.lost = lambda _what: False

    @rule()
    def decisions_fail(self) -> None:
        for _ in range(5):
            self.updater.watch.failed(NotValid("no shape"))

    @invariant()
    def a_whole_trusted_bundle_runs(self) -> None:
        if not hasattr(self, "updater"):
            return
        running = self.updater.running
        assert running is not None, "there was a good bundle, so there is one now"
        stored = read_bundle(self.root / "slots" / running.slot)
        assert stored.digest == running.bundle != self.bad
        # Last known good is never collected: some slot always holds a bundle that passed its trial here.
        slots = self.updater.state.slots
        good = [name for name, slot in slots.items() if slot.committed]
        assert good
        for name in good:
            assert read_bundle(self.root / "slots" / name).digest == slots[name].bundle

    def teardown(self) -> None:
        if not hasattr(self, "updater"):
            return
        fresh = self.bench.release(7, version=99)
        self.bench.accept(self.updater, self.bench.assign(fresh))
        self.updater.step(self.bench.link(), self.bench.clock.now())
        assert (self.updater.phase, self.updater.running.release) == (Phase.COMMITTED, fresh.id)
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def _give_machine_its_bench(request):
    UpdateMachine.bench_class = bench_class(request)


TestUpdateMachine = UpdateMachine.TestCase
TestUpdateMachine.settings = settings(
    max_examples=int(os.environ.get("EDGEWISE_EXAMPLES", "40")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_a_moved_clock_does_not_end_a_trial_early(bench):
    one, two = bench.release(1), bench.release(2)
    updater = installed(bench, one)
    bench.accept(updater, bench.assign(two, trial_s=60))
    updater.step(bench.link(), bench.clock.now())
    updater.step(bench.link(), bench.clock.now() - timedelta(days=1))
    assert updater.phase is Phase.TRIAL
    assert isinstance(bench.clock, MemoryClock)
