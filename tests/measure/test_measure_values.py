"""Stated values: their scores, the correction of intervals on whole groups, and the gate's word on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from edgewise.measure import correction, groups_needed, judge, score_sites, score_values
from edgewise.wire import NotValid, Prediction, Scorecard, UseCase, Verdict, decode, digest, encode

NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUANTILES = (0.05, 0.5, 0.95)
Off = Callable[[str, int], float]  # (site, day) -> by how much the value is stated too high


def use_case(*, sites: str = "ab", slices: Sequence[str] = (), **gate: Any) -> UseCase:
    return UseCase.model_validate(
        {
            "name": "solar",
            "app": "none",
            "outcome": {"goal": "power in four hours", "metric": "mae", "target": {"name": "power", "unit": "MW"}},
            "people": {"owner": "o", "approver": "a", "oversight": "x"},
            "sites": [{"name": name} for name in sites],
            "slices": [{"name": name, "conditions": [{"fact": "hour", "op": "ge", "value": 22}]} for name in slices],
            "gate": {"floor": 0, **gate},
        }
    )


def card(name: str, off: Off, *, half: Callable[[str], float] = lambda _site: 3.0, days: int = 24) -> Scorecard:
    """Four values a day and site, each stated too high by `off` in a pattern of signs that is fixed."""
    chance = np.random.default_rng(5)
    items = []
    for site in "ab":
        for day in range(days):
            for hour in range(4):
                truth = float(chance.uniform(0, 40))
                value = truth + off(site, day) * (1 if chance.random() < 0.5 else -1)
                items.append(
                    Prediction(
                        sample=f"{len(items):032x}",
                        site=site,
                        group=f"day-{day}",
                        truth=repr(truth),
                        label="within",
                        stated=(value - half(site), value, value + half(site)),
                        baseline=truth + 8,
                        slices=("night",) if hour == 0 else None,
                    )
                )
    sites, overall = score_sites((), good_labels=())
    return Scorecard(
        bundle=digest(name.encode()),
        made_at=NOW,
        sites=sites,
        overall=overall,
        predictions=tuple(items),
        quantiles=QUANTILES,
    )


def verdict(candidate: Scorecard, champion: Scorecard | None, case: UseCase | None = None) -> Verdict:
    return judge(candidate, champion, use_case=case or use_case(), now=NOW)


def results(found: Verdict) -> dict[str, str]:
    return {site.site: site.result for site in found.sites}


def test_the_scores_are_what_a_person_counts() -> None:
    made = card("one", lambda site, _day: 1.0 if site == "a" else 4.0)
    sites, overall = score_values(made.predictions, QUANTILES)
    assert [site.site for site in sites] == ["a", "b", "slice:night"]
    a, b = (site.values for site in sites[:2])
    assert a is not None
    assert b is not None
    assert [round(v, 6) for v in (a.mae.value, a.coverage.value, a.width.value, a.skill.value)] == [1, 1, 6, 0.875]
    assert [round(v, 6) for v in (b.mae.value, b.coverage.value, b.width.value, b.skill.value)] == [4, 0, 6, 0.5]
    assert overall.values is not None
    assert overall.values.mae.low < overall.values.mae.value < overall.values.mae.high
    assert overall.values.nominal == 0.9
    assert decode(Scorecard, encode(made)) == made


def test_a_sample_without_a_stated_value_is_counted_apart() -> None:
    made = card("one", lambda _site, _day: 1.0).predictions
    lost = [item.model_copy(update={"stated": None}) if n < 3 else item for n, item in enumerate(made)]
    site = score_values(lost, QUANTILES)[0][0]
    assert (site.n, site.values.unstated, site.values.mae.n) == (96, 3, 93)


def test_a_truth_that_is_no_number_is_named() -> None:
    bad = card("one", lambda _site, _day: 1.0).predictions[0].model_copy(update={"truth": "hot"})
    with pytest.raises(NotValid, match="is 'hot', needs to be a finite number"):
        score_values([bad], QUANTILES)


@pytest.mark.parametrize("seed", range(3))
def test_corrected_intervals_hold_new_groups_as_often_as_promised(seed: int) -> None:
    """Cases of a group share most of their error, and groups have very different sizes: the worst for plain pooling."""
    chance = np.random.default_rng(seed)

    def groups(count: int) -> tuple[np.ndarray, list[str]]:
        sizes = chance.integers(1, 40, size=count)
        shift = chance.normal(size=count) * np.where(sizes < 8, 3.0, 0.5)
        errors = np.concatenate([shift[n] + 0.2 * chance.normal(size=size) for n, size in enumerate(sizes)])
        return errors, [str(n) for n, size in enumerate(sizes) for _ in range(size)]

    held = []
    for _ in range(150):
        errors, names = groups(30)
        stated = np.repeat([[-0.3, 0.0, 0.3]], len(errors), axis=0)
        moved = correction(errors, stated, names, 0.9)
        fresh, of = groups(60)
        inside = np.abs(fresh) <= 0.3 + moved
        held.append(np.mean([inside[[one == name for one in of]].mean() for name in set(of)]))
    assert 0.9 <= float(np.mean(held)) <= 0.97


def test_intervals_that_are_too_wide_are_made_narrower() -> None:
    truth = np.linspace(0, 1, 50)
    stated = np.stack([truth - 5, truth, truth + 5], axis=1)
    assert correction(truth, stated, [""] * 50, 0.9) == pytest.approx(-5)


def test_too_few_groups_cannot_promise_anything() -> None:
    assert groups_needed(0.9) == 9
    with pytest.raises(NotValid, match="there are 8 groups to calibrate an interval of 90% on, needs 9"):
        correction(np.zeros(80), np.zeros((80, 3)), [str(n // 10) for n in range(80)], 0.9)


def test_an_equal_candidate_passes_everywhere() -> None:
    same = card("one", lambda _site, _day: 2.0)
    found = verdict(same, card("two", lambda _site, _day: 2.0))
    assert found.result == "passed"
    assert [(site.champion, site.candidate) for site in found.sites] == [(pytest.approx(2), pytest.approx(2))] * 2


def test_one_site_with_larger_errors_stops_it_however_much_the_other_gains() -> None:
    found = verdict(card("new", lambda site, _day: 0.1 if site == "a" else 2.4), card("old", lambda _s, _d: 2.0))
    assert results(found) == {"a": "passed", "b": "failed"}
    assert found.result == "failed"
    assert "mae 2 MW -> 2.4 MW" in found.sites[1].text


def test_the_margin_is_a_part_of_the_champions_error() -> None:
    candidate, champion = card("new", lambda _s, _d: 2.4), card("old", lambda _s, _d: 2.0)
    assert verdict(candidate, champion, use_case(margin=0.25)).result == "passed"
    assert verdict(candidate, champion, use_case(margin=0.15)).result == "failed"


def test_a_loss_that_chance_explains_is_not_certain() -> None:
    found = verdict(card("new", lambda _s, day: 9.0 if day == 3 else 2.0), card("old", lambda _s, _d: 2.0))
    assert results(found) == {"a": "inconclusive", "b": "inconclusive"}


def test_intervals_that_hold_too_little_fail_the_site_even_with_smaller_errors() -> None:
    candidate = card("new", lambda _s, _d: 1.0, half=lambda site: 3.0 if site == "a" else 0.5)
    found = verdict(candidate, card("old", lambda _s, _d: 2.0))
    assert results(found) == {"a": "passed", "b": "failed"}
    assert "coverage 0.000 (0.000 to 0.000), needs 0.850, the champion's is 1.000" in found.sites[1].text


def test_coverage_that_is_too_low_but_no_lower_than_before_got_no_site_worse() -> None:
    narrow = lambda _site: 0.5  # noqa: E731
    found = verdict(card("new", lambda _s, _d: 1.0, half=narrow), card("old", lambda _s, _d: 1.0, half=narrow))
    assert found.result == "passed"
    assert verdict(card("new", lambda _s, _d: 1.0, half=narrow), None).result == "failed"


def test_a_slice_is_judged_as_a_site_is() -> None:
    old = card("old", lambda _s, _d: 2.0)
    new = card("new", lambda _s, _d: 1.0)
    worse = [
        item.model_copy(update={"stated": (item.stated[0] + 2.9, item.stated[1] + 2.9, item.stated[2] + 2.9)})
        if item.slices
        else item
        for item in new.predictions
    ]
    found = verdict(new.model_copy(update={"predictions": tuple(worse)}), old, use_case(slices=["night"], margin=0.4))
    assert results(found)["slice:night"] == "failed"
    assert found.result == "failed"


def test_a_candidate_that_states_nothing_where_the_champion_does_fails() -> None:
    old = card("old", lambda _s, _d: 2.0)
    silent = [item.model_copy(update={"stated": None}) if n < 2 else item for n, item in enumerate(old.predictions)]
    found = verdict(old.model_copy(update={"predictions": tuple(silent)}), old)
    assert results(found) == {"a": "failed", "b": "passed"}
    assert "states no value of 2 of 96 samples" in found.sites[0].text


def test_a_first_release_has_to_reach_the_floor_in_skill() -> None:
    made = card("one", lambda _s, _d: 2.0)
    assert verdict(made, None, use_case(floor=0.7)).result == "passed"
    found = verdict(made, None, use_case(floor=0.8))
    assert found.result == "failed"
    assert "skill over all sites is 0.750 on 192 samples, the floor is 0.8" in found.reasons[0]


def test_too_few_samples_are_inconclusive() -> None:
    made = card("one", lambda _s, _d: 2.0)
    few = made.model_copy(update={"predictions": made.predictions[:5]})
    assert results(verdict(few, few)) == {"a": "inconclusive", "b": "inconclusive"}
    assert verdict(few, None).result == "inconclusive"


def test_a_champion_without_error_cannot_be_passed_by_one_with_errors() -> None:
    found = verdict(card("new", lambda _s, _d: 0.5), card("old", lambda _s, _d: 0.0))
    assert found.result == "failed"


def test_a_use_case_has_labels_or_a_target() -> None:
    told = use_case().model_dump(mode="json")
    for change, words in (
        ({"metric": "macro_recall"}, "mae and a target go together"),
        ({"target": None}, "mae and a target go together"),
        ({"labels": ["hot"]}, "labels and target are both given"),
        ({"metric": "macro_recall", "target": None}, "labels are missing"),
        ({"target": {"name": "power", "above": 1, "below": 2}}, "below has to be the smaller one"),
    ):
        with pytest.raises(ValueError, match=words):
            UseCase.model_validate(told | {"outcome": told["outcome"] | change})


def test_who_keeps_a_lease_is_called_while_values_are_scored_and_judged() -> None:
    made = card("one", lambda _s, _d: 2.0)
    beats: list[int] = []
    score_values(made.predictions, QUANTILES, beat=lambda: beats.append(1))
    scored = len(beats)
    judge(made, made, use_case=use_case(), now=NOW, beat=lambda: beats.append(1))
    judged = len(beats) - scored
    judge(made, None, use_case=use_case(), now=NOW, beat=lambda: beats.append(1))
    assert scored >= 4  # two sites, a slice, and all
    assert judged >= 4  # error and coverage of two sites
    assert len(beats) > scored + judged
