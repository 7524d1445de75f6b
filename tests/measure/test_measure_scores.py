"""Scorecards: what each measure means, also where a site has only one kind of parts."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.measure import largest_gap, score_sites
from edgewise.wire import NotValid, Prediction, SiteScore

GOOD = ("none", "free")


def prediction(
    index: int, truth: str, label: str, site: str = "a", group: str = "", defect: float | None = None
) -> Prediction:
    return Prediction(sample=f"{index:032x}", site=site, group=group, truth=truth, label=label, defect=defect)


def cases(*pairs: tuple[str, str], site: str = "a") -> list[Prediction]:
    return [prediction(index, truth, label, site) for index, (truth, label) in enumerate(pairs)]


def score(items: list[Prediction]) -> SiteScore:
    return score_sites(items, good_labels=GOOD)[1]


def test_balanced_accuracy_counts_any_defect_label_as_defective_and_any_good_label_as_good() -> None:
    result = score(
        cases(("none", "free"), ("free", "pitting"), ("pitting", "scratch"), ("scratch", "none"), ("crack", "crack"))
    )
    assert result.balanced_accuracy.value == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.accuracy.value == pytest.approx(2 / 5)
    assert result.good_recall is not None
    assert (result.good_recall.value, result.good_recall.n) == (1 / 2, 2)
    assert result.macro_recall.value == pytest.approx((1 / 2 + 0 + 0 + 1) / 4)
    assert {label: metric.value for label, metric in result.recall.items()} == {
        "none": 1, "free": 0, "pitting": 0, "scratch": 0, "crack": 1,
    }  # fmt: skip


def test_a_site_without_good_parts_has_no_balanced_accuracy_and_no_auc() -> None:
    result = score([prediction(0, "pitting", "pitting", defect=0.9), prediction(1, "crack", "none", defect=0.2)])
    assert result.balanced_accuracy.value is None
    assert result.auc.value is None
    assert result.macro_recall.value == 0.5


def test_a_site_with_only_good_parts_has_the_recall_of_good() -> None:
    result = score(cases(("none", "none"), ("free", "none"), ("none", "pitting")))
    assert result.balanced_accuracy.value is None
    assert result.macro_recall.value == pytest.approx(2 / 3)


def test_without_a_good_label_every_class_is_a_defect() -> None:
    result = score_sites(cases(("none", "none"), ("pitting", "pitting")), good_labels=[])[1]
    assert result.balanced_accuracy.value is None
    assert result.macro_recall.value == 1


def test_auc_looks_only_at_cases_that_have_a_score() -> None:
    items = [
        prediction(0, "none", "none", defect=0.1),
        prediction(1, "none", "none", defect=0.6),
        prediction(2, "pitting", "pitting", defect=0.5),
        prediction(3, "crack", "crack"),
        prediction(4, "none", "none"),
    ]
    assert score(items).auc.value == 0.5
    assert score(items).auc.n == 3


def test_no_prediction_gives_an_empty_score() -> None:
    sites, overall = score_sites([], good_labels=GOOD)
    assert sites == ()
    assert (overall.site, overall.n, overall.accuracy.value) == ("overall", 0, None)


def test_sites_come_in_the_order_of_their_names_and_add_up() -> None:
    items = [*cases(("none", "none"), ("crack", "none"), site="b"), prediction(9, "none", "none", site="a")]
    sites, overall = score_sites(items, good_labels=GOOD)
    assert [(site.site, site.n) for site in sites] == [("a", 1), ("b", 2)]
    assert overall.n == 3


def test_two_predictions_for_one_sample_are_refused() -> None:
    with pytest.raises(NotValid) as refused:
        score([prediction(0, "none", "none"), prediction(0, "none", "crack")])
    assert refused.value.code == "sample_twice"


def test_the_same_group_name_at_two_sites_means_two_groups() -> None:
    same = [
        prediction(index, "crack", "crack" if index % 3 else "none", site="ab"[index % 2], group="part-1")
        for index in range(12)
    ]
    assert score(same).accuracy.low is not None  # two groups
    assert score_sites(same, good_labels=GOOD)[0][0].accuracy.low is None  # one group


def test_a_perfect_score_still_shows_its_doubt() -> None:
    few = score(cases(*[("none", "none"), ("crack", "crack")] * 5)).balanced_accuracy
    many = score(cases(*[("none", "none"), ("crack", "crack")] * 50)).balanced_accuracy
    assert few.value == few.high == many.value == 1
    assert few.low is not None
    assert many.low is not None
    assert few.low < 0.7 < many.low < 1


labels = st.sampled_from(["none", "free", "pitting", "crack"])
rows = st.lists(
    st.tuples(labels, labels, st.sampled_from("abc"), st.sampled_from(["", "g", "h"])), min_size=1, max_size=25
)


@settings(max_examples=40)
@given(given_rows=rows, seed=st.integers(0, 100))
def test_the_order_of_predictions_changes_nothing_and_intervals_hold_their_value(
    given_rows: list[tuple[str, str, str, str]], seed: int
) -> None:
    items = [
        prediction(i, t, said, site, group, defect=i % 5 / 4) for i, (t, said, site, group) in enumerate(given_rows)
    ]
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    result = score_sites(items, good_labels=GOOD)
    assert result == score_sites(shuffled, good_labels=GOOD)
    for site in (*result[0], result[1]):
        for metric in (site.balanced_accuracy, site.macro_recall, site.accuracy, site.auc, *site.recall.values()):
            if metric.low is not None and metric.high is not None:
                assert 0 <= metric.low <= metric.high <= 1


def test_a_scorecard_of_two_thousand_predictions_is_quick() -> None:
    chance = random.Random(1)
    names = ["none", "pitting", "scratch", "crack", "dent", "rust"]
    items = [
        prediction(
            i,
            t := chance.choice(names),
            t if chance.random() < 0.8 else chance.choice(names),
            "abc"[i % 3],
            f"g{i // 7}",
            chance.random(),
        )
        for i in range(2000)
    ]
    seconds = []
    for _ in range(3):
        start = time.process_time()
        score_sites(items, good_labels=GOOD)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1.0  # about 0.2 s; the bound leaves room for a busy machine


def test_a_slice_is_scored_over_all_sites_and_a_prediction_may_be_in_several() -> None:
    truth = [("ok", "ok", ("night", "wet")), ("bad", "ok", ("night",)), ("bad", "bad", None), ("ok", "ok", ())]
    cases = [
        Prediction(sample=f"{i:032x}", site="ab"[i % 2], group="", truth=t, label=label, slices=slices)
        for i, (t, label, slices) in enumerate(truth)
    ]
    sites, overall = score_sites(cases, good_labels=["ok"])
    assert [(site.site, site.n, site.accuracy.value) for site in sites] == [
        ("a", 2, 1.0),
        ("b", 2, 0.5),
        ("slice:night", 2, 0.5),
        ("slice:wet", 1, 1.0),
    ]
    assert overall.n == 4


def test_the_gap_is_told_in_the_declared_metric() -> None:
    """At b one defect is taken for another: no gap in good against defective, one in macro recall."""
    pairs = [("none", "none"), ("pitting", "pitting"), ("crack", "crack")] * 8
    mixed = [("none", "none"), ("pitting", "crack"), ("crack", "crack")] * 8
    at_b = [item.model_copy(update={"sample": f"{100 + n:032x}"}) for n, item in enumerate(cases(*mixed, site="b"))]
    sites = score_sites([*cases(*pairs), *at_b], good_labels=GOOD)[0]
    gaps = [largest_gap(sites, metric=name) for name in ("balanced_accuracy", "macro_recall")]
    assert [round(gap.value, 3) for gap in gaps if gap is not None] == [0.0, 0.333]


def test_without_a_good_sample_there_is_no_recall_of_good() -> None:
    assert score(cases(("pitting", "pitting"), ("crack", "none"))).good_recall is None
