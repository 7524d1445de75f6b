"""The guard: each reason shown by a real network that has it, alone and offline; and what is never taken for one."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from edgewise.edge import Device
from edgewise.edge._guard import Failures, GuardLimits, Lateness, Memory, Opinion
from edgewise.edge._last_words import LastWords, read_last_words, write_last_words
from edgewise.edge._watch import Run, Watch
from edgewise.edge._watchdog import EXIT_HANG, Watchdog
from edgewise.edge.device import DeviceLimits, Identity
from edgewise.edge.update import Phase, UpdateLimits
from edgewise.ports import (
    Frame,
    ListSource,
    MemoryClock,
    MemoryFootprint,
    MemorySupervisor,
    OnnxRuntime,
    SeededChance,
    SystemClock,
    SystemFootprint,
)
from edgewise.wire import Decision
from faulty_networks import faulty_bundle

LIMITS = GuardLimits()


def decision(label: str = "good", confidence: float = 0.8, margin: float = 0.5) -> Decision:
    return Decision(label=label, confidence=confidence, margin=margin, bundle="b" * 64)


# -- the rules -------------------------------------------------------------------------------------------------------


def test_every_fourth_decision_failing_is_found_though_never_five_in_a_row_fail():
    failures = Failures(LIMITS, in_a_row_max=5)
    for _ in range(100_000):
        failures.decided()
    assert failures.complaint() is None
    for number in range(60):
        failures.failed("scores are nan") if number % 4 == 0 else failures.decided()
    assert "decisions failed, at most 1 in 100 may; the last one: scores are nan" in failures.complaint()


def test_one_failure_in_two_hundred_is_never_a_reason():
    for seed in range(20):
        dice, failures = random.Random(seed), Failures(LIMITS, in_a_row_max=5)
        for _ in range(20_000):
            failures.failed("odd") if dice.random() < 0.005 else failures.decided()
        assert failures.complaint() is None


def test_a_busy_moment_is_not_remarked_on_and_lasting_lateness_is():
    late = Lateness(LIMITS, ms_max=100, count_min=20)
    now_s = 0.0
    for second in range(4000):
        busy = second % 300 < 12  # twelve seconds of every five minutes the machine has no time
        for _ in range(10):
            late.decided([400 if busy else 20], [now_s])
            now_s += 0.1
    assert late.remark() is None
    for _ in range(600):
        late.decided([400], [now_s])
        now_s += 0.1
    assert "longer than 100 ms" in late.remark()
    assert late.remark() is None  # told once, then looked at anew


def test_in_its_trial_a_bundle_is_judged_by_its_95th_percentile():
    late = Lateness(LIMITS, ms_max=100, count_min=20)
    for number in range(40):
        late.decided([400 if number % 10 == 0 else 20], [number * 0.1])
    assert "95th percentile" in late.complaint()


def test_memory_that_grows_is_found_and_the_rings_filling_is_not():
    memory = Memory(LIMITS)
    for held in (100, 120, 150, 164):
        memory.looked(held, own_mb=held - 100, needs_mb=10)
    assert memory.complaint() is None
    for held in (250, 251):
        memory.looked(held, own_mb=64, needs_mb=10)
    assert memory.complaint() is None  # not for long enough
    memory.looked(252, own_mb=64, needs_mb=10)
    assert "memory grew by 88 MB since it decides, at most 84 MB" in memory.complaint()


def test_a_bound_on_the_whole_process_counts_as_well():
    memory = Memory(replace(LIMITS, memory_mb_max=120.0))
    for _ in range(3):
        memory.looked(130, own_mb=0, needs_mb=10)
    assert "holds 130 MB, at most 120 MB" in memory.complaint()


def feed(opinion: Opinion, pairs) -> int:
    """Show decisions, and the other bundle's only where it is asked; comes back with how often it was."""
    asked = 0
    for mine, other in pairs:
        opinion.decided([mine], [0.0])
        if opinion.frames_left > 0:
            asked += 1
            opinion.compared(mine, other)
    return asked


def test_a_night_with_nothing_to_see_is_no_reason_and_costs_few_opinions():
    opinion = Opinion(LIMITS, ms_max=100)
    night = [(decision("good", 0.9 + number % 7 / 100), decision("good", 0.8)) for number in range(36_000)]
    asked = feed(opinion, night)
    assert opinion.complaint("parts@1") is None
    assert asked <= 9 * LIMITS.opinion_frames


