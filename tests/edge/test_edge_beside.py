"""A bundle that decides beside the acting one: no decision waits for it, and what it costs and tells is bounded."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from edgewise.edge._time_budget import BURST_S, full_time
from edgewise.edge.device import DeviceLimits
from edgewise.edge.update import Phase, UpdateLimits
from edgewise.frames import Decided

ROLLOUT = "b" * 32


def shadowing(fleet, **more):
    """A device on whose frames a second bundle decides without acting."""
    device = fleet.device(limits=DeviceLimits(update=UpdateLimits(latency_ms_max=1000)))
    fleet.assign(fleet.release(1))
    fleet.run(device, 3)
    fleet.assign(fleet.release(2), shadow=True, rollout=ROLLOUT, **more)
    fleet.clock.advance(100)
    fleet.run(device, 3)
    assert device.updater.phase is Phase.SHADOW
    return device


def pairs(fleet) -> tuple[int, int, int]:
    rows = [record for record in fleet.stored("telemetry") if record.get("rollout") == ROLLOUT]
    return tuple(sum(record.get(name, 0) for record in rows) for name in ("decisions", "paired", "disagreed"))


class Wrapped:
    """A bundle's pipeline with something between."""

    def __init__(self, inside, before) -> None:
        self._inside, self._before = inside, before

    def __getattr__(self, name):
        return getattr(self._inside, name)

    def judge(self, data, media_type, release):
        self._before()
        return self._inside.judge(data, media_type, release)


def wrap(device, before) -> None:
    shadow = device.updater.shadow
    device.updater.installed.shadow = replace(shadow, pipeline=Wrapped(shadow.pipeline, before))


def test_all_pairs_are_counted_by_release_and_rollout_and_only_disagreements_are_kept_as_such(fleet):
    device = shadowing(fleet)
    fleet.feed(64)
    assert fleet.run(device, 64, seconds=0.1) == 64
    fleet.run(device, 300, seconds=2)
    decisions, paired, disagreed = pairs(fleet)
    assert decisions == paired == 64
    assert {row["release"] for row in fleet.stored("telemetry") if row.get("paired")} == {"parts@1"}
    kept = [record for record in fleet.stored("sample") if record["why"] == "disagreement"]
    assert 0 < len(kept) <= disagreed
    for record in kept:
        assert (record["decision"]["release"], record["shadow"]["release"]) == ("parts@1", "parts@2")
        assert record["decision"]["label"] != record["shadow"]["label"]
        assert record["rollout"] == ROLLOUT


def test_a_shadow_that_hangs_holds_up_no_decision_and_nothing_waits_without_bound(fleet):
    device = shadowing(fleet)
    entered, free = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        free.wait(30)

    wrap(device, hang)
    asked = threading.Thread(target=lambda: device.beside_step(10))
    asked.start()
    fleet.feed(200)
    made = [device.decide_step(fleet.clock.now()) for _ in range(200)]
    assert entered.wait(10)
    assert all(isinstance(decision, Decided) for decision in made)
    assert asked.is_alive()
    assert device.beside.status()["waiting"] <= 64
    assert device.beside.left_out["busy"] >= 200 - 65
    free.set()
    asked.join(10)


def test_the_app_acts_before_the_shadow_is_asked(fleet):
    heard = []
    device = fleet.device(act=lambda _frame, decision: heard.append(("act", decision.release)))
    fleet.assign(fleet.release(1))
    fleet.run(device, 3)
    fleet.assign(fleet.release(2), shadow=True)
    fleet.clock.advance(100)
    fleet.run(device, 3)
    wrap(device, lambda: heard.append(("asked", "parts@2")))
    fleet.feed(3)
    fleet.run(device, 3)
    assert heard == [("act", "parts@1"), ("asked", "parts@2")] * 3


def test_over_its_share_of_time_frames_are_left_out_at_random_and_counted_as_not_paired(fleet):
    device = shadowing(fleet, shadow_cpu_share=0.2)
    wrap(device, lambda: fleet.clock.advance(0.5))  # each run takes half a second
    fleet.feed(400)
    began_s = fleet.clock.monotonic_s()
    assert fleet.run(device, 400, seconds=0.5) == 400
    spent_s, passed_s = device.beside.paired * 0.5, fleet.clock.monotonic_s() - began_s
    assert spent_s <= 0.2 * (passed_s + BURST_S) + 0.5
    assert spent_s >= 0.2 * passed_s * 0.8, "what it may take it takes"
    fleet.run(device, 300, seconds=2)
    decisions, paired, _ = pairs(fleet)
    assert (decisions, paired) == (400, device.beside.paired)
    assert device.beside.left_out["over_share"] == 400 - paired


