"""The gate's judgement (invariant 9): no site gets worse, on the classes that matter, with a stated error bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from edgewise.measure import compare, judge, judge_variant, score_sites
from edgewise.wire import (
    NotValid,
    Prediction,
    Scorecard,
    UseCase,
    Verdict,
    decode,
    digest,
    encode,
    record_digest,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Row = tuple[str, str, str, str]  # site, group, truth, label
Change = Callable[[str, str], str]  # (site, truth) -> label


def use_case(
    *,
    matter: Sequence[str] = (),
    metric: str = "balanced_accuracy",
    sites: str = "ab",
    slices: Sequence[str] = (),
    **gate: Any,
) -> UseCase:
    return UseCase.model_validate(
        {
            "name": "surface",
            "app": "factory",
            "outcome": {
                "goal": "find defects",
                "metric": metric,
                "labels": ["none", "pitting", "crack"],
                "good_labels": ["none", "free"],
                "labels_that_matter": list(matter),
            },
            "people": {"owner": "o", "approver": "a", "oversight": "x"},
            "sites": [{"name": name} for name in sites],
            "slices": [{"name": name, "conditions": [{"fact": "hour", "op": "ge", "value": 22}]} for name in slices],
            "gate": gate,
        }
    )


def card(rows: Sequence[Row], name: str, night: Collection[str] = ()) -> Scorecard:
    """A scorecard of these answers; those of the groups named are in the slice ``night``."""
    items = tuple(
        Prediction(
            sample=f"{i:032x}",
            site=site,
            group=group,
            truth=truth,
            label=label,
            slices=("night",) if group in night else None,
        )
        for i, (site, group, truth, label) in enumerate(rows)
    )
    sites, overall = score_sites((), good_labels=())
    return Scorecard(bundle=digest(name.encode()), made_at=NOW, sites=sites, overall=overall, predictions=items)


def truth_rows(parts: int = 20, *, sites: str = "ab", kinds: Sequence[str] = ("none", "pitting")) -> list[Row]:
    """For each site `parts` parts of each kind, each seen twice, all answered right."""
    return [
        (site, f"{kind}-{part}", kind, kind)
        for site in sites
        for kind in kinds
        for part in range(parts)
        for _ in range(2)
    ]


def wrong(rows: Sequence[Row], *, site: str, truth: str, parts: int, label: str = "none") -> list[Row]:
    """The rows, where this site's first `parts` parts of this class are answered with another label."""
    hit = {f"{truth}-{part}" for part in range(parts)}
    return [(s, g, t, label if s == site and t == truth and g in hit else said) for s, g, t, said in rows]


def verdict(
    candidate: Sequence[Row],
    champion: Sequence[Row] | None,
    case: UseCase | None = None,
    night: Collection[str] = (),
) -> Verdict:
    other = None if champion is None else card(champion, "champion", night)
    return judge(card(candidate, "candidate", night), other, use_case=case or use_case(), now=NOW)


def results(outcome: Verdict) -> dict[str, str]:
    return {site.site: site.result for site in outcome.sites}


def test_the_declared_metric_says_which_confusions_count() -> None:
    """One defect taken for another leaves good against defective as it was, and costs a class its recall."""
    rows = truth_rows(kinds=("none", "pitting", "crack"))
    mixed = wrong(rows, site="a", truth="pitting", parts=12, label="crack")
    for metric, result in (("macro_recall", "failed"), ("balanced_accuracy", "passed")):
        assert results(verdict(mixed, rows, use_case(metric=metric))) == {"a": result, "b": "passed"}