def test_a_frozen_camera_is_no_reason():
    opinion = Opinion(LIMITS, ms_max=100)
    feed(opinion, [(decision(), decision("good", 0.7))] * 20_000)
    assert opinion.complaint("parts@1") is None


def test_a_bundle_that_only_says_one_thing_is_found_by_the_other_ones_word():
    opinion, dice = Opinion(LIMITS, ms_max=100), random.Random(1)
    pairs = [(decision("crack", dice.random()), decision(dice.choice(["good", "good", "crack"]))) for _ in range(2000)]
    feed(opinion, pairs)
    assert "nearly all decisions are 'crack', and parts@1 says otherwise" in opinion.complaint("parts@1")


def test_scores_that_stand_still_are_found_while_the_other_ones_move():
    opinion = Opinion(LIMITS, ms_max=100)
    feed(opinion, [(decision("good", 0.9), decision("good", number % 89 / 100)) for number in range(2000)])
    assert "the scores stand still" in opinion.complaint("parts@1")


def test_total_certainty_is_found_where_the_other_one_has_doubts():
    opinion = Opinion(LIMITS, ms_max=100)
    pairs = [(decision("good" if n % 2 else "pit", 1.0, 1.0), decision("good", n % 89 / 100)) for n in range(2000)]
    feed(opinion, pairs)
    assert "entirely sure" in opinion.complaint("parts@1")


def test_a_busy_machine_is_late_with_any_bundle_and_that_is_no_reason():
    opinion = Opinion(LIMITS, ms_max=100)
    for number in range(20_000):
        opinion.decided([decision("good" if number % 3 else "pit")], [400])
        if opinion.frames_left > 0:
            opinion.compared(decision(), decision(), 380)
    assert opinion.complaint("parts@1") is None


def test_a_bundle_that_is_late_while_the_other_one_would_be_in_time_is_found():
    opinion = Opinion(LIMITS, ms_max=100)
    for number in range(600):
        opinion.decided([decision("good" if number % 3 else "pit")], [400])
        if opinion.frames_left > 0:
            opinion.compared(decision(), decision(), 30)
    assert "decisions take longer than 100 ms, and parts@1 is in time on" in opinion.complaint("parts@1")


def test_an_improved_bundle_that_the_former_one_contradicts_on_a_third_of_frames_stays():
    """The hub sees such disagreements and has them labelled; it is no matter for the device alone."""
    alarms = 0
    for seed in range(20):
        opinion, dice = Opinion(LIMITS, ms_max=100), random.Random(seed)
        feed(
            opinion,
            [
                (decision("good", dice.random()), decision("crack" if dice.random() < 0.34 else "good"))
                for _ in range(4000)
            ],
        )
        alarms += opinion.complaint("parts@1") is not None
    assert alarms == 0


# -- real networks ---------------------------------------------------------------------------------------------------


class Line:
    """A device with real networks, whose frames show a fault from some frame on, and whose link can be cut."""

    def __init__(self, fleet, clock, make_usecase) -> None:
        self.fleet, self.clock, self.make_usecase = fleet, clock, make_usecase
        self.fed = 0
        fleet.clock = clock
        self.footprint = MemoryFootprint(50.0)
        fleet.bundle = lambda seed, fault="none": faulty_bundle(fleet, fault, seed)

    def start(self, **guard) -> Device:
        case = self.make_usecase(upload={"period_frames": 64, "share_of_bytes": 0.25})
        identity = Identity(
            device="d1", site="north", use_case="parts", usecase=case, root=self.fleet.root, hub_epoch="a" * 32
        )
        limits = UpdateLimits(latency_ms_max=120, guard=GuardLimits(**guard))

        def open_source(_after):
            self.source = ListSource()
            return self.source

        return Device(
            self.fleet.folder, identity=identity, open_source=open_source, link=self.fleet.link(),
            runtime=OnnxRuntime(), clock=self.clock, chance=SeededChance(1), boot="boot-1",
            footprint=self.footprint, limits=DeviceLimits(update=limits),
        )  # fmt: skip

    def install(self, device: Device, fault: str, seed: int) -> None:
        self.fleet.assign(self.fleet.sign(self.fleet.bundle(seed, fault)))
        before = device.updater.number
        for _ in range(400):
            device.contacts.hurry(self.clock.now())
            device.step(self.clock.now())
            if device.updater.number > before and device.updater.phase is Phase.COMMITTED:
                return
            if isinstance(self.clock, MemoryClock):
                self.clock.advance(1)
        raise AssertionError(device.waits_for())

    def decide(self, device: Device, count: int, *, faulty: bool, seconds: float = 0.5) -> None:
        dice = random.Random(self.fed)
        for _ in range(count):
            self.fed += 1
            row = {"x": 20.0 if faulty else dice.gauss(0, 1), "y": dice.gauss(0, 1)}
            self.source.add(
                Frame(
                    name=f"f{self.fed:07d}", data=json.dumps(row).encode(), media_type="application/json",
                    taken_at=self.clock.now(),
                )
            )  # fmt: skip
            device.decide_step(self.clock.now())
            device.beside_step()
            if isinstance(self.clock, MemoryClock):
                self.clock.advance(seconds)
            if self.fed % 8 == 0:
                device.update_step(self.clock.now())
        device.record_step(self.clock.now())
        device.update_step(self.clock.now())