def test_a_pair_is_counted_once_over_a_power_cut_and_never_before_its_decision(fleet):
    device = shadowing(fleet)
    fleet.feed(100)
    fleet.run(device, 37, seconds=0.1)  # in the middle of a period
    device.outbox.close()  # nothing else is said: the process is gone
    device = fleet.device()
    fleet.run(device, 400, seconds=2)
    decisions, paired, _ = pairs(fleet)
    assert sum(record["decisions"] for record in fleet.stored("telemetry")) == 100
    assert 95 <= paired <= decisions <= 100  # a shadow is opened a moment after a start


def test_pairs_that_come_late_are_counted_in_a_row_of_their_own(fleet):
    device = shadowing(fleet)
    fleet.feed(16)
    for _ in range(16):
        device.decide_step(fleet.clock.now())
    fleet.clock.advance(100)
    device.record_step(fleet.clock.now())  # the period is recorded; nothing was compared yet
    while device.beside_step():
        pass
    fleet.run(device, 200, seconds=2)
    assert pairs(fleet)[:2] == (16, 16)


def test_a_bundle_that_was_replaced_answers_nothing_that_was_asked_before(fleet):
    device = shadowing(fleet)
    fleet.feed(8)
    for _ in range(8):
        device.decide_step(fleet.clock.now())
    device.updater.installed.shadow = None
    while device.beside_step():
        pass
    assert device.beside.left_out["replaced"] == 8
    assert device.beside.paired == 0


@given(
    share=st.floats(0.01, 1),
    cost_s=st.floats(0.001, 3),
    gap_s=st.floats(0.001, 2),
    acted=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_no_more_than_the_share_of_idle_time_and_one_burst_is_ever_taken(share, cost_s, gap_s, acted, seed):
    dice, budget, now_s, idle_s, taken_s = random.Random(seed), full_time(share, 0.0), 0.0, 0.0, 0.0
    for _ in range(300):
        now_s, idle_s = now_s + gap_s, idle_s + gap_s * (1 - acted)
        budget = budget.at(now_s, gap_s * acted)
        if dice.random() < budget.chance:
            budget, taken_s = budget.spent(cost_s), taken_s + cost_s
    assert taken_s <= share * (idle_s + BURST_S) + cost_s + 1e-6


def test_which_frames_are_taken_says_nothing_of_what_they_show():
    """Of rare frames the same share is taken as of all others, although the budget is short all the time."""
    taken, seen = {True: 0, False: 0}, {True: 0, False: 0}
    for seed in range(200):
        dice, budget = random.Random(seed), full_time(0.3, 0.0)
        for number in range(500):
            rare = dice.random() < 0.05
            seen[rare] += 1
            budget = budget.at(number * 0.1)
            if dice.random() < budget.chance:
                taken[rare] += 1
                budget = budget.spent(0.09)
    shares = {rare: taken[rare] / seen[rare] for rare in seen}
    assert seen[True] > 4500
    assert 0.3 < shares[False] < 0.7
    assert abs(shares[True] - shares[False]) < 4 * (0.25 / seen[True]) ** 0.5


def test_disagreements_over_the_budget_are_drawn_and_each_says_with_which_chance(fleet):
    device = shadowing(fleet)
    fleet.feed(2000)
    assert fleet.run(device, 2000, seconds=0.1) == 2000
    fleet.run(device, 300, seconds=2)
    _, _, disagreed = pairs(fleet)
    kept = [record for record in fleet.stored("sample") if record["why"] == "disagreement"]
    chances = [record["inclusion_probability"] for record in kept]
    assert disagreed > 2 * len(kept), "the budget was short"
    assert 0.01 <= min(chances) < max(chances) == 1.0
    assert len(kept) + device.keeper.not_kept["disagreement_over_budget"] == disagreed
    stand_for = sum(1 / chance for chance in chances)
    spread = sum((1 - chance) / chance**2 for chance in chances) ** 0.5
    assert abs(stand_for - disagreed) < 5 * spread


def test_a_pair_travels_once_and_only_where_chance_chose_the_frame(fleet):
    device = shadowing(fleet)
    fleet.feed(600)
    fleet.run(device, 300, seconds=0.1)
    device.feedback(fleet.clock.now(), verdict="wrong", frame="f000290")
    fleet.run(device, 600, seconds=0.5)
    fleet.run(device, 300, seconds=2)
    samples = fleet.stored("sample")
    paired = [record for record in samples if "shadow" in record]
    assert {record["why"] for record in samples} > {record["why"] for record in paired}
    assert {record["why"] for record in paired} == {"disagreement", "audit"}
    assert {"feedback", "margin"} <= {record["why"] for record in samples}
    assert all(("rollout" in record) == ("shadow" in record) for record in samples)
    frames = Counter(record["frame"] for record in paired)
    assert max(frames.values()) == 1