def test_whoever_waits_is_told_while_intervals_are_computed() -> None:
    """A hub keeps its lease by it: once a block of redraws, and more often the more samples there are."""
    told: list[str] = []
    rows = truth_rows(parts=400, sites="a", kinds=("none", "pitting"))  # 1,600 samples: blocks of 1,250 repeats
    ours, theirs = card(rows, "candidate"), card(rows, "champion")
    judge(ours, theirs, use_case=use_case(sites="a"), now=NOW, beat=lambda: told.append("judge"))
    compare(ours, theirs, use_case=use_case(sites="a"), beat=lambda: told.append("compare"))
    score_sites(ours.predictions, good_labels=["none"], beat=lambda: told.append("score"))
    assert [told.count(name) for name in ("judge", "compare", "score")] == [2, 4, 2]


def test_a_first_release_tells_the_recall_of_the_labels_that_matter() -> None:
    rows = truth_rows(kinds=("none", "pitting"))
    half = wrong(rows, site="a", truth="pitting", parts=20)
    found = verdict(half, None, use_case(matter=["pitting", "crack"]))
    told = {site.site: site for site in found.sites}
    assert (told["label:pitting"].candidate, told["label:pitting"].result) == (0.5, "passed")
    assert "recall of pitting over all sites 0.500 on 80 samples" in told["label:pitting"].text
    assert (told["label:crack"].candidate, told["label:crack"].result) == (None, "inconclusive")
    assert found.result == "passed", "the floor is asked of the declared metric"


def test_an_equal_candidate_passes_everywhere() -> None:
    outcome = verdict(truth_rows(), truth_rows())
    assert outcome.result == "passed"
    assert results(outcome) == {"a": "passed", "b": "passed"}
    assert [(site.champion, site.candidate, site.low, site.high) for site in outcome.sites] == [(1, 1, 0, 0)] * 2


def test_one_site_that_gets_worse_stops_it_however_much_the_others_gain() -> None:
    champion = wrong(truth_rows(), site="a", truth="pitting", parts=20)  # site a: half right
    candidate = wrong(truth_rows(), site="b", truth="pitting", parts=8)  # a perfect, b 0.8
    outcome = verdict(candidate, champion)
    assert results(outcome) == {"a": "passed", "b": "failed"}
    assert outcome.result == "failed"
    assert "b" in outcome.reasons[0]
    worse = outcome.sites[1]
    assert (worse.champion, worse.candidate) == (1.0, pytest.approx(0.8))
    assert worse.high is not None
    assert worse.high < 0


def parts(*numbers: int) -> set[str]:
    """The groups of these parts, of both kinds."""
    return {f"{kind}-{number}" for kind in ("none", "pitting") for number in numbers}


def test_better_at_every_site_and_in_the_mean_but_worse_at_night_is_refused() -> None:
    """Invariant 9: at each site the candidate wins ten parts by day and loses four at night."""
    base = truth_rows()
    night = parts(0, 1, 2, 3)
    by_day = {f"pitting-{number}" for number in range(10, 20)}
    champion = [(s, g, t, "none" if g in by_day else said) for s, g, t, said in base]
    candidate = [(s, g, t, "none" if g in night and t == "pitting" else said) for s, g, t, said in base]
    outcome = verdict(candidate, champion, use_case(slices=["night"]), night)
    assert all(site.candidate > site.champion for site in outcome.sites if site.site in "ab")
    assert results(outcome) == {"a": "passed", "b": "passed", "slice:night": "failed"}
    assert outcome.result == "failed"
    assert outcome.reasons[0] == "got worse at slice:night"
    worse = outcome.sites[-1]
    assert (worse.champion, worse.candidate) == (1.0, 0.5)
    assert verdict(candidate, champion, use_case(), night).result == "passed"  # what no use case declares is not judged


def test_a_slice_with_too_few_samples_or_none_is_inconclusive_as_a_site_is() -> None:
    case = use_case(slices=["night"])
    for night, words in ((parts(0), "on 8 samples"), (set(), "no evaluation sample; needs 9")):
        for_case = use_case(slices=["night"], samples_min=9)
        outcome = verdict(truth_rows(), truth_rows(), for_case, night)
        assert results(outcome) == {"a": "passed", "b": "passed", "slice:night": "inconclusive"}
        assert outcome.result == "inconclusive"
        assert words in outcome.sites[-1].text
    assert verdict(truth_rows(), truth_rows(), case, parts(0)).result == "passed"