@pytest.fixture
def line(fleet, make_usecase) -> Line:
    return Line(fleet, fleet.clock, make_usecase)


CASES = [
    ("nan", "nan", 30),
    ("infinite", "inf", 30),
    ("range", "needs probabilities from 0 to 1", 30),
    ("raises", "decisions in a row failed", 30),
    ("collapsed", "nearly all decisions are 'pit'", 1200),
    ("still", "the scores stand still", 1200),
    ("saturated", "entirely sure", 1200),
]


@pytest.mark.parametrize(("fault", "said", "frames"), CASES)
def test_a_faulty_bundle_goes_back_alone_and_offline_and_is_told_later(line, fault, said, frames):
    device = line.start()
    # A saturated bundle is right but too sure; the others are wrong about frames that the good one knows.
    line.install(device, "none", seed=1)
    line.install(device, fault, seed=1)
    bad = device.updater.running.bundle
    line.decide(device, 40, faulty=False)
    assert device.updater.running.bundle == bad, device.updater.state.last_failure
    line.fleet.lost = lambda _what: True
    line.decide(device, frames, faulty=fault not in ("collapsed", "still", "saturated"))
    assert device.updater.running.release == "parts@1", device.updater.state
    assert said in device.updater.state.known_bad[bad]
    assert said in device.updater.state.last_failure
    line.decide(device, 20, faulty=False)
    assert device.keeper.undecided <= 12
    line.fleet.lost = lambda _what: False
    line.clock.advance(4000)
    for _ in range(5):
        device.step(line.clock.now())
        line.clock.advance(100)
    told = [item["text"] for item in line.fleet.stored("event") if item["what"] == "phase"]
    assert any(said in text for text in told)
    # The hub wants the same again; here it is known to be bad.
    line.fleet.assign(line.fleet.sign(bad))
    line.clock.advance(100)
    for _ in range(5):
        device.step(line.clock.now())
        line.clock.advance(100)
    assert device.updater.running.release == "parts@1"
    device.close(line.clock.now())


def test_a_bundle_that_is_slow_on_some_frames_goes_back(fleet, make_usecase):
    """With the real clock: a loop of 300,000 turns takes longer than the deadline of 120 ms."""
    line = Line(fleet, SystemClock(), make_usecase)
    device = line.start(suspect_block=8)
    line.install(device, "none", seed=1)
    line.install(device, "slow", seed=1)
    line.decide(device, 72, faulty=True)
    assert device.updater.running.release == "parts@1", device.updater.state
    assert "decisions take longer than 120 ms, and parts@1 is in time on" in device.updater.state.last_failure
    device.close(line.clock.now())


def test_a_bundle_whose_memory_grows_goes_back(line):
    line.footprint = SystemFootprint()
    device = line.start(memory_every_s=1.0)
    line.install(device, "none", seed=1)
    line.install(device, "memory", seed=1)
    line.decide(device, 10, faulty=False)
    assert device.updater.phase is Phase.COMMITTED
    line.decide(device, 32, faulty=True)
    assert device.updater.running.release == "parts@1"
    assert "memory grew by" in device.updater.state.last_failure
    device.close(line.clock.now())


