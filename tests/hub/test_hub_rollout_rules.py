"""Each rule of the engine by itself: shadow, sizes, joiners, limits, failures, patience, masters, people's words."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from edgewise.hub.rollout import (
    Assign,
    Device,
    Event,
    Evidence,
    Finding,
    Join,
    Move,
    Open,
    OpenShadow,
    OpenWave,
    Pass,
    PassShadow,
    Rollout,
    State,
    Step,
    Target,
    Want,
    answer,
    next_steps,
    walk,
    waves_of,
)
from edgewise.hub.rollout_limits import rate_now
from edgewise.wire import Backstop, Condition, Disruption, Rate, RolloutPolicy, Shadow, Wave
from rollout_cases import NEW, NOW, OLD, a_device, a_rollout, committed, first_wave, moves

QUIET = Evidence()
ALL = (Wave(percent=100),)


def policy(**changes: Any) -> RolloutPolicy:
    return RolloutPolicy(**{"bake_s": 0, "trial_s": 5, "waves": ALL, **changes})


def told(steps: list[Step]) -> list[str]:
    return [step.device for step in steps if isinstance(step, Assign) and step.tells]


def at(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


def fleet_of(count: int, **changes: Any) -> list[Device]:
    return [a_device(f"d{index:02d}", **changes) for index in range(count)]


def open_for(*names: str, **changes: Any) -> Rollout:
    return a_rollout(waves=(OpenWave(devices=names, opened_at=NOW),), started_at=NOW, **changes)


# ---- The shadow stage ------------------------------------------------------------------------------------------------

SHADOW = policy(shadow=Shadow(devices=2, wait_s=1000))
STAGE = OpenWave(devices=("d00", "d01"), opened_at=NOW)
BESIDE = Want(kind="run", release=NEW.release, bundle=NEW.bundle, rollout="b" * 32, bake=False, shadow=True)


def beside(name: str, **changes: Any) -> Device:
    return a_device(name, **{"want": BESIDE, "told_at": NOW, **changes})


def test_before_the_first_wave_some_devices_run_the_candidate_beside_what_they_run() -> None:
    rollout = a_rollout(policy=SHADOW)
    (step,) = next_steps(rollout, fleet_of(6), QUIET, NOW)
    assert isinstance(step, OpenShadow)
    assert len(step.devices) == 2
    steps = next_steps(replace(rollout, shadow=STAGE), fleet_of(6), QUIET, NOW)
    assert told(steps) == ["d00", "d01"]
    assert all(isinstance(step, Assign) and step.want == BESIDE for step in steps)


@pytest.mark.parametrize(
    ("word", "state", "expected"),
    [
        ("promote", State.RUNNING, [PassShadow("seen")]),
        ("hold", State.RUNNING, []),
        (
            "reject",
            State.RUNNING,
            [Move(Event.REVERT, "worse than parts@1: seen; rejected in shadow, 0 devices exposed")],
        ),
        (
            "reject",
            State.PAUSED,
            [Move(Event.REVERT, "worse than parts@1: seen; rejected in shadow, 0 devices exposed")],
        ),
        ("promote", State.PAUSED, []),
    ],
)
def test_the_verdict_on_the_shadow_stage_moves_the_rollout(word: Any, state: State, expected: list[Step]) -> None:
    rollout = a_rollout(policy=SHADOW, shadow=STAGE, state=state)
    fleet = [beside("d00"), beside("d01"), a_device("d02")]
    assert next_steps(rollout, fleet, Evidence(shadow=Finding(word=word, text="seen")), NOW) == expected


def test_labelled_losses_reject_a_candidate_in_shadow_before_anybody_is_exposed() -> None:
    rollout = a_rollout(policy=SHADOW, shadow=STAGE)
    (step,) = next_steps(rollout, [beside("d00"), beside("d01")], Evidence(labels=9, losses=9), NOW)
    assert isinstance(step, Move)
    assert step.event is Event.REVERT
    assert step.reason.endswith("rejected in shadow, 0 devices exposed")


def test_devices_of_the_shadow_stage_go_on_with_what_they_run_when_it_is_rejected() -> None:
    rollout = a_rollout(policy=SHADOW, shadow=STAGE, state=State.REVERTING, reason="worse")
    steps = next_steps(rollout, [beside("d00"), beside("d01"), a_device("d02")], QUIET, NOW)
    wants = [step.want for step in steps if isinstance(step, Assign)]
    assert {(want.kind, want.release, want.shadow) for want in wants} == {("run", OLD.release, False)}
    back = [replace(beside("d00"), want=wants[0]), replace(beside("d01"), want=wants[1])]
    assert moves(next_steps(rollout, back, QUIET, NOW)) == [Event.RETURNED]


def test_an_undecided_shadow_stage_asks_a_person_and_waits_as_long_again() -> None:
    rollout = a_rollout(policy=SHADOW, shadow=STAGE)
    fleet = [beside("d00"), beside("d01")]
    evidence = Evidence(shadow=Finding(word="hold", text="12 of 300 paired decisions"))
    assert next_steps(rollout, fleet, evidence, at(999)) == []
    (step,) = next_steps(rollout, fleet, evidence, at(1000))
    assert isinstance(step, Move)
    assert step.asks
    assert "12 of 300 paired decisions" in step.reason
    assert "approve" in step.reason
    paused = replace(rollout, state=State.PAUSED, asks=True)
    again = answer(paused, Event.RESUME, fleet, "go on", at(1500))
    assert (again.state, again.asks) == (State.RUNNING, False)
    assert next_steps(again, fleet, evidence, at(2499)) == []
    assert moves(next_steps(again, fleet, evidence, at(2500))) == [Event.PAUSE]
    approved = answer(paused, Event.APPROVE, fleet, "seen it", at(1500))
    assert approved.shadow is not None
    assert approved.shadow.by_hand
    (step,) = next_steps(approved, fleet, evidence, at(1500))
    assert isinstance(step, Open)


def test_a_first_release_has_nothing_to_be_shadowed_by() -> None:
    rollout = a_rollout(policy=SHADOW, previous=None)
    (step,) = next_steps(rollout, fleet_of(3), QUIET, NOW)
    assert isinstance(step, Open)


def test_another_device_takes_the_place_of_one_that_left_the_shadow_stage() -> None:
    rollout = a_rollout(policy=SHADOW, shadow=STAGE)
    assert next_steps(rollout, [beside("d00"), a_device("d02")], QUIET, NOW) == [Join(None, ("d02",))]


def test_a_device_leaves_the_shadow_with_its_wave() -> None:
    passed = replace(STAGE, passed_at=NOW)
    rollout = open_for("d00", policy=policy(shadow=SHADOW.shadow, waves=(Wave(devices=1), *ALL)), shadow=passed)
    steps = next_steps(rollout, [beside("d00"), beside("d01")], QUIET, NOW)
    assert [(step.device, step.want.shadow, step.want.bake) for step in steps if isinstance(step, Assign)] == [
        ("d00", False, True)
    ]


# ---- Sizes and joiners -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waves", "devices", "sizes"),
    [
        ((Wave(devices=1, growth=2),), 20, [1, 2, 4, 8, 16, "all"]),
        ((Wave(devices=10, growth=1.1),), 12, [10, 11, "all"]),
        ((Wave(devices=50, growth=2),), 20, ["all"]),
        ((Wave(devices=1), Wave(percent=30, growth=2)), 20, [1, "30 %", "60 %", "all"]),
    ],
)
def test_growth_repeats_the_last_wave_until_all_are_in(waves: Any, devices: int, sizes: list[Any]) -> None:
    found = waves_of(RolloutPolicy(waves=waves), devices)
    shown = [wave.devices or ("all" if wave.percent == 100 else f"{wave.percent:g} %") for wave in found]
    assert shown == sizes


def test_a_growing_rollout_doubles_until_everybody_has_it() -> None:
    rollout = a_rollout(policy=policy(waves=(Wave(devices=1, growth=2),)))
    fleet = {device.id: device for device in fleet_of(9)}

    def act(_before: Rollout, _after: Rollout, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Assign):
                fleet[step.device] = committed(step.device, want=step.want)

    (done,) = walk([rollout], lambda _: (list(fleet.values()), QUIET), act, NOW)
    assert [len(wave.devices) for wave in done.waves] == [1, 1, 2, 4, 1]
    assert done.state is State.FINISHED


def test_a_late_joiner_takes_a_free_place_of_the_open_wave_and_does_not_hold_it() -> None:
    rollout = open_for("d00", policy=policy(waves=ALL, bake_s=600))
    fleet = [committed("d00"), a_device("late")]
    assert next_steps(rollout, fleet, QUIET, at(10)) == [Join(0, ("late",))]
    joined = replace(rollout, waves=(replace(rollout.waves[0], joined=("late",)),))
    assert told(next_steps(joined, fleet, QUIET, at(10))) == ["late"]
    assert next_steps(joined, fleet, QUIET, at(600)) == [Pass(0)]


def test_a_full_wave_takes_no_late_joiner() -> None:
    rollout = open_for("d00", policy=policy(waves=(Wave(devices=1), Wave(percent=100)), bake_s=600))
    assert told(next_steps(rollout, [committed("d00"), a_device("late")], QUIET, NOW)) == []


def test_who_joined_takes_the_place_of_those_that_left() -> None:
    two = policy(waves=(Wave(devices=1), Wave(percent=100)))
    rollout = open_for("gone", policy=two)
    assert next_steps(rollout, [a_device("late")], QUIET, NOW) == [Join(0, ("late",))]
    joined = replace(rollout, waves=(replace(rollout.waves[0], joined=("late",)),))
    assert told(next_steps(joined, [a_device("late")], QUIET, NOW)) == ["late"]
    assert next_steps(joined, [committed("late")], QUIET, NOW) == [Pass(0)]


# ---- Limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "committed_", "expected"),
    [
        (Rate(per_minute=10), 0, (10, 60.0)),
        (Rate(per_minute=2.5), 0, (2, 48.0)),
        (Rate(per_minute=0.25), 0, (1, 240.0)),
        (Rate(per_minute=10, growth=2, every=10), 9, (10, 60.0)),
        (Rate(per_minute=10, growth=2, every=10), 30, (80, 60.0)),
        (Rate(per_minute=10, growth=10, every=1, per_minute_max=500), 100_000, (500, 60.0)),
    ],
)
def test_a_rate_is_so_many_devices_in_a_window(rate: Rate, committed_: int, expected: tuple[int, float]) -> None:
    count, window_s = rate_now(rate, committed_)
    assert (count, pytest.approx(window_s)) == expected


def test_devices_are_told_at_the_rate_of_the_policy() -> None:
    names = [f"d{index:02d}" for index in range(6)]
    rollout = open_for(*names, policy=policy(rate=Rate(per_minute=2)))
    want = Want(kind="run", release=NEW.release, bundle=NEW.bundle, rollout="b" * 32, bake=True)
    fleet = [a_device(name, want=want, told_at=at(30)) for name in names[:1]] + [a_device(name) for name in names[1:]]
    assert told(next_steps(rollout, fleet, QUIET, at(31))) == ["d01"]
    assert told(next_steps(rollout, fleet, QUIET, at(90))) == ["d01", "d02"]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Disruption(group_by=("site",), unavailable_max=2), ["a0", "a1", "b0", "b1"]),
        (Disruption(group_by=("site",), available_min=2), ["a0", "b0"]),
        (Disruption(group_by=("pair",), unavailable_max=1), ["a0", "a1", "a2", "b0", "b2"]),
        (Disruption(group_by=("site", "pair"), unavailable_max=1), ["a0", "a1", "a2", "b0", "b2"]),
    ],
)
def test_no_group_has_more_devices_away_or_changing_than_its_budget(budget: Disruption, expected: list[str]) -> None:
    pairs = {"a0": "1", "a1": "2", "a2": "3", "b0": "4", "b1": "4", "b2": "5"}
    fleet = [a_device(name, site=name[0], labels={"pair": pair}, away=name == "a0") for name, pair in pairs.items()]
    rollout = open_for("a0", "a1", "a2", "b0", "b1", "b2", policy=policy(disruption=(budget,)))
    assert told(next_steps(rollout, fleet, QUIET, NOW)) == expected


def test_a_group_counts_devices_that_the_selector_leaves_out() -> None:
    budget = Disruption(group_by=("site",), available_min=1)
    outside = a_device("other", outside=("line is b, needs eq a",))
    rollout = open_for("d00", policy=policy(disruption=(budget,)))
    assert told(next_steps(rollout, [a_device("d00"), outside], QUIET, NOW)) == ["d00"]
    assert told(next_steps(rollout, [a_device("d00"), replace(outside, away=True)], QUIET, NOW)) == []


def test_bytes_over_metered_links_stay_within_their_budget() -> None:
    fleet = [a_device(f"d{index}", metered=index != 1, predicted_bytes=100) for index in range(4)]
    rollout = open_for("d0", "d1", "d2", "d3", policy=policy(metered_bytes_max=250), metered_bytes=100)
    steps = next_steps(rollout, fleet, QUIET, NOW)
    assert [(step.device, step.metered_bytes) for step in steps if isinstance(step, Assign)] == [("d0", 100), ("d1", 0)]


def test_what_was_fetched_for_the_shadow_is_not_counted_again() -> None:
    rollout = open_for(
        "d0", policy=policy(metered_bytes_max=100, shadow=Shadow(devices=1)), metered_bytes=100,
        shadow=OpenWave(devices=("d0",), opened_at=NOW, passed_at=NOW),
    )  # fmt: skip
    fleet = [beside("d0", metered=True, predicted_bytes=100)]
    assert told(next_steps(rollout, fleet, QUIET, NOW)) == ["d0"]


# ---- Failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "failed", "good", "event"),
    [
        ({"failures_max": 1}, 1, 3, None),
        ({"failures_max": 1}, 2, 3, Event.REVERT),
        ({"failures_max": 9, "failures_share_max": 0.25, "failures_sample_min": 4}, 1, 3, None),
        ({"failures_max": 9, "failures_share_max": 0.25, "failures_sample_min": 4}, 2, 3, Event.REVERT),
        ({"failures_max": 9, "failures_share_max": 0.25, "failures_sample_min": 4}, 2, 1, None),
        ({"failures_max": 1, "failures_then": "pause"}, 2, 3, Event.PAUSE),
    ],
)
def test_too_many_failures_stop_it_by_count_or_by_share(
    changes: Any, failed: int, good: int, event: Event | None
) -> None:
    fleet = [a_device(f"f{index}", failed=True) for index in range(failed)]
    fleet += [committed(f"g{index}") for index in range(good)]
    rollout = open_for(*(device.id for device in fleet), policy=policy(bake_s=600, **changes))
    assert moves(next_steps(rollout, fleet, QUIET, NOW)) == ([] if event is None else [event])


def test_a_person_who_lets_it_go_on_accepts_what_has_failed_so_far() -> None:
    rollout = open_for("f0", "g0", policy=policy(failures_then="pause", bake_s=600))
    fleet = [a_device("f0", failed=True), committed("g0")]
    (step,) = next_steps(rollout, fleet, QUIET, NOW)
    assert isinstance(step, Move)
    assert step.asks
    again = answer(replace(rollout, state=State.PAUSED, asks=True), Event.RESUME, fleet, "a broken camera", NOW)
    assert moves(next_steps(again, fleet, QUIET, NOW)) == []
    worse = [*fleet[:1], committed("g0", failed=True)]
    assert moves(next_steps(again, worse, QUIET, NOW)) == [Event.PAUSE]


@pytest.mark.parametrize(
    ("changes", "stuck"),
    [
        ({}, True),
        ({"told_at": NOW + timedelta(seconds=1)}, False),
        ({"away": True}, False),
        ({"not_now": ("the window opens at 22:00",)}, False),
        ({"waited_until": NOW + timedelta(seconds=400)}, False),
        ({"committed_at": NOW, "running": NEW.release}, False),
    ],
)
def test_a_device_in_contact_that_does_not_commit_in_time_is_a_failure_and_not_now_never_is(
    changes: Any, stuck: bool
) -> None:
    """Invariant 8."""
    want = Want(kind="run", release=NEW.release, bundle=NEW.bundle, rollout="b" * 32, bake=True)
    device = a_device("d00", **{"want": want, "told_at": NOW, **changes})
    rollout = open_for("d00", policy=policy(stuck_s=900, bake_s=5000))
    assert moves(next_steps(rollout, [device], QUIET, at(900))) == ([Event.REVERT] if stuck else [])


def test_late_joiners_that_fail_hold_up_other_late_joiners_and_nobody_else() -> None:
    finished = a_rollout(state=State.FINISHED, waves=first_wave("d00", passed_at=NOW), policy=policy())
    settled_want = Want(kind="run", release=NEW.release, bundle=NEW.bundle, rollout="b" * 32, bake=False)
    old = committed("d00", want=settled_want)
    bad, late = a_device("bad", failed=True), a_device("late")
    assert told(next_steps(finished, [old, late], QUIET, NOW)) == ["late"]
    assert next_steps(finished, [old, bad, late], QUIET, NOW) == []
    again = answer(finished, Event.RESUME, [old, bad, late], "its disk is broken", NOW)
    assert again.state is State.FINISHED
    assert told(next_steps(again, [old, bad, late], QUIET, NOW)) == ["late"]


def test_late_joiners_are_told_under_the_limits_of_the_waves() -> None:
    rules = policy(rate=Rate(per_minute=2), disruption=(Disruption(unavailable_max=1),))
    finished = a_rollout(state=State.FINISHED, waves=first_wave("x", passed_at=NOW), policy=rules)
    assert told(next_steps(finished, fleet_of(5), QUIET, NOW)) == ["d00"]


# ---- Holding, asking, patience ---------------------------------------------------------------------------------------

DOUBTFUL = Evidence(labels=6, losses=6)


def test_while_the_evidence_is_doubtful_nothing_opens_passes_or_is_told() -> None:
    assert 10 <= DOUBTFUL.e_value < 100
    rules = policy(waves=(Wave(devices=1), Wave(percent=100)))
    fleet = [committed("d00"), a_device("d01")]
    assert next_steps(open_for("d00", policy=rules), fleet, DOUBTFUL, NOW) == []
    passed = a_rollout(waves=first_wave("d00", passed_at=NOW), policy=rules)
    assert next_steps(passed, fleet, DOUBTFUL, NOW) == []
    both = replace(passed, waves=(*passed.waves, OpenWave(devices=("d01",), opened_at=NOW)))
    assert told(next_steps(both, fleet, DOUBTFUL, NOW)) == []
    assert told(next_steps(both, fleet, QUIET, NOW)) == ["d01"]
    finished = replace(passed, state=State.FINISHED)
    assert told(next_steps(finished, fleet, DOUBTFUL, NOW)) == []


def test_a_wave_that_cannot_pass_asks_with_what_is_missing_and_the_ways_on() -> None:
    rules = policy(wave_s_max=1000, disruption=(Disruption(unavailable_max=1),))
    rollout = open_for("d00", "d01", "away", policy=rules)
    fleet = [committed("d00"), a_device("d01"), a_device("away", away=True)]
    assert moves(next_steps(rollout, fleet, QUIET, at(999))) == []
    (step,) = next_steps(rollout, fleet, QUIET, at(1000))
    assert isinstance(step, Move)
    assert (step.event, step.asks) == (Event.PAUSE, True)
    for part in (
        "wave 1",
        "1 of 2 devices have committed, 1 say not now",
        "1 of site plant-a are away or changing",
        "approve",
    ):
        assert part in step.reason
    approved = answer(replace(rollout, state=State.PAUSED, asks=True), Event.APPROVE, fleet, "fine", at(1000))
    assert approved.waves[0].passed_at == at(1000)
    assert approved.waves[0].by_hand


def test_a_wave_that_only_bakes_is_not_asked_about() -> None:
    rollout = open_for("d00", policy=policy(wave_s_max=1000, bake_s=900))
    assert next_steps(rollout, [committed("d00", at(500))], QUIET, at(1200)) == []


def test_a_rollout_that_finds_nobody_asks_with_the_reasons() -> None:
    rollout = a_rollout(policy=policy(wave_s_max=9000), started_at=NOW)
    fleet = [a_device("d00", known=frozenset()), a_device("d01", misfits=("opset 22, has 21",))]
    assert next_steps(rollout, fleet, QUIET, at(3599)) == []
    (step,) = next_steps(rollout, fleet, QUIET, at(9000))
    assert isinstance(step, Move)
    assert step.asks
    assert "1 devices: parts@1 was never committed there" in step.reason
    assert "1 devices: opset 22, has 21" in step.reason


def test_a_condition_on_a_fact_that_nobody_reports_is_asked_about_after_an_hour() -> None:
    asked = (Condition(fact="battery", op="ge", value=40),)
    rollout = a_rollout(policy=policy(conditions=asked), started_at=NOW)
    fleet = [a_device("d00", unmet=("battery is not reported, needs ge 40",), facts={"ram_mb": 512})]
    waves = a_rollout(policy=policy(conditions=asked, waves=(Wave(devices=1), *ALL)), started_at=NOW)
    assert next_steps(waves, fleet, QUIET, at(3599)) == []
    (step,) = next_steps(waves, fleet, QUIET, at(3600))
    assert isinstance(step, Move)
    assert step.asks
    assert "none of 1 devices reports" in step.reason
    assert next_steps(replace(waves, resumed_at=at(3600)), fleet, QUIET, at(7300)) == []
    assert rollout.state is State.RUNNING


def test_nothing_happens_before_the_rollout_starts() -> None:
    rollout = a_rollout(policy=policy(starts_at=at(60)))
    assert next_steps(rollout, fleet_of(2), QUIET, at(59)) == []
    assert next_steps(rollout, fleet_of(2), QUIET, at(60)) != []


def test_without_a_release_to_return_to_no_further_device_is_told() -> None:
    rollout = open_for("d00", policy=policy(), previous=replace(OLD, withdrawn=True))
    (step,) = next_steps(rollout, fleet_of(1), QUIET, NOW)
    assert isinstance(step, Move)
    assert step.asks
    assert "return_to" in step.reason


def test_the_backstop_takes_a_release_back_where_the_policy_asks_for_it() -> None:
    seen = Evidence(backstop=Finding(word="reject", text="overrides doubled"))
    rollout = open_for("d00", policy=policy(backstop=Backstop(), bake_s=60))
    (step,) = next_steps(rollout, [committed("d00")], seen, NOW)
    assert step == Move(Event.REVERT, "worse than parts@1 by what operators do: overrides doubled")
    silent = replace(rollout, policy=policy(bake_s=60))
    assert next_steps(silent, [committed("d00")], seen, NOW) == []


# ---- Approval, selection, masters ------------------------------------------------------------------------------------


def test_a_rollout_that_waits_for_approval_touches_nobody_and_takes_nobody() -> None:
    waiting = a_rollout(state=State.WAITING, policy=policy())
    assert next_steps(waiting, fleet_of(2), QUIET, NOW) == []
    older = a_rollout(id="a" * 32, target=OLD, previous=None, state=State.FINISHED, policy=policy())
    fresh = a_device("late", want=None, running=None, known=frozenset())
    seen: list[Step] = []
    walk([waiting, older], lambda _: ([fresh] if not seen else [], QUIET), lambda *_: seen.extend(_[2]), NOW)
    assert told(seen) == ["late"]
    approved = answer(waiting, Event.APPROVE, [], "yes", NOW)
    assert (approved.state, approved.started_at) == (State.RUNNING, NOW)
    assert answer(waiting, Event.DENY, [], "no", NOW).state is State.ABORTED
    gone = replace(waiting, target=replace(NEW, withdrawn=True))
    assert moves(next_steps(gone, [], QUIET, NOW)) == [Event.ABORT]


LINE_A = (Condition(fact="line", op="eq", value="a"),)
LINE_B = (Condition(fact="line", op="eq", value="b"),)
NEWEST = Target(release="parts@3", bundle="3" * 64, version=3)


def on_line(rollout: Rollout, device: Device) -> Device:
    line = device.id[0]
    ok = not rollout.policy.select or rollout.policy.select[0].value == line
    return replace(device, outside=() if ok else (f"line is {line}, needs eq another",))


def walked(rollouts: list[Rollout], fleet: list[Device]) -> tuple[list[Rollout], dict[str, list[str]]]:
    """The rollouts afterwards, and the releases that each device was told, in order."""
    wants: dict[str, list[str]] = {}
    now = {device.id: device for device in fleet}

    def act(_before: Rollout, _after: Rollout, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Assign):
                wants.setdefault(step.device, []).append(step.want.release)
                now[step.device] = replace(now[step.device], want=step.want)

    def look(rollout: Rollout) -> tuple[list[Device], Evidence]:
        return [on_line(rollout, device) for device in now.values()], QUIET

    return walk(rollouts, look, act, NOW), wants


def test_a_device_outside_the_selection_does_not_exist_for_a_rollout() -> None:
    rollout = a_rollout(policy=policy(select=LINE_A))
    done, wants = walked([rollout], [a_device("a1"), a_device("b1"), a_device("b2", want=None, running=None)])
    assert done[0].members == {"a1"}
    assert wants == {"a1": [NEW.release]}


def test_a_device_that_leaves_the_selection_stays_in_the_rollout_that_told_it() -> None:
    rollout = open_for("a1", policy=policy(select=LINE_A), state=State.REVERTING, reason="worse")
    moved = committed("a1", outside=("line is b, needs eq a",))
    steps = next_steps(rollout, [moved], QUIET, NOW)
    assert [(step.device, step.want.kind) for step in steps if isinstance(step, Assign)] == [("a1", "revert")]


@pytest.mark.parametrize(
    ("newer", "older", "state"),
    [
        (LINE_A, LINE_B, State.RUNNING),
        (LINE_A, LINE_A, State.SUPERSEDED),
        (LINE_A, (), State.SUPERSEDED),
        ((), LINE_A, State.SUPERSEDED),
    ],
)
def test_a_newer_rollout_supersedes_one_that_may_reach_the_same_devices(newer: Any, older: Any, state: State) -> None:
    fleet = [a_device("a1", away=True), a_device("b1", away=True)]
    first = a_rollout(policy=policy(select=older, waves=(Wave(devices=1), *ALL)))
    second = a_rollout(id="c" * 32, target=NEWEST, policy=policy(select=newer, waves=(Wave(devices=1), *ALL)))
    (_, done), _ = walked([second, first], fleet)
    assert done.state is state


def test_a_selective_rollout_that_finished_governs_its_devices_and_an_older_one_all_others() -> None:
    finished = a_rollout(state=State.FINISHED, policy=policy(select=LINE_A), waves=first_wave("a1", passed_at=NOW))
    older = a_rollout(id="a" * 32, target=OLD, previous=None, state=State.FINISHED, policy=policy())
    new = {"want": None, "running": None, "known": frozenset()}
    _, wants = walked([finished, older], [a_device("a2", **new), a_device("b2", **new)])
    assert wants == {"a2": [NEW.release], "b2": [OLD.release]}


def test_devices_that_were_sent_back_to_a_named_release_stay_there() -> None:
    back = Want(kind="revert", release="parts@0", bundle="0" * 64, rollout="b" * 32, bake=False)
    reverted = a_rollout(state=State.REVERTED, previous=Target(release="parts@0", bundle="0" * 64, version=0))
    older = a_rollout(id="a" * 32, target=OLD, previous=None, state=State.FINISHED, policy=policy())
    _, wants = walked([reverted, older], [a_device("a1", want=back, running="parts@0"), a_device("a2", want=None)])
    assert wants == {"a2": [OLD.release]}


@pytest.mark.parametrize("why", [{"conflict": "it reports parts@9, which is not known here"}, {"pinned": "by ann"}])
@pytest.mark.parametrize("state", [State.RUNNING, State.FINISHED, State.REVERTING])
def test_a_device_in_conflict_or_pinned_is_left_alone(why: Any, state: State) -> None:
    fleet = [committed("d00", **why), a_device("d01", **why), a_device("d02", want=None, running=None, **why)]
    rollout = a_rollout(state=state, waves=first_wave("d00", passed_at=NOW), policy=policy(), reason="worse")
    steps = next_steps(rollout, fleet, QUIET, NOW)
    assert not [step for step in steps if isinstance(step, Assign)]
    over = state is State.REVERTING and "pinned" in why
    assert (Event.RETURNED in moves(steps)) is over, "a conflict keeps the revert open, a person's pin does not"


def test_a_newcomer_that_can_run_no_variant_of_the_earlier_release_does_not_get_it_first() -> None:
    new = a_device("d00", want=None, running=None, known=frozenset(), misfits=("too small",))
    steps = next_steps(open_for("d01", policy=policy()), [new], QUIET, NOW)
    assert [step.want.release for step in steps if isinstance(step, Assign)] == ["parts@1"]
    steps = next_steps(open_for("d01", policy=policy()), [replace(new, previous_fits=False)], QUIET, NOW)
    assert [step for step in steps if isinstance(step, Assign)] == []


def test_each_device_gets_its_variant_and_goes_back_to_its_own() -> None:
    small, earlier = "8" * 64, "7" * 64
    device = a_device("d00", bundle=small, previous_bundle=earlier, known=frozenset({earlier}))
    (step,) = next_steps(open_for("d00", policy=policy()), [device], QUIET, NOW)
    assert isinstance(step, Assign)
    assert step.want.bundle == small
    again = replace(device, want=step.want, bundle="9" * 64)
    assert next_steps(open_for("d00", policy=policy()), [again], QUIET, NOW) == [], "a variant stays as chosen"
    reverting = open_for("d00", policy=policy(), state=State.REVERTING, reason="worse")
    (step,) = next_steps(reverting, [again], QUIET, NOW)
    assert isinstance(step, Assign)
    assert (step.want.kind, step.want.bundle) == ("revert", earlier)


def test_a_revert_does_not_wait_with_a_newer_rollout_for_its_conditions() -> None:
    want = Want(kind="run", release=NEW.release, bundle=NEW.bundle, rollout="b" * 32, bake=False)
    reverting = a_rollout(state=State.REVERTING, reason="worse", waves=first_wave("a1"))
    newest = a_rollout(id="c" * 32, target=NEWEST, state=State.FINISHED, policy=policy())
    stays = a_device("a1", want=want, running=NEW.release, unmet=("battery is 12, needs ge 40",))
    _, wants = walked([newest, reverting], [stays])
    assert wants == {"a1": [OLD.release]}