def test_a_slice_does_not_count_twice_in_the_mean_that_decides_about_baking() -> None:
    candidate = wrong(truth_rows(), site="a", truth="pitting", parts=2)  # a -0.05, b even, at night -0.25
    case = use_case(slices=["night"], when_inconclusive="bake", margin=0.03)
    outcome = verdict(candidate, truth_rows(), case, parts(0, 1))
    assert results(outcome)["slice:night"] == "inconclusive"
    assert outcome.result == "passed"
    assert "mean difference over sites is -0.025" in outcome.reasons[0]


def test_an_equal_candidate_fails_a_slice_at_most_with_chance_alpha() -> None:
    random = np.random.default_rng(11)
    night = parts(*range(6))
    case, failed = use_case(slices=["night"], margin=0.0, alpha=0.1), 0
    for _ in range(200):
        answers = [
            [
                (s, g, t, said if drawn else ("none" if t == "pitting" else "pitting"))
                for (s, g, t, said), drawn in zip(truth_rows(10), random.random(80) < 0.8, strict=True)
            ]
            for _ in range(2)
        ]
        failed += results(verdict(answers[0], answers[1], case, night))["slice:night"] == "failed"
    assert failed <= 200 * 0.1 + 2 * (200 * 0.1 * 0.9) ** 0.5


def test_scorecards_that_put_a_sample_into_other_slices_are_not_compared() -> None:
    with pytest.raises(NotValid, match="different samples"):
        judge(
            card(truth_rows(), "candidate", parts(0)),
            card(truth_rows(), "champion", parts(1)),
            use_case=use_case(slices=["night"]),
            now=NOW,
        )


def test_a_first_release_shows_its_slices_beside_its_sites() -> None:
    outcome = verdict(truth_rows(), None, use_case(slices=["night"]), parts(0, 1))
    assert results(outcome) == {"a": "passed", "b": "passed", "slice:night": "passed"}
    assert outcome.sites[-1].candidate == 1.0


def test_a_loss_within_the_margin_passes() -> None:
    candidate = wrong(truth_rows(40), site="a", truth="pitting", parts=8)  # -0.1 of balanced accuracy
    assert verdict(candidate, truth_rows(40), use_case(margin=0.1)).result == "passed"
    assert verdict(candidate, truth_rows(40), use_case(margin=0.09)).result == "failed"


def test_a_loss_that_is_not_certain_is_held_or_baked_as_the_use_case_says() -> None:
    candidate = wrong(truth_rows(), site="a", truth="pitting", parts=2)  # a -0.05, b even; two losing parts may be luck
    held = verdict(candidate, truth_rows())
    assert (held.result, results(held)) == ("inconclusive", {"a": "inconclusive", "b": "passed"})
    assert verdict(candidate, truth_rows(), use_case(when_inconclusive="bake", margin=0.03)).result == "passed"
    mean_lost = verdict(candidate, truth_rows(), use_case(when_inconclusive="bake", margin=0.02))
    assert mean_lost.result == "inconclusive"  # the mean over sites, -0.025, is over the margin
    assert "mean difference" in mean_lost.reasons[0]


def test_baking_never_saves_a_failed_site() -> None:
    candidate = wrong(truth_rows(), site="a", truth="pitting", parts=12)
    assert verdict(candidate, truth_rows(), use_case(when_inconclusive="bake")).result == "failed"


def test_three_losing_parts_are_not_certain_four_are() -> None:
    # Each losing part is a coin: three in a row come with one chance in eight, four with one in sixteen.
    base = truth_rows(30, sites="a")
    for parts, result in ((3, "inconclusive"), (4, "failed")):
        candidate = wrong(base, site="a", truth="pitting", parts=parts)
        assert results(verdict(candidate, base, use_case(sites="a")))["a"] == result


