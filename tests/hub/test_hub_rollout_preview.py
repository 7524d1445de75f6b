"""The preview steps the engine itself: what it says is what then happens on a fleet that keeps calm."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edgewise.hub.rollout import Assign, Device, Evidence, Rollout, State, Step, Target, Want, walk
from edgewise.hub.rollout_model import Expected
from edgewise.hub.rollout_preview import Preview, all_problems, preview
from edgewise.measure import judge_shadow
from edgewise.wire import Condition, Disruption, Rate, RolloutPolicy, Shadow, Terms, Wave, Window
from edgewise.wire.rollout import YEAR_S

NOW = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
OLD = Target(release="parts@1", bundle="1" * 64, version=1)
NEW = Target(release="parts@2", bundle="2" * 64, version=2)
MB = 1_000_000
ALL = Wave(percent=100)


def a_rollout(**policy: Any) -> Rollout:
    values: dict[str, Any] = {"bake_s": 600, "trial_s": 60, **policy}
    return Rollout(id="b" * 32, target=NEW, previous=OLD, policy=RolloutPolicy(**values), state=State.RUNNING)


def a_device(name: str = "d1", **changes: Any) -> Device:
    old = Want(kind="run", release=OLD.release, bundle=OLD.bundle, rollout="a" * 32, bake=False)
    values = {"id": name, "site": "plant-a", "want": old, "running": OLD.release, "known": frozenset({OLD.bundle})}
    return Device(**{**values, "predicted_bytes": 10 * MB, **changes})


def a_fleet(count: int, sites: int = 2, **changes: Any) -> list[Device]:
    return [a_device(f"d{index:05d}", site=f"site-{index % sites}", **changes) for index in range(count)]


def expect(rollout: Rollout, fleet: list[Device], **expected: Any) -> Preview:
    return preview(rollout, fleet, Expected(**expected), NOW)


class Calm:
    """A fleet that obeys at once: whoever is told has committed at the next look, a minute later."""

    def __init__(self, rollout: Rollout, fleet: list[Device]) -> None:
        self.rollout, self.now = rollout, NOW
        self.devices = {device.id: device for device in fleet}

    def _look(self, _rollout: Rollout) -> tuple[list[Device], Evidence]:
        return list(self.devices.values()), Evidence()

    def _act(self, _before: Rollout, rollout: Rollout, steps: list[Step]) -> None:
        self.rollout = rollout
        for step in steps:
            if isinstance(step, Assign):
                told = self.now if step.tells else self.devices[step.device].told_at
                self.devices[step.device] = replace(self.devices[step.device], want=step.want, told_at=told)

    def _obey(self) -> None:
        for name, device in self.devices.items():
            want = device.want
            if want is None or device.away or device.running == want.release:
                continue
            at = self.now if want.release == NEW.release else None
            known = device.known | {want.bundle}
            self.devices[name] = replace(device, running=want.release, known=known, committed_at=at)

    def run(self, looks: int) -> None:
        for _ in range(looks):
            walk([self.rollout], self._look, self._act, self.now)
            if self.rollout.state is not State.RUNNING:
                return
            self.now += timedelta(seconds=60)
            self._obey()


sizes = st.one_of(
    st.integers(1, 30).map(lambda count: Wave(devices=count)),
    st.integers(1, 99).map(lambda share: Wave(percent=share)),
)


@given(
    count=st.integers(1, 40),
    sites=st.integers(1, 5),
    waves=st.lists(sizes, min_size=1, max_size=4),
    growth=st.none() | st.floats(1.5, 4),
    fresh=st.integers(0, 5),
    unfit=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_waves_of_a_preview_are_those_that_a_calm_fleet_then_gets(
    count: int, sites: int, waves: list[Wave], growth: float | None, fresh: int, unfit: int
) -> None:
    last = waves[-1].model_copy(update={"growth": growth})
    rollout = a_rollout(waves=(*waves[:-1], last))
    fleet = a_fleet(count, sites)
    fleet += [a_device(f"new{index}", want=None, running=None, known=frozenset()) for index in range(fresh)]
    fleet += [a_device(f"unfit{index}", misfits=("too slow",)) for index in range(unfit)]
    seen = expect(rollout, fleet)
    calm = Calm(replace(rollout, id="c" * 32, started_at=NOW), fleet)
    calm.run(2000)
    assert calm.rollout.state is State.FINISHED
    assert seen.outcome == "finishes"
    if not fresh:  # a device that first gets the earlier release joins a wave when it has it, and time decides which
        assert [wave.devices for wave in seen.waves] == [wave.devices for wave in calm.rollout.waves]
    assert {name for wave in seen.waves for name in wave.devices} == calm.rollout.members


policies = st.fixed_dictionaries(
    {
        "waves": st.lists(sizes, min_size=1, max_size=3).map(tuple),
        "rate": st.none() | st.builds(Rate, per_minute=st.floats(0.2, 50), growth=st.floats(1, 3)),
        "disruption": st.sampled_from(
            [(), (Disruption(unavailable_max=2),), (Disruption(available_min=1),), (Disruption(available_min=50),)]
        ),
        "shadow": st.none() | st.builds(Shadow, percent=st.floats(1, 100), tolerance=st.sampled_from([0.0, 0.01, 0.5])),
        "download": st.sampled_from([Terms(), Terms(windows=(Window(opens="22:00", closes="22:10", grace_s=300),))]),
        "activation": st.sampled_from(
            [Terms(), Terms(conditions=(Condition(fact="idle", op="eq", value=True),))],
        ),
        "bytes_per_s_max": st.none() | st.floats(1, 1e6),
        "bake_decisions_min": st.integers(0, 1000),
        "stuck_s": st.none() | st.floats(61, 1e5),
        "failures_then": st.sampled_from(["revert", "pause"]),
    }
)
fleets = st.lists(
    st.builds(
        dict,
        away=st.booleans(),
        metered=st.booleans(),
        predicted_bytes=st.integers(0, 100 * MB),
        facts=st.sampled_from([{}, {"idle": True}, {"idle": False}]),
        misfits=st.sampled_from([(), (), ("too slow",)]),
        outside=st.sampled_from([(), (), ("line is a, needs eq b",)]),
        pinned=st.sampled_from(["", "", "pinned by ann"]),
        known=st.sampled_from([frozenset(), frozenset({OLD.bundle})]),
    ),
    min_size=1,
    max_size=30,
)


@given(policy=policies, fleet=fleets, share=st.floats(0, 1))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_preview_always_ends_and_its_sums_fit_together(
    policy: dict[str, Any], fleet: list[dict[str, Any]], share: float
) -> None:
    devices = [a_device(f"d{index}", **changes) for index, changes in enumerate(fleet)]
    seen = expect(a_rollout(**policy), devices, away_share=share)
    stages = [*([seen.shadow] if seen.shadow else []), *seen.waves]
    assert 0 <= seen.metered_bytes <= seen.fetched_bytes
    assert all(0 <= stage.metered_bytes <= stage.fetched_bytes for stage in stages)
    assert sum(stage.fetched_bytes for stage in stages) <= seen.fetched_bytes
    assert seen.outside.total + seen.selected == seen.fleet == len(devices)
    assert seen.never.total <= seen.selected
    told = [name for wave in seen.waves for name in wave.devices]
    assert len(told) == len(set(told)), "no device is in two waves"
    never = {item.device for item in (*seen.never.devices, *seen.outside.devices)}
    assert not never & set(told)
    assert (seen.ends_at is None) == (seen.outcome != "finishes")
    times = [moment for stage in stages for moment in (stage.opens_at, stage.passes_at) if moment is not None]
    assert times == sorted(times)
    if seen.ends_at is not None and times:
        assert times[-1] <= seen.ends_at


def test_every_device_that_can_take_it_is_counted_once_in_the_bytes() -> None:
    fleet = [a_device(f"d{index}", metered=index < 3) for index in range(10)]
    seen = expect(a_rollout(waves=(Wave(devices=1), ALL), shadow=Shadow(devices=4), conditions=()), fleet)
    assert seen.shadow is not None
    assert seen.shadow.fetched_bytes == 40 * MB
    assert (seen.fetched_bytes, seen.metered_bytes) == (100 * MB, 30 * MB)
    assert seen.shadow.fetched_bytes + sum(wave.fetched_bytes for wave in seen.waves) == 100 * MB


def test_who_stays_out_is_named_with_the_reason() -> None:
    fleet = [
        a_device("ready"),
        a_device("elsewhere", outside=("line is b, needs eq a",)),
        a_device("slow", misfits=("one decision takes about 80 ms there, at most 50 ms allowed",)),
        a_device("kept", pinned="pinned to parts@1 by ann"),
        a_device("stranger", known=frozenset()),
        a_device("gone", away=True),
    ]
    seen = expect(a_rollout(select=(Condition(fact="line", op="eq", value="a"),)), fleet)
    assert [item.device for item in seen.outside.devices] == ["elsewhere"]
    assert {item.device: item.reasons[0] for item in seen.never.devices} == {
        "slow": "one decision takes about 80 ms there, at most 50 ms allowed",
        "kept": "pinned to parts@1 by ann",
        "stranger": "parts@1 was never committed there, so it could not be taken back to it",
    }
    assert seen.waiting.reasons == {"no contact": 1}
    assert seen.outcome == "finishes", "a device that is away holds nobody up"


def test_time_is_contact_download_trial_and_bake() -> None:
    rollout = a_rollout(waves=(Wave(devices=1), ALL), bake_s=3600, trial_s=60)
    seen = expect(rollout, a_fleet(10), contact_s=30, bytes_per_s=MB)
    assert seen.duration_s is not None
    assert 2 * (3600 + 60 + 10) <= seen.duration_s <= 2 * (3600 + 60 + 10 + 30 + 2)


def test_a_download_goes_on_in_the_next_night_by_the_clock_of_the_site() -> None:
    night = Terms(windows=(Window(opens="22:00", closes="23:00"),))
    rollout = a_rollout(waves=(ALL,), download=night, bytes_per_s_max=2000, bake_s=0)
    seen = expect(rollout, a_fleet(2, sites=1), zones={"site-0": "Asia/Tokyo"})
    # 10 MB at 2 kB/s are 5000 s: from 22:00 to 23:00 in Tokyo, and the rest in the night after.
    assert seen.last_at == datetime(2026, 5, 5, 13, 24, 20, tzinfo=UTC)


def test_devices_that_say_not_now_hold_nobody_up_and_have_it_when_their_windows_allow() -> None:
    night = Terms(windows=(Window(opens="22:00", closes="22:10"),))
    rollout = a_rollout(waves=(Wave(devices=1), ALL), download=night, bytes_per_s_max=10_000, bake_s=0)
    seen = expect(rollout, a_fleet(3))
    # 10 MB at 10 kB/s are 1000 s: two nights for the first device, which commits in the second one; then the others
    # are told, say not now when the window closes, and need three nights.
    assert [wave.passes_at.date().day for wave in seen.waves if wave.passes_at is not None] == [5, 5]
    assert seen.ends_at is not None
    assert seen.ends_at < datetime(2026, 5, 6, tzinfo=UTC)
    assert seen.last_at is not None
    assert datetime(2026, 5, 7, 22, 0, tzinfo=UTC) < seen.last_at < datetime(2026, 5, 7, 22, 10, tzinfo=UTC)


def test_rate_and_disruption_take_the_time_that_they_must() -> None:
    fleet = a_fleet(120, sites=4)
    rated = expect(a_rollout(waves=(ALL,), rate=Rate(per_minute=2), bake_s=0), fleet)
    assert rated.duration_s is not None
    assert rated.duration_s == pytest.approx(59 * 60 + 100, rel=0.05)
    # Thirty devices of each site one after the other: half a contact period, 10 s of download, 60 s of trial each.
    careful = expect(a_rollout(waves=(ALL,), disruption=(Disruption(unavailable_max=1),), bake_s=0), fleet)
    assert careful.duration_s is not None
    assert careful.duration_s == pytest.approx(30 * 100, rel=0.15)


def test_looks_that_grow_coarse_tell_much_the_same_as_fine_ones() -> None:
    """A thousand devices are looked at up to 2,000 times, ten thousand of them 160 times."""
    times = {}
    for count in (1000, 10_000):
        rollout = a_rollout(waves=(ALL,), rate=Rate(per_minute=count / 100), bake_s=0)
        seen = expect(rollout, a_fleet(count, sites=10))
        assert seen.outcome == "finishes"
        times[count] = seen.duration_s
    assert times[10_000] == pytest.approx(times[1000], rel=0.1)
    assert times[1000] == pytest.approx(100 * 60 + 100, rel=0.05)


def test_the_shadow_stage_takes_as_long_as_its_pairs() -> None:
    shadow = Shadow(devices=2, tolerance=0.01)
    rollout = a_rollout(shadow=shadow, waves=(ALL,), bake_s=0)
    seen = expect(rollout, a_fleet(6), decisions_per_s=0.1, contact_s=10)
    assert seen.shadow is not None
    assert seen.shadow.passes_at is not None
    pairs = next(
        count
        for count in range(1, 5000)
        if judge_shadow(shadow, [(count, 0)], wins=0, losses=0, revert_alpha=0.01).word == "promote"
    )
    spent_s = (seen.shadow.passes_at - seen.shadow.opens_at).total_seconds()
    assert spent_s == pytest.approx(pairs / 0.2 + 15, abs=20), "both devices decide once in ten seconds"
    strict = expect(a_rollout(shadow=Shadow(devices=2, tolerance=0.0, margin=1e-9)), a_fleet(6))
    assert strict.outcome == "asks"
    assert "has not decided within 2 days" in strict.text


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"starts_at": NOW + timedelta(days=900)}, "starts_at is 2028-10-20"),
        ({"starts_at": datetime.max.replace(tzinfo=UTC)}, "starts_at is 9999-12-31"),
        (
            {
                "download": Terms(windows=(Window(opens="22:00", closes="22:01", days=("mon",)),)),
                "bytes_per_s_max": 100,
            },
            "do not come through the windows of download within wave_s_max of 7 days",
        ),
        ({"bytes_per_s_max": 1}, "raise bytes_per_s_max or wave_s_max"),
        ({"success_min": 9}, "success_min is 9"),
        ({"bake_s": 700_000}, "bake_s"),
    ],
)
def test_what_can_never_work_is_a_problem_with_a_remedy(policy: dict[str, Any], says: str) -> None:
    found = all_problems(a_rollout(**policy), a_fleet(3), Expected(), NOW)
    assert any(says in text for text in found), found
    assert expect(a_rollout(**policy), a_fleet(3)).problems == tuple(found)


@pytest.mark.parametrize("name", ["bake_s", "trial_s", "wave_s_max", "stuck_s"])
def test_no_time_of_a_policy_is_so_long_that_the_calendar_ends(name: str) -> None:
    longest = {"wave_s_max": YEAR_S, name: YEAR_S}
    seen = expect(a_rollout(**longest, rate=Rate(per_minute=0.001, per_minute_max=0.001)), a_fleet(3))
    assert seen.outcome in ("finishes", "asks", "goes_on")
    with pytest.raises(ValidationError, match=name):
        RolloutPolicy.model_validate({name: YEAR_S + 1})


def test_windows_in_a_zone_that_nobody_knows_never_open() -> None:
    rollout = a_rollout(activation=Terms(windows=(Window(opens="01:00", closes="02:00"),)))
    (found,) = all_problems(rollout, a_fleet(3), Expected(zones={"site-0": "Mars/Base"}), NOW)
    assert found == (
        "the windows of activation never open in the time zone Mars/Base; change them, or the zone of the site"
    )


def test_a_condition_that_does_not_hold_now_makes_the_preview_say_that_a_person_will_be_asked() -> None:
    idle = Terms(conditions=(Condition(fact="idle", op="eq", value=True),))
    seen = expect(a_rollout(activation=idle), a_fleet(5, facts={"idle": False}))
    assert (seen.problems, seen.outcome) == ((), "asks")
    assert "could not pass within 7 days" in seen.text
    assert seen.waiting.total == 5


def test_a_large_fleet_is_told_by_counts_and_its_first_names() -> None:
    seen = expect(a_rollout(waves=(Wave(devices=10), ALL), rate=Rate(per_minute=0.5)), a_fleet(3000))
    assert seen.outcome == "finishes"
    assert [wave.total for wave in seen.waves] == [10, 2990]
    assert [len(wave.devices) for wave in seen.waves] == [10, 200]
    assert seen.waves[1].by_site == {"site-0": 1495, "site-1": 1495}
    assert seen.duration_s == pytest.approx(3000 * 120, rel=0.1)
