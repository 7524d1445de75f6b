"""Sketches add up, changes are found, healthy streams are left alone, and causes are named with a bound."""

from __future__ import annotations

import numpy as np
import pytest

from edgewise.measure import (
    MEAN_DAYS,
    Sketcher,
    cohort_days,
    find_causes,
    find_change,
    light_of,
    lights_together,
    yardstick,
)
from edgewise.wire import DaySketch, NotValid
from edgewise.wire.sketch import SKETCH_BYTES_MAX


def sketcher(seed: int = 0) -> Sketcher:
    rng = np.random.default_rng(seed)
    decided = rng.integers(0, 3, 400)
    return Sketcher.fit(rng.standard_normal((400, 24)) + 3 * np.eye(24)[decided], decided)


def day(rng: np.random.Generator, made: Sketcher, *, shift: float = 0.0, parts: int = 60) -> DaySketch:
    """A bursty day: each part is seen in one to seven frames that hardly differ."""
    decided = rng.choice(3, parts, p=(0.8, 0.1, 0.1))
    middle = rng.standard_normal((parts, 24)) + 3 * np.eye(24)[decided] + shift
    copies = rng.integers(1, 8, parts)
    frames = np.repeat(middle, copies, axis=0)
    frames = frames + 0.1 * rng.standard_normal(frames.shape)
    return made.sketch(frames, np.repeat(decided, copies), rng.uniform(0.5, 1, len(frames)), 3)


def fleet(seed: int, count: int, days: int, *, drifted: int = 0, at: int = 20) -> list[list[DaySketch]]:
    rng, made = np.random.default_rng(seed), sketcher()
    return [[day(rng, made, shift=0.6 if n < drifted and t >= at else 0.0) for t in range(days)] for n in range(count)]


def test_a_sketch_of_parts_is_the_sum_of_their_sketches_to_the_last_unit():
    rng, made = np.random.default_rng(1), sketcher()
    frames, decided, confidence = rng.standard_normal((90, 24)), rng.integers(0, 3, 90), rng.uniform(0, 1, 90)
    whole = made.sketch(frames, decided, confidence, 3)
    parts = [made.sketch(frames[a:b], decided[a:b], confidence[a:b], 3) for a, b in ((0, 7), (7, 60), (60, 90))]
    assert (parts[2] + parts[0]) + parts[1] == whole
    assert DaySketch.of_text(whole.text()) == whole


def test_a_sketch_stays_within_its_bytes_whatever_a_device_has_seen():
    most = 2**20
    large = DaySketch(
        count=16 * most, sums=(256 * 16 * most,) * 16, classes=(most,) * 16, novelty=(10 * most, *(most,) * 6),
        confidence=(5 * most, *(most,) * 11),
    )  # fmt: skip
    told = large.encode()
    assert len(told) <= SKETCH_BYTES_MAX
    assert DaySketch.decode(told).sums == large.sums
    assert DaySketch.decode(told).confidence == ()
    usual = fleet(2, 1, 1)[0][0]
    assert 44 <= len(usual.encode()) <= 110
    assert len(usual.text()) <= 150


@pytest.mark.parametrize("cut", [0, 1, 3, 12, 30])
def test_bytes_that_are_no_sketch_are_refused(cut):
    told = fleet(3, 1, 1)[0][0].encode()
    with pytest.raises(NotValid):
        DaySketch.decode(told[:cut])
    with pytest.raises(NotValid):
        DaySketch.decode(told[:-1] + bytes((told[-1] + 1,)))  # the counts no longer add up


def test_the_basis_travels_in_half_precision_and_gives_the_same_sketch():
    rng, made = np.random.default_rng(4), sketcher()
    again = Sketcher.of_basis(made.basis())
    frames, decided, sure = rng.standard_normal((50, 24)), rng.integers(0, 3, 50), rng.uniform(0, 1, 50)
    one, other = made.sketch(frames, decided, sure, 3), again.sketch(frames, decided, sure, 3)
    assert one.sums == other.sums
    assert one.classes == other.classes


def test_members_that_drift_are_found_and_the_others_are_not():
    streams = fleet(5, 60, 40, drifted=6)
    measured = yardstick(streams)
    assert measured is not None
    found = [find_change(measured.white(s), measured.weights(s), widths=measured.widths) for s in streams]
    alarms = [change.first_alarm(MEAN_DAYS) for change in found]
    assert all(alarm is not None and 20 <= alarm <= 22 for alarm in alarms[:6]), alarms[:6]
    assert alarms[6:] == [None] * 54
    assert all(change.began == 20 for change in found[:6])
    assert sum(change.is_quiet for change in found[6:]) >= 45
    assert not any(change.is_quiet for change in found[:6])