def test_a_loss_whose_interval_reaches_zero_is_not_certain() -> None:
    # 14 parts lost and 7 won: a coin gives that one time in eleven, but the two-sided interval still reaches zero.
    base = truth_rows(60, sites="a")
    champion = [(s, g, t, "none" if g in {f"pitting-{i}" for i in range(50, 57)} else said) for s, g, t, said in base]
    outcome = verdict(wrong(base, site="a", truth="pitting", parts=14), champion, use_case(sites="a"))
    assert results(outcome)["a"] == "inconclusive"
    assert outcome.sites[0].high is not None
    assert outcome.sites[0].high >= 0
    assert "by chance 0.0" in outcome.sites[0].text  # so the interval alone kept it from failing


def test_a_site_with_a_single_good_part_can_still_fail_by_its_defects() -> None:
    base = [*truth_rows(20, sites="a", kinds=("pitting",)), *[("a", "only", "none", "none")] * 8]
    assert (
        results(verdict(wrong(base, site="a", truth="pitting", parts=15), base, use_case(sites="a")))["a"] == "failed"
    )


def test_many_pictures_of_one_bad_part_are_one_piece_of_evidence() -> None:
    base: list[Row] = [
        ("a", f"p{i}", "pitting" if i % 2 else "none", "pitting" if i % 2 else "none") for i in range(12)
    ]
    base += [("a", "p1", "pitting", "pitting")] * 40
    candidate = [(s, g, t, "none" if g == "p1" else said) for s, g, t, said in base]
    assert results(verdict(candidate, base, use_case(sites="a")))["a"] == "inconclusive"
    apart = [(s, "" if g == "p1" else g, t, said) for s, g, t, said in base]
    apart_candidate = [(s, g, t, "none" if not g else said) for s, g, t, said in apart]
    assert results(verdict(apart_candidate, apart, use_case(sites="a")))["a"] == "failed"


def test_few_samples_or_none_at_a_site_are_inconclusive() -> None:
    base = truth_rows(sites="a")
    outcome = verdict([*base, ("b", "", "none", "none")], [*base, ("b", "", "none", "none")], use_case(sites="abc"))
    assert results(outcome) == {"a": "passed", "b": "inconclusive", "c": "inconclusive"}
    assert outcome.result == "inconclusive"
    assert verdict(base, base, use_case(sites="ab", when_inconclusive="bake")).result == "passed"
    assert verdict([], [], use_case(when_inconclusive="bake")).result == "inconclusive"


def test_a_site_that_the_use_case_does_not_list_is_judged_too() -> None:
    candidate = wrong(truth_rows(sites="z"), site="z", truth="pitting", parts=20)
    outcome = verdict(candidate, truth_rows(sites="z"), use_case(sites="a"))
    assert results(outcome) == {"a": "inconclusive", "z": "failed"}


def test_a_site_without_good_parts_is_judged_by_the_recall_of_its_classes() -> None:
    base = truth_rows(sites="a", kinds=("pitting", "crack"))
    mixed_up = wrong(base, site="a", truth="crack", parts=20, label="pitting")  # still all defective
    outcome = verdict(mixed_up, base, use_case(sites="a"))
    assert results(outcome)["a"] == "failed"
    assert outcome.sites[0].text.startswith("macro_recall 1.000 -> 0.500")


def test_a_site_with_only_good_parts_is_judged_by_their_recall() -> None:
    base = truth_rows(sites="a", kinds=("none", "free"))
    renamed: list[Row] = [(s, g, t, "free") for s, g, t, _ in base]  # another word for the same
    assert verdict(renamed, base, use_case(sites="a")).result == "passed"
    alarms = wrong(base, site="a", truth="free", parts=10, label="crack")
    assert verdict(alarms, base, use_case(sites="a")).result == "failed"


def test_a_new_class_that_the_champion_never_knew_lifts_the_candidate() -> None:
    base = truth_rows(sites="a", kinds=("pitting", "crack"))
    champion = wrong(base, site="a", truth="crack", parts=20, label="pitting")
    outcome = verdict(base, champion, use_case(sites="a", matter=["crack"]))
    assert results(outcome) == {"a": "passed", "label:crack": "passed"}


