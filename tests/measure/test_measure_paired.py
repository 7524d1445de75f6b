"""Candidate beside champion on the same samples: the exact test, the paired interval, and small counts told as such."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.measure import compare, mcnemar, score_sites
from edgewise.wire import Compared, NotValid, Prediction, Scorecard, UseCase, digest

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Case = tuple[str, str, str, str, str]  # site, group, truth, champion's label, candidate's label


def use_case(*, metric: str = "macro_recall", slices: Sequence[str] = (), **gate: Any) -> UseCase:
    return UseCase.model_validate(
        {
            "name": "surface",
            "app": "factory",
            "outcome": {
                "goal": "find defects",
                "metric": metric,
                "labels": ["none", "pitting", "crack"],
                "good_labels": ["none", "free"],
                "labels_that_matter": ["crack", "hole"],
            },
            "people": {"owner": "o", "approver": "a", "oversight": "x"},
            "sites": [{"name": "a"}, {"name": "b"}],
            "slices": [{"name": name, "conditions": [{"fact": "hour", "op": "ge", "value": 22}]} for name in slices],
            "gate": {"samples_min": 4, **gate},
        }
    )


def cards(cases: Sequence[Case], night: Sequence[int] = ()) -> tuple[Scorecard, Scorecard]:
    """Candidate and champion; the numbered cases are in the slice ``night``."""
    made = []
    for name, place in (("candidate", 4), ("champion", 3)):
        items = tuple(
            Prediction(
                sample=f"{number:032x}",
                site=case[0],
                group=case[1],
                truth=case[2],
                label=case[place],
                slices=("night",) if number in night else (),
            )
            for number, case in enumerate(cases)
        )
        sites, overall = score_sites((), good_labels=())  # only the predictions are read
        made.append(
            Scorecard(bundle=digest(name.encode()), made_at=NOW, sites=sites, overall=overall, predictions=items)
        )
    return made[0], made[1]


def row(found: Sequence[Compared], site: str, measure: str, label: str | None = None) -> Compared:
    (one,) = (item for item in found if (item.site, item.measure, item.label) == (site, measure, label))
    return one


@given(st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_the_exact_test_is_twice_the_smaller_tail_of_a_fair_coin(gained: int, lost: int) -> None:
    n = gained + lost
    tail = sum(math.comb(n, count) for count in range(min(gained, lost) + 1)) / 2**n
    assert mcnemar(gained, lost) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_the_exact_test_gives_published_and_large_values() -> None:
    # Fagerland et al. 2013, children before and after treatment: 1 and 7 discordant pairs, exact p 0.070.
    assert mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)
    # Of many pairs it nears the chi-squared form without a correction: here (300 / sqrt(20000)) = 2.12 deviations.
    assert mcnemar(10_150, 9_850) == pytest.approx(math.erfc(300 / math.sqrt(20_000) / math.sqrt(2)), rel=0.02)


GOOD = [("a", f"g{i}", "none", "none", "free" if i % 2 else "none") for i in range(10)]
WON = [("a", f"c{i}", "crack", "none", "crack") for i in range(6)]
LOST = [("a", f"d{i}", "crack", "crack", "none") for i in range(2)]
SAME = [("b", f"p{i}", "pitting", "pitting", "pitting") for i in range(8)]


def test_discordant_pairs_measures_and_differences_are_counted_by_hand() -> None:
    found = compare(*cards([*GOOD, *WON, *LOST, *SAME]), use_case=use_case())
    assert [(item.measure, item.label) for item in found if item.site == "a"] == [
        ("macro_recall", None),
        ("good_recall", None),
        ("recall", "crack"),
    ]
    crack = row(found, "a", "recall", "crack")
    assert (crack.n, crack.groups, crack.gained, crack.lost) == (8, 8, 6, 2)
    assert (crack.champion, crack.candidate, crack.difference.value) == (0.25, 0.75, 0.5)
    assert crack.p == mcnemar(6, 2)
    good = row(found, "a", "good_recall")  # a part of another good label is right, too
    assert (good.champion, good.candidate, good.gained, good.lost, good.p) == (1.0, 1.0, 0, 0, 1.0)
    assert row(found, "a", "macro_recall").difference.value == pytest.approx(0.25)
    overall = row(found, "overall", "macro_recall")
    assert overall.difference.value == pytest.approx(0.5 / 3)
    assert (overall.gained, overall.lost) == (6, 2)
    assert row(found, "overall", "recall", "hole").few == "no evaluation sample"
    assert not any(item.label == "hole" for item in found if item.site != "overall")


def test_the_outcomes_own_metric_comes_first_where_it_exists() -> None:
    found = compare(*cards([*GOOD, *WON, *SAME]), use_case=use_case(metric="balanced_accuracy"))
    assert next(item.measure for item in found if item.site == "a") == "balanced_accuracy"
    assert [item.measure for item in found if item.site == "b"] == ["macro_recall"]
    assert row(found, "a", "balanced_accuracy").difference.value == pytest.approx(0.5)


def test_slices_and_sites_without_samples_are_there() -> None:
    cases = [case for case in [*GOOD, *WON, *LOST] if case[0] == "a"]
    found = compare(*cards(cases, night=range(10, 14)), use_case=use_case(slices=["night", "day"]))
    night = row(found, "slice:night", "recall", "crack")
    assert (night.n, night.gained, night.lost) == (4, 4, 0)
    for site in ("b", "slice:day"):
        empty = row(found, site, "macro_recall")
        assert (empty.n, empty.candidate, empty.difference.low, empty.few) == (0, None, None, "no evaluation sample")


def test_frames_of_one_part_are_one_pair() -> None:
    """Six frames of one part that changed are one discordant group: nothing to be sure of."""
    frames = [("a", "one", "crack", "none", "crack")] * 6
    others = [("a", f"x{i}", "crack", "crack", "crack") for i in range(6)]
    crack = row(compare(*cards([*frames, *others]), use_case=use_case()), "a", "recall", "crack")
    assert (crack.gained, crack.groups_gained, crack.groups, crack.p) == (6, 1, 7, 1.0)
    assert crack.few == "1 group differs, so p is at least 1"


def test_small_counts_are_told() -> None:
    three = [("a", f"t{i}", "crack", "none", "crack") for i in range(3)]
    crack = row(compare(*cards(three), use_case=use_case()), "a", "recall", "crack")
    assert crack.few == "3 samples, the gate needs 4; 3 groups differ, so p is at least 0.25"
    one = row(compare(*cards([three[0]] * 4), use_case=use_case()), "a", "recall", "crack")
    assert (one.difference.low, one.few) == (None, "one group, so no interval; 1 group differs, so p is at least 1")
    assert row(compare(*cards([*WON, *LOST]), use_case=use_case()), "a", "recall", "crack").few is None


def test_where_no_answer_changed_the_interval_is_not_a_point() -> None:
    same = row(compare(*cards(SAME), use_case=use_case()), "b", "macro_recall")
    assert same.difference.low is not None
    assert same.difference.low < -0.1
    many = [("b", f"q{i}", "pitting", "pitting", "pitting") for i in range(200)]
    more = row(compare(*cards(many), use_case=use_case()), "b", "macro_recall")
    assert -0.02 < (more.difference.low or -1) < 0 < (more.difference.high or 0) < 0.02


def test_the_same_evidence_in_another_order_gives_the_same_rows() -> None:
    candidate, champion = cards([*GOOD, *WON, *LOST, *SAME])
    turned = champion.model_copy(update={"predictions": champion.predictions[::-1]})
    assert compare(candidate, turned, use_case=use_case()) == compare(candidate, champion, use_case=use_case())


def test_bundles_on_different_samples_are_not_compared() -> None:
    candidate, champion = cards([*GOOD, *WON])
    less = champion.model_copy(update={"predictions": champion.predictions[1:]})
    with pytest.raises(NotValid, match="scored on different samples"):
        compare(candidate, less, use_case=use_case())


def test_of_equal_bundles_few_differ_by_the_test_and_most_intervals_hold_zero() -> None:
    """Parts seen four times, both bundles right about 70 % of parts, whole parts at once: 200 worlds."""
    chance, sure, held, frames_sure = np.random.default_rng(11), 0, 0, 0
    for _ in range(200):
        cases: list[Case] = []
        for part in range(30):
            ours, theirs = ("crack" if chance.random() < 0.7 else "none" for _ in range(2))
            cases += [("a", f"p{part}", "crack", theirs, ours)] * 4
        crack = row(compare(*cards(cases), use_case=use_case(), repeats=300), "a", "recall", "crack")
        sure += crack.p <= 0.1
        frames_sure += mcnemar(crack.gained, crack.lost) <= 0.1
        assert crack.difference.low is not None
        assert crack.difference.high is not None
        held += crack.difference.low <= 0 <= crack.difference.high
    assert sure <= 20, "at most one time in ten"
    assert frames_sure > 60, "which the test on single frames would not keep"
    assert held >= 170