def test_three_crashes_in_a_row_are_the_bundles_fault_and_reboots_are_not(line):
    device = line.start()
    line.install(device, "none", seed=1)
    line.install(device, "none", seed=2)
    for boot in ("boot-1", "boot-2", "boot-3", "boot-4"):
        device.outbox.close()  # killed: no planned stop
        device = restarted(line, boot)
    assert device.updater.running.release == "parts@2"
    for _ in range(2):
        device.outbox.close()
        device = restarted(line, "boot-4")
    assert device.updater.running.release == "parts@2"
    device.outbox.close()
    device = restarted(line, "boot-4")
    assert device.updater.running.release == "parts@1"
    assert "crashed 3 times in a row while parts@2 decided" in device.updater.state.last_failure
    for _ in range(4):  # nothing to return to any more: it limps
        device.outbox.close()
        device = restarted(line, "boot-4")
    assert device.updater.running.release == "parts@1"
    device.close(line.clock.now())


def restarted(line: Line, boot: str) -> Device:
    case = line.make_usecase()
    identity = Identity(
        device="d1", site="north", use_case="parts", usecase=case, root=line.fleet.root, hub_epoch="a" * 32
    )
    return Device(
        line.fleet.folder, identity=identity, open_source=lambda _after: ListSource(), link=line.fleet.link(),
        runtime=OnnxRuntime(), clock=line.clock, chance=SeededChance(2), boot=boot,
    )  # fmt: skip


def test_planned_stops_and_a_long_life_between_are_no_crashes(line):
    device = line.start()
    line.install(device, "none", seed=1)
    line.install(device, "none", seed=2)
    for turn in range(6):
        if turn % 2:
            device.close(line.clock.now())
        else:
            line.clock.advance(700)
            device.update_step(line.clock.now())
            device.outbox.close()
        device = restarted(line, "boot-1")
    assert device.updater.running.release == "parts@2"
    device.close(line.clock.now())


# -- hangs -----------------------------------------------------------------------------------------------------------


def watchdog(watch: Watch, folder: Path, ended: list[int], supervisor=None, beats=None) -> Watchdog:
    beats = beats if beats is not None else iter(range(1_000_000))
    return Watchdog(
        watch, beat=lambda: next(beats), status=lambda: "decides", supervisor=supervisor or MemorySupervisor(),
        clock=SystemClock(), leave=lambda words: write_last_words(folder, words), run_ms_max=10_000, end=ended.append,
    )  # fmt: skip


def test_a_run_that_never_ends_ends_the_process_and_says_why(tmp_path, capsys):
    watch, ended = Watch(), []
    dog = watchdog(watch, tmp_path, ended)
    watch.began(Run("b" * 64, "parts@2"))
    for _ in range(11):
        dog.tick()
    assert ended == []
    dog.tick()
    assert ended == [EXIT_HANG]
    words = read_last_words(tmp_path)
    assert words is not None
    assert words.bundle == "b" * 64
    assert "parts@2 did not come back from one frame for 10 s" in words.text
    assert "returns to the bundle that was good before" in capsys.readouterr().err


def test_a_run_that_hangs_is_seen_behind_those_of_other_pipelines(tmp_path):
    watch, ended = Watch(), []
    dog = watchdog(watch, tmp_path, ended)
    watch.began(Run("b" * 64, "parts@2"))
    for _ in range(12):
        other = Run("a" * 64, "parts@1")
        watch.began(other)
        dog.tick()
        watch.ended(other)
    assert ended == [EXIT_HANG]


def test_many_short_runs_and_a_stopped_process_are_no_hang(tmp_path):
    watch, ended = Watch(), []
    dog = watchdog(watch, tmp_path, ended)
    for _ in range(50):
        run = Run("b" * 64, "parts@2")
        watch.began(run)
        dog.tick()
        watch.ended(run)
    # Stopped for an hour and going on: no tick was made meanwhile, so no time has passed for the watchdog.
    assert ended == []


def test_signs_of_life_are_given_only_while_the_loop_turns(tmp_path):
    supervisor = MemorySupervisor(patience_s=3)
    dog = watchdog(Watch(), tmp_path, [], supervisor, iter([1.0, 2.0, 2.0, 2.0, 3.0]))
    assert dog.tick_s == 1.0
    for _ in range(5):
        dog.tick()
    assert supervisor.told == [{"WATCHDOG": "1"}, {"STATUS": "decides"}, {"WATCHDOG": "1"}, {"WATCHDOG": "1"}]