def test_a_label_that_matters_is_judged_by_itself() -> None:
    # Balanced accuracy sees no change: a crack called pitting is still defective.
    base = truth_rows(kinds=("none", "pitting", "crack"))
    candidate = wrong(base, site="a", truth="crack", parts=12, label="pitting")
    assert verdict(candidate, base).result == "passed"
    outcome = verdict(candidate, base, use_case(matter=["crack"]))
    assert results(outcome) == {"a": "failed", "b": "passed", "label:crack": "failed"}
    assert outcome.result == "failed"


def test_a_label_that_matters_and_was_hardly_seen_is_inconclusive() -> None:
    base = truth_rows(kinds=("none", "pitting"))
    assert results(verdict(base, base, use_case(matter=["crack"])))["label:crack"] == "inconclusive"
    few = [*base, ("a", "c", "crack", "crack")]
    assert results(verdict(few, few, use_case(matter=["crack"])))["label:crack"] == "inconclusive"


def test_a_label_with_any_characters_still_makes_a_valid_record() -> None:
    outcome = verdict(truth_rows(), truth_rows(), use_case(matter=["Riß (tief) " + "x" * 200]))
    assert decode(Verdict, encode(outcome)) == outcome
    assert "Riß (tief)" in outcome.sites[-1].text


@pytest.mark.parametrize(("bad_parts", "result"), [(0, "passed"), (17, "passed"), (19, "failed")])
def test_a_first_release_has_to_reach_the_floor(bad_parts: int, result: str) -> None:
    candidate = wrong(truth_rows(sites="a"), site="a", truth="pitting", parts=bad_parts)  # 1 - bad_parts / 40
    outcome = verdict(candidate, None, use_case(sites="ab"))
    assert outcome.result == result
    assert (outcome.champion, outcome.champion_scorecard) == (None, None)
    assert results(outcome) == {"a": "passed", "b": "inconclusive"}


def test_a_first_release_with_hardly_a_sample_is_not_judged() -> None:
    assert verdict([], None).result == "inconclusive"
    assert verdict(truth_rows(1, sites="a"), None).result == "inconclusive"
    assert verdict(truth_rows(1, sites="a"), None, use_case(samples_min=1)).result == "passed"


def test_the_floor_uses_the_metric_that_the_use_case_declares() -> None:
    base = truth_rows(sites="a", kinds=("none", "pitting", "crack"))
    candidate = wrong(base, site="a", truth="crack", parts=20, label="pitting")
    assert verdict(candidate, None, use_case(floor=0.8)).result == "passed"
    assert verdict(candidate, None, use_case(floor=0.8, metric="macro_recall")).result == "failed"


def test_the_verdict_depends_on_nothing_but_the_predictions() -> None:
    candidate, champion = wrong(truth_rows(), site="a", truth="pitting", parts=3), truth_rows()
    first = verdict(candidate, champion)
    assert first == verdict(candidate, champion)
    ours, theirs = card(candidate, "candidate"), card(champion, "champion")
    turned = ours.model_copy(update={"predictions": ours.predictions[::-1]})
    again = judge(turned, theirs, use_case=use_case(), now=NOW)
    assert again.sites == first.sites
    assert (again.result, again.reasons) == (first.result, first.reasons)
    assert first.scorecard == record_digest(ours)
    assert first.champion_scorecard == record_digest(theirs)
    assert encode(first) == encode(verdict(candidate, champion))


