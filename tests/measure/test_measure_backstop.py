"""The backstop without labels: what it finds, what does not fool it, and its error bound with devices that differ."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.measure import BackstopVerdict, Counts, judge_backstop
from edgewise.measure._did import spent
from edgewise.wire import Backstop, NotValid

WAVES = (10, 50, 200, 500)  # devices that have changed; the others of 600 have not
FLEET = 600
rows = st.lists(st.tuples(*[st.integers(0, 300), st.integers(1, 3000)] * 2), min_size=5, max_size=20)


def fleet(chance: np.random.Generator, *, devices: int = FLEET) -> tuple[np.ndarray, np.ndarray]:
    """Decisions an hour and error rate of each device."""
    return 40 * np.exp(0.5 * chance.standard_normal(devices)), chance.beta(4.8, 55.2, size=devices)


def overridden(error: np.ndarray) -> np.ndarray:
    return np.asarray(0.3 * error + 0.01 * (1 - error))


def counted(
    chance: np.random.Generator,
    hourly: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    *,
    hours_before: float = 168,
    hours: float = 24,
) -> np.ndarray:
    """A table (N, 4) of overrides and decisions, at error rates before and after."""
    table = []
    for error, length in ((before, hours_before), (after, hours)):
        decisions = chance.poisson(hourly * length)
        table += [chance.binomial(decisions, np.clip(overridden(error), 0, 1)), decisions]
    return np.stack(table, axis=1)


def look(
    table: np.ndarray, treated: int, *, wave: int = 0, nth: int = 1, policy: Backstop | None = None
) -> BackstopVerdict:
    counts = Counts(treated=table[:treated], control=table[treated:])
    return judge_backstop(policy or Backstop(), {"overrides": counts}, wave=wave, look=nth)


@pytest.mark.parametrize("seed", range(3))
def test_a_release_five_points_worse_is_found_on_the_first_ten_devices_in_a_day(seed: int) -> None:
    chance, found, ratios = np.random.default_rng(seed), 0, []
    for _ in range(60):
        hourly, error = fleet(chance)
        worse = error.copy()
        worse[:10] += 0.05
        verdict = look(counted(chance, hourly, error, worse), 10, nth=2, policy=Backstop(alpha=0.01))
        found += verdict.revert
        ratios.append(verdict.proxies[0].ratio)
    assert found >= 45
    assert 1.3 < np.median(ratios) < 1.6  # (0.033 + 0.05 * 0.29) / 0.033


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("differ", [0.0, 0.03])
@pytest.mark.parametrize("seed", range(2))
def test_a_release_that_is_no_worse_in_the_mean_is_reverted_at_most_as_often_as_promised(
    seed: int, differ: float, alpha: float
) -> None:
    # All looks of four waves; with `differ` each device gains or loses three points, which sum up to nothing.
    runs, chance, policy = 300, np.random.default_rng(seed), Backstop(alpha=alpha)
    false = 0
    for _ in range(runs):
        hourly, error = fleet(chance)
        changed = np.clip(error + differ * chance.choice([-1, 1], size=FLEET), 0, 1)
        past = counted(chance, hourly, error, error)[:, :2]
        reverted = False
        for wave, treated in enumerate(WAVES):
            now = np.where(np.arange(FLEET) < treated, changed, error)
            halves = [counted(chance, hourly, error, now, hours_before=1, hours=12)[:, 2:] for _ in range(2)]
            for nth, after in enumerate((halves[0], halves[0] + halves[1]), 1):
                verdict = look(np.hstack([past, after]), treated, wave=wave, nth=nth, policy=policy)
                reverted = reverted or verdict.revert
        false += reverted
    assert false / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize("seed", range(2))
def test_the_bound_holds_with_five_devices_on_either_side(seed: int) -> None:
    runs, alpha, chance = 1500, 0.1, np.random.default_rng(seed)
    false = 0
    for _ in range(runs):
        hourly, error = fleet(chance, devices=10)
        false += look(counted(chance, hourly, error, error), 5, policy=Backstop(alpha=alpha)).revert
    share = spent(Backstop(alpha=alpha), wave=0, look=1)
    assert false / runs <= share + 3 * math.sqrt(share * (1 - share) / runs)


@pytest.mark.parametrize("seed", range(3))
def test_a_busy_afternoon_everywhere_tells_nothing_against_the_release(seed: int) -> None:
    chance, ts = np.random.default_rng(seed), []
    for _ in range(60):
        hourly, error = fleet(chance)
        verdict = look(counted(chance, hourly, error, np.clip(2 * error, 0, 1)), 50)
        assert not verdict.revert
        ts.append(verdict.proxies[0].t)
    assert abs(np.mean(ts)) < 0.6


def test_devices_that_were_always_bad_tell_nothing_against_the_release() -> None:
    chance = np.random.default_rng(0)
    hourly, error = fleet(chance)
    error[:50] = 0.4
    verdict = look(counted(chance, hourly, error, error), 50)
    assert not verdict.revert
    assert verdict.proxies[0].ratio == pytest.approx(1, abs=0.05)


def test_overrides_tell_only_when_there_are_more_and_alarms_also_when_there_are_fewer() -> None:
    chance = np.random.default_rng(1)
    hourly, error = fleet(chance)
    fewer = error.copy()
    fewer[:50] = 0
    counts = Counts(treated=(table := counted(chance, hourly, error, fewer))[:50], control=table[50:])
    verdict = judge_backstop(Backstop(proxies=("overrides",)), {"overrides": counts}, wave=0, look=1)
    assert not verdict.revert
    both = judge_backstop(
        Backstop(proxies=("overrides", "alarms")), {"overrides": counts, "alarms": counts}, wave=0, look=1
    )
    assert both.revert
    assert [result.crossed for result in both.proxies] == [False, True]
    assert "alarms of 50 devices that changed and 550 that have not" in both.text
    assert "surely under" in both.text


def test_too_few_devices_are_said_to_be_too_few() -> None:
    table = np.array([(3, 100, 3, 100)] * 8)
    verdict = look(table, 3)
    assert not verdict.revert
    assert verdict.text == "overrides of 3 devices that changed and 5 that have not: needs 5 of each"
    assert verdict.proxies[0].devices_needed == 5
    assert "0 devices that changed" in judge_backstop(Backstop(), {}, wave=0, look=1).text


def test_an_undecided_look_says_how_many_devices_would_decide() -> None:
    chance = np.random.default_rng(2)
    hourly, error = fleet(chance)
    worse = error.copy()
    worse[:10] += 0.02
    result = look(counted(chance, hourly, error, worse, hours=6), 10).proxies[0]
    assert not result.crossed
    assert result.devices_needed is not None
    assert result.devices_needed > 10
    assert f"about {result.devices_needed} devices that changed would show it" in result.text


def test_devices_with_the_very_same_few_counts_are_not_taken_for_certain() -> None:
    # Their spread is zero; what chance gives to counts is not.
    table = np.array([(1, 100, 2, 100)] * 5 + [(1, 100, 1, 100)] * 50)
    assert not look(table, 5).revert


def test_a_device_that_lies_without_measure_cannot_revert_a_release_alone() -> None:
    table = np.array([(3, 100, 3, 100)] * 60)
    table[0] = (3, 100, 10**9, 100)
    assert not look(table, 10).revert


def test_devices_without_decisions_on_either_side_are_left_out() -> None:
    table = np.array([(3, 100, 3, 100)] * 60)
    more = np.vstack([[(0, 0, 3, 100), (3, 100, 0, 0)], table])
    assert look(more, 12).proxies == look(table, 10).proxies


@given(treated=rows, control=rows, seed=st.integers(0, 100))
def test_the_order_of_devices_does_not_matter_and_every_number_is_one(
    treated: list[tuple[int, ...]], control: list[tuple[int, ...]], seed: int
) -> None:
    chance = np.random.default_rng(seed)
    one = judge_backstop(Backstop(), {"overrides": Counts(treated=treated, control=control)}, wave=0, look=1).proxies[0]
    other = judge_backstop(
        Backstop(),
        {"overrides": Counts(treated=chance.permutation(treated), control=chance.permutation(control))},
        wave=0,
        look=1,
    ).proxies[0]
    if one.t is None:
        assert other.t is None
    else:
        assert other.t == pytest.approx(one.t, abs=1e-9)
        assert math.isfinite(one.t)
        assert one.ratio is not None
        assert one.ratio_low is not None
        assert 0 <= one.ratio_low <= one.ratio


@given(alpha=st.floats(0.0001, 0.5), looks=st.integers(1, 24))
def test_the_shares_of_all_looks_sum_up_to_at_most_alpha(alpha: float, looks: int) -> None:
    policy = Backstop(alpha=alpha, looks=looks)
    total = sum(spent(policy, wave=wave, look=nth) for wave in range(40) for nth in range(1, looks + 1))
    assert total <= alpha * (1 + 1e-9)


def test_proxies_share_the_error_of_a_look() -> None:
    table = Counts(treated=np.array([(3, 100, 3, 100)] * 5), control=np.array([(3, 100, 3, 100)] * 5))
    policy = Backstop(proxies=("overrides", "alarms"))
    verdict = judge_backstop(policy, {"overrides": table, "alarms": table}, wave=1, look=1)
    assert sum(result.alpha for result in verdict.proxies) == pytest.approx(spent(policy, wave=1, look=1))


@pytest.mark.parametrize(
    ("table", "wave", "nth"),
    [
        (np.zeros((5, 4)), 0, 0),
        (np.zeros((5, 4)), 0, 3),
        (np.zeros((5, 4)), -1, 1),
        (np.zeros((5, 3)), 0, 1),
        (-np.ones((5, 4)), 0, 1),
        (np.full((5, 4), np.nan), 0, 1),
    ],
)
def test_an_unplanned_look_and_counts_that_cannot_be_are_refused(table: np.ndarray, wave: int, nth: int) -> None:
    with pytest.raises(NotValid):
        judge_backstop(Backstop(), {"overrides": Counts(treated=table, control=table)}, wave=wave, look=nth)