@pytest.mark.parametrize("trial_s", [0, 60])
def test_a_hang_is_counted_against_its_bundle_at_the_next_start(bench, trial_s):
    one, two = bench.release(1), bench.release(2)
    updater = bench.updater()
    for release, trial in ((one, 0), (two, trial_s)):
        bench.accept(updater, bench.assign(release, trial_s=trial))
        updater.step(bench.link(), bench.clock.now())
    assert updater.running.release == two.id
    words = LastWords(
        bundle=two.bundles["fp32"], release=two.id, text="parts@2 did not come back", at=bench.clock.now()
    )
    write_last_words(bench.folder, words)
    updater = bench.updater(boot="boot-1")
    assert updater.running.release == one.id
    assert updater.state.known_bad == {two.bundles["fp32"]: "parts@2 did not come back"}
    assert read_last_words(bench.folder) is None


def test_a_hanging_shadow_is_refused_and_the_running_bundle_stays(bench):
    one, two = bench.release(1), bench.release(2)
    updater = bench.updater()
    bench.accept(updater, bench.assign(one))
    updater.step(bench.link(), bench.clock.now())
    bench.accept(updater, bench.assign(two, shadow=True))
    updater.step(bench.link(), bench.clock.now())
    assert updater.phase is Phase.SHADOW
    words = LastWords(
        bundle=two.bundles["fp32"], release=two.id, text="parts@2 did not come back", at=bench.clock.now()
    )
    write_last_words(bench.folder, words)
    updater = bench.updater(boot="boot-1")
    assert (updater.phase, updater.running.release, updater.shadow) == (Phase.IDLE, one.id, None)
    assert two.bundles["fp32"] in updater.state.known_bad


def test_a_hanging_former_bundle_is_never_shadowed_or_returned_to_again(bench):
    one, two = bench.release(1), bench.release(2)
    updater = bench.updater()
    bench.accept(updater, bench.assign(one))
    updater.step(bench.link(), bench.clock.now())
    bench.accept(updater, bench.assign(two, bake=True))
    updater.step(bench.link(), bench.clock.now())
    assert updater.shadow.release == one.id
    words = LastWords(
        bundle=one.bundles["fp32"], release=one.id, text="parts@1 did not come back", at=bench.clock.now()
    )
    write_last_words(bench.folder, words)
    updater = bench.updater(boot="boot-1")
    updater.step(bench.link(), bench.clock.now())
    assert (updater.phase, updater.running.release, updater.shadow) == (Phase.COMMITTED, two.id, None)
    for _ in range(5):
        updater.watch.failed(RuntimeError("odd"))
    updater.step(bench.link(), bench.clock.now())
    assert updater.running.release == two.id  # limping


def test_a_bundle_that_limps_for_hours_is_told_once_an_hour(bench):
    updater = bench.updater()
    bench.accept(updater, bench.assign(bench.release(1)))
    updater.step(bench.link(), bench.clock.now())
    told = []
    for _ in range(2 * 3600 // 60):
        for _ in range(6):
            updater.watch.failed(RuntimeError("odd"))
        told += [item.what for item in updater.step(bench.link(), bench.clock.now())]
        bench.clock.advance(60)
    assert told == ["bundle_unhealthy", "bundle_unhealthy"]
    assert updater.running is not None


@pytest.mark.parametrize("at_once", [1, 7, 64, 400])
def test_decisions_looked_at_together_are_judged_as_one_by_one(at_once: int) -> None:
    dice = random.Random(5)
    said = [decision(dice.choice(["good", "pit"]), dice.choice([0.5, 1.0])) for _ in range(1200)]
    said[300:900] = [said[300]] * 600  # stands still for a while
    times_ms = [dice.choice([20.0, 400.0]) for _ in said]
    moments_s = [number * 0.1 for number in range(len(said))]
    pictures = []
    for size in (1, at_once):
        opinion, late = Opinion(LIMITS, ms_max=100), Lateness(LIMITS, ms_max=100, count_min=20)
        for start in range(0, len(said), size):
            part = slice(start, start + size)
            opinion.decided(said[part], times_ms[part])
            late.decided(times_ms[part], moments_s[part])
        detector = late._blocks
        pictures.append((vars(opinion) | {"_against": None}, detector.count, detector.hits, late.complaint()))
    assert pictures[0] == pictures[1]
