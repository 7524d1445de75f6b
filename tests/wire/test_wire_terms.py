"""Windows by a site's own clock, over midnight and clock shifts; conditions; unknown means not now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgewise.wire import DAYS, Condition, Terms, Window, unmet, wait_for

BERLIN = "Europe/Berlin"


def open_at(text, *windows, zone=BERLIN, begun=False):
    return wait_for(Terms(windows=windows), {}, datetime.fromisoformat(text), zone, begun=begun) is None


NIGHT = Window(opens="22:00", closes="05:00")
FRIDAY_NIGHT = Window(days=("fri",), opens="22:00", closes="05:00")
LUNCH = Window(days=("mon", "tue"), opens="12:00", closes="12:30")
WHOLE_DAY = Window(days=("sun",), opens="00:00", closes="00:00")
SHIFT = Window(opens="02:30", closes="04:00")

CASES = [
    ("the first moment is inside", "2026-01-05T12:00:00+01:00", LUNCH, True),
    ("the last one is not", "2026-01-05T12:30:00+01:00", LUNCH, False),
    ("another day is not", "2026-01-07T12:10:00+01:00", LUNCH, False),
    ("the moment counts, not how it is written", "2026-01-05T11:10:00+00:00", LUNCH, True),
    ("before midnight", "2026-01-05T23:59:59+01:00", NIGHT, True),
    ("after midnight", "2026-01-06T04:59:59+01:00", NIGHT, True),
    ("noon", "2026-01-06T12:00:00+01:00", NIGHT, False),
    ("Saturday morning belongs to Friday night", "2026-01-10T04:00:00+01:00", FRIDAY_NIGHT, True),
    ("Friday morning does not", "2026-01-09T04:00:00+01:00", FRIDAY_NIGHT, False),
    ("equal times are a whole day", "2026-01-11T23:00:00+01:00", WHOLE_DAY, True),
    ("and no more", "2026-01-12T00:00:00+01:00", WHOLE_DAY, False),
    # 29 March 2026: 02:00 becomes 03:00, so that 02:30 is skipped and stands for the jump.
    ("a skipped start is the jump", "2026-03-29T03:00:00+02:00", SHIFT, True),
    ("before the jump it is closed", "2026-03-29T01:59:59+01:00", SHIFT, False),
    ("and it closes as ever", "2026-03-29T04:00:00+02:00", SHIFT, False),
    # 25 October 2026: 02:00 to 03:00 comes twice.
    ("the first 02:30 opens", "2026-10-25T02:30:00+02:00", SHIFT, True),
    ("the second 02:00 is inside", "2026-10-25T02:00:00+01:00", SHIFT, True),
    ("before the first it is closed", "2026-10-25T02:29:59+02:00", SHIFT, False),
    ("a repeated end is its last", "2026-10-25T02:40:00+01:00", Window(opens="01:00", closes="02:45"), True),
    ("and then it closes", "2026-10-25T02:45:00+01:00", Window(opens="01:00", closes="02:45"), False),
    ("a window that is skipped whole stays closed", "2026-03-29T03:00:00+02:00",
     Window(opens="02:00", closes="03:00"), False),
]  # fmt: skip


@pytest.mark.parametrize(("text", "window", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_window_follows_the_clock_of_the_site(text, window, expected):
    assert open_at(text, window) is expected


def test_any_of_several_windows_will_do():
    assert open_at("2026-01-05T12:10:00+01:00", NIGHT, LUNCH)
    assert open_at("2026-01-05T23:10:00+01:00", NIGHT, LUNCH)


def test_grace_is_only_for_what_has_begun():
    window = Window(opens="22:00", closes="23:00", grace_s=1800)
    assert not open_at("2026-01-05T23:10:00+01:00", window)
    assert open_at("2026-01-05T23:10:00+01:00", window, begun=True)
    assert not open_at("2026-01-05T23:30:00+01:00", window, begun=True)


def test_it_says_when_the_window_opens_in_the_time_of_the_site():
    wait = wait_for(Terms(windows=(FRIDAY_NIGHT,)), {}, datetime(2026, 3, 23, 12, tzinfo=UTC), BERLIN)
    assert wait is not None
    assert wait.until == datetime(2026, 3, 27, 21, tzinfo=UTC)
    assert wait.reasons == ("the window opens at 2026-03-27T22:00:00+01:00 (Europe/Berlin)",)


def test_a_weekly_window_that_is_skipped_opens_a_week_later():
    window = Window(days=("sun",), opens="02:00", closes="03:00")
    wait = wait_for(Terms(windows=(window,)), {}, datetime(2026, 3, 28, 12, tzinfo=UTC), BERLIN)
    assert wait is not None
    assert wait.until == datetime(2026, 4, 5, 0, tzinfo=UTC)


def test_an_unknown_fact_or_zone_means_not_now_and_is_no_error():
    charged = Condition(fact="battery_percent", op="ge", value=40)
    wait = wait_for(Terms(conditions=(charged,)), {}, datetime(2026, 1, 1, tzinfo=UTC))
    assert wait is not None
    assert wait.reasons == ("battery_percent is not reported, needs ge 40",)
    for zone in ("Nowhere/Atlantis", "../etc/passwd", "", "a\0b"):
        wait = wait_for(Terms(windows=(NIGHT,)), {}, datetime(2026, 1, 1, tzinfo=UTC), zone)
        assert wait is not None
        assert "is not known here" in wait.reasons[0]


def test_conditions_and_windows_must_all_hold_and_each_one_missing_is_named():
    terms = Terms(windows=(NIGHT,), conditions=(Condition(fact="network_metered", op="eq", value=False),))
    noon, night = datetime(2026, 1, 5, 12, tzinfo=UTC), datetime(2026, 1, 5, 23, tzinfo=UTC)
    wait = wait_for(terms, {"network_metered": True}, noon)
    assert wait is not None
    assert len(wait.reasons) == 2
    assert wait_for(terms, {"network_metered": False}, noon) is not None
    assert wait_for(terms, {"network_metered": False}, night) is None
    assert wait_for(Terms(), {}, noon) is None


@pytest.mark.parametrize("wrong", [{"opens": "24:00"}, {"opens": "9:00"}, {"days": []}, {"days": ["monday"]}, {"x": 1}])
def test_a_window_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValidationError):
        Window.model_validate({"opens": "09:00", "closes": "10:00", **wrong})


clocks = st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.integers(0, 59))
moments = st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))
zones = st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia"])


@given(opens=clocks, closes=clocks, days=st.sets(st.sampled_from(DAYS), min_size=1), now=moments, zone=zones)
def test_what_is_waited_for_comes_and_never_a_moment_early(opens, closes, days, now, zone):
    terms = Terms(windows=(Window(days=tuple(days), opens=opens, closes=closes),))
    wait = wait_for(terms, {}, now, zone)
    if wait is None:
        return
    assert wait.until is not None
    assert now < wait.until
    assert wait_for(terms, {}, wait.until, zone) is None
    assert wait_for(terms, {}, wait.until - timedelta(seconds=1), zone) is not None
    wall = wait.until.astimezone(ZoneInfo(zone))
    jumped = wall.utcoffset() != (wait.until - timedelta(hours=3)).astimezone(ZoneInfo(zone)).utcoffset()
    assert f"{wall:%H:%M}" == opens or jumped


@given(
    st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge", "in", "not_in"]),
    st.one_of(st.integers(), st.text(), st.booleans(), st.lists(st.text())),
    st.one_of(st.none(), st.integers(), st.text(), st.booleans(), st.lists(st.integers())),
)
def test_no_fact_can_make_a_condition_fail_other_than_by_not_holding(op, value, fact):
    condition = Condition(fact="fact", op=op, value=value)
    assert isinstance(unmet([condition], {"fact": fact}), list)
    assert unmet([condition], {})