def lit(rng: np.random.Generator, days: list[DaySketch], gain: float = 1.0) -> list[DaySketch]:
    """The same days with the light of 30 frames each, which differ by 6 % from part to part."""
    told = []
    for one in days:
        middles = 0.5 * gain * (1 + 0.06 * rng.standard_normal(30))
        light = lights_together([light_of(m + np.array([[-0.05, 0.05]]) * gain) for m in middles])
        told.append(one.model_copy(update={"light": light}))
    return told


def alarms(streams: list[list[DaySketch]]) -> list[int | None]:
    measured = yardstick(streams)
    assert measured is not None
    found = [find_change(measured.white(s), measured.weights(s), widths=measured.widths) for s in streams]
    return [change.first_alarm(MEAN_DAYS) for change in found]


def test_a_lamp_that_grows_brighter_is_seen_where_the_network_answers_the_same():
    rng, streams = np.random.default_rng(8), fleet(8, 40, 30)
    brighter = [
        lit(rng, stream[:20]) + lit(rng, stream[20:], 1.04 if number < 6 else 1.0)
        for number, stream in enumerate(streams)
    ]
    found = alarms(brighter)
    assert all(alarm is not None and 20 <= alarm < 27 for alarm in found[:6]), found[:6]
    assert found[6:] == alarms(streams)[6:]


def test_days_and_devices_without_light_are_neither_alarmed_nor_a_hindrance():
    rng, streams = np.random.default_rng(9), fleet(9, 40, 30)
    some = [stream if number < 10 else lit(rng, stream) for number, stream in enumerate(streams)]
    some[20][10:] = streams[20][10:]  # its pictures cannot be read any more
    some[30][20:] = lit(rng, streams[30][20:], 1.06)
    without, found = alarms(streams), alarms(some)
    assert found[:30] == without[:30]
    assert found[31:] == without[31:]
    assert found[30] is not None


def test_light_adds_up_travels_and_is_of_no_more_than_the_frames():
    plain_day = fleet(3, 1, 1)[0][0]
    one = plain_day.model_copy(update={"light": (3, 1500, 400)})
    assert DaySketch.decode(one.encode()) == one
    assert (one + one).light == (6, 3000, 800)
    assert (one + plain_day).light == (3, 1500, 400)
    assert len(one.encode()) <= len(plain_day.encode()) + 6
    for light in ((0, 0, 0), (plain_day.count + 1, 5, 5), (2, 3000, 1), (2, 1, 1000), (2, -1, 1)):
        with pytest.raises(ValueError, match="light"):
            DaySketch(**{**plain_day.model_dump(), "light": light})


def test_within_n_days_a_healthy_device_alarms_with_at_most_n_of_the_mean_count():
    """Doob's bound, on days that are as the proof wants them: 20 days of 3,000 devices, threshold 200."""
    rng = np.random.default_rng(6)
    over = [
        find_change(rng.standard_normal((34, 5)), np.ones(34), widths=(4, 1)).first_alarm(200.0) is not None
        for _ in range(3000)
    ]
    assert np.mean(over) <= 20 / 200


def test_what_ten_devices_share_is_seen_at_once():
    rng = np.random.default_rng(7)
    members = []
    for _ in range(10):
        days = rng.standard_normal((24, 12)) + 5 * rng.standard_normal(12)
        days[20:] += 0.6
        members.append((days, np.ones(24)))
    alone = [find_change(*member).first_alarm() for member in members]
    together = find_change(*cohort_days(members)).first_alarm()
    assert together in (20, 21)
    assert sum(alarm is not None and alarm <= 21 for alarm in alone) <= 2


def test_too_few_days_give_no_yardstick():
    assert yardstick(fleet(8, 3, 10)) is None
    assert yardstick([]) is None


def test_a_cause_is_named_only_where_chance_does_not_explain_it():
    rng = np.random.default_rng(9)
    devices = {
        f"cam-{n}": {"lens": "b" if n % 8 == 0 else "a", "site": f"s{n % 5}", "serial": str(n)} for n in range(80)
    }
    lens_b = [name for name, held in devices.items() if held["lens"] == "b"]
    causes = find_causes(devices, [*lens_b[:9], "cam-3"])
    assert [(one.attribute, one.value, one.alarmed, one.members) for one in causes] == [("lens", "b", 9, 10)]
    wrong = sum(bool(find_causes(devices, rng.choice(list(devices), 8, replace=False))) for _ in range(200))
    assert wrong <= 6