@pytest.mark.parametrize("change", ["missing", "truth", "group", "site", "twice"])
def test_scorecards_over_different_samples_cannot_be_compared(change: str) -> None:
    base = truth_rows()
    other = list(base)
    if change == "missing":
        other = other[:-1]
    else:
        site, group, truth, label = other[0]
        other[0] = {
            "truth": (site, group, "crack", label),
            "group": (site, "other", truth, label),
            "site": ("b", group, truth, label),
            "twice": other[0],
        }[change]
    ours, theirs = card(base, "candidate"), card(other, "champion")
    if change == "twice":
        ours = ours.model_copy(update={"predictions": (*ours.predictions, ours.predictions[0])})
        theirs = theirs.model_copy(update={"predictions": (*theirs.predictions, theirs.predictions[0])})
    with pytest.raises(NotValid) as refused:
        judge(ours, theirs, use_case=use_case(), now=NOW)
    assert refused.value.code == ("sample_twice" if change == "twice" else "samples_differ")


@pytest.mark.parametrize("parts", [4, 10])
@pytest.mark.parametrize("seed", range(2))
def test_an_equal_candidate_fails_a_site_at_most_as_often_as_alpha_says(parts: int, seed: int) -> None:
    # Both bundles miss each part with the same chance, and see it three times with the same outcome.
    chance = np.random.default_rng(seed)
    case, failed, runs = use_case(sites="a", margin=0.0, alpha=0.1), 0, 150
    for _ in range(runs):
        ours, theirs = (chance.random(2 * parts) < 0.3 for _ in range(2))
        rows: list[list[Row]] = []
        for missed in (ours, theirs):
            rows.append([])
            for part in range(2 * parts):
                truth, other = ("none", "pitting") if part % 2 else ("pitting", "none")
                rows[-1] += [("a", f"p{part}", truth, other if missed[part] else truth)] * 3
        failed += verdict(rows[0], rows[1], case).result == "failed"
    assert failed / runs <= 0.1 + 2.5 * math.sqrt(0.1 * 0.9 / runs)


def test_a_candidate_with_flipped_labels_is_always_stopped() -> None:
    flip: Change = lambda _, truth: "none" if truth == "pitting" else "pitting"  # noqa: E731
    for seed in range(5):
        chance = np.random.default_rng(seed)
        champion = [(s, g, t, said if chance.random() < 0.85 else flip(s, t)) for s, g, t, said in truth_rows(8)]
        candidate = [(s, g, t, flip(s, t)) for s, g, t, _ in champion]
        for mode in ("hold", "bake"):
            assert verdict(candidate, champion, use_case(when_inconclusive=mode)).result == "failed"


def test_a_variant_is_judged_against_the_champion_as_any_candidate_is() -> None:
    worse = wrong(truth_rows(40), site="b", truth="pitting", parts=16)
    cards = {"candidate": card(truth_rows(40), "candidate"), "champion": card(truth_rows(40), "champion")}
    found = judge_variant(card(worse, "int8"), "int8", **cards, use_case=use_case(), now=NOW)
    alone = judge(card(worse, "int8"), cards["champion"], use_case=use_case(), now=NOW)
    assert found == alone.model_copy(update={"variant": "int8"})
    assert (found.result, results(found)["b"]) == ("failed", "failed")
    fine = judge_variant(card(truth_rows(40), "fp16"), "fp16", **cards, use_case=use_case(), now=NOW)
    assert (fine.result, fine.variant) == ("passed", "fp16")


def test_before_there_is_a_champion_a_variant_must_not_be_worse_than_the_network_it_was_made_of() -> None:
    """The floor alone, 0.55, would let it pass."""
    worse = wrong(truth_rows(40), site="b", truth="pitting", parts=16)
    made_of = card(truth_rows(40), "candidate")
    found = judge_variant(card(worse, "int8"), "int8", candidate=made_of, champion=None, use_case=use_case(), now=NOW)
    assert judge(card(worse, "int8"), None, use_case=use_case(), now=NOW).result == "passed"
    assert found.result == "failed"
    assert "beside the network it was made of" in found.reasons[0]
    same = judge_variant(
        card(truth_rows(40), "int8"), "int8", candidate=made_of, champion=None, use_case=use_case(), now=NOW
    )
    assert same.result == "passed"
