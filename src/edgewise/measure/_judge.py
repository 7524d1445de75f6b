"""The gate's judgement: no site gets worse. Pure: hub and signer come to the same word from the same evidence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from edgewise.measure._intervals import Beat, interval, no_beat, ratio, resample
from edgewise.measure._judge_values import first_site, first_skill, site_against
from edgewise.measure._rows import Recalls, Rows, by_site, by_slice, rows_of
from edgewise.measure._swap import REPEATS, SEED, swap_chance
from edgewise.wire import (
    Gate,
    NotValid,
    Outcome,
    Precision,
    Prediction,
    Scorecard,
    SiteVerdict,
    Target,
    UseCase,
    Verdict,
    record_digest,
)

Result = Literal["passed", "failed", "inconclusive"]


def judge(
    candidate: Scorecard, champion: Scorecard | None, *, use_case: UseCase, now: datetime, beat: Beat = no_beat
) -> Verdict:
    """The verdict on a candidate, from the predictions in the scorecards alone (their summary numbers are not trusted).

    Per site, the difference candidate - champion of the outcome's metric on the same samples: macro recall, or balanced
    accuracy where the use case says so and good and defective parts both occur. A site

    - *failed* when the loss is over the gate's margin, its interval (paired, whole groups redrawn, level 1 - alpha)
      lies below zero, and swapping the two bundles' answers group by group gives such a loss with a chance of at most
      alpha;
    - is *inconclusive* with fewer than `samples_min` samples, or with a loss over the margin that is not certain;
    - else *passed*.

    Each slice of the use case is judged as a site is, under the name ``slice:<name>``, over all sites together.

    The recall of each label that matters is judged likewise over all sites, under the name ``label:<label>``; at a site
    with `samples_min` samples of it, a certain loss fails the site. A first release (no champion) has to reach
    the floor. Where the use case has a target, errors and coverage of stated values are judged instead
    (docs/values.md): the loss is the part by which the mean absolute error grew.

    Args:
        candidate, champion: scorecards over the same samples.
        use_case: its gate, outcome, sites and slices; a site or slice without a sample is inconclusive.
        beat: called again and again while it computes.
    Raises:
        NotValid: the two scorecards are not about the same samples, or a sample occurs twice.
    Source: the chance that an equal candidate fails at a site is at most alpha by the swap test, which is exact:
        Fisher, The Design of Experiments, 1935; the interval as in `group_bootstrap`.
    """
    if use_case.outcome.target is not None:
        sites, result, reasons = _of_values(candidate, champion, use_case, use_case.outcome.target, beat)
    elif champion is None:
        sites, result, reasons = _first(candidate, use_case)
    else:
        sites, result, reasons = _against(candidate, champion, use_case, beat)
    gate = use_case.gate
    return Verdict(
        use_case=use_case.name,
        candidate=candidate.bundle,
        champion=None if champion is None else champion.bundle,
        result=result,
        sites=tuple(sites),
        reasons=tuple(reasons),
        margin=gate.margin,
        alpha=gate.alpha,
        floor=gate.floor,
        scorecard=record_digest(candidate),
        champion_scorecard=None if champion is None else record_digest(champion),
        made_at=now,
    )


def judge_variant(
    variant: Scorecard,
    name: Precision,
    *,
    candidate: Scorecard,
    champion: Scorecard | None,
    use_case: UseCase,
    now: datetime,
    beat: Beat = no_beat,
) -> Verdict:
    """The verdict on a variant of a candidate: it is judged as any candidate is, by itself.

    Before there is a champion the floor alone would let a variant pass that is much worse than the network it was made
    of; so it fails where it is certainly worse than that by more than the margin at any site.

    Args:
        variant, candidate, champion: scorecards over the same samples.
        name: of the variant.
    Raises:
        NotValid: as `judge`.
    """
    verdict = judge(variant, champion, use_case=use_case, now=now, beat=beat)
    if champion is None and verdict.result == "passed":
        against = judge(variant, candidate, use_case=use_case, now=now, beat=beat)
        if against.result == "failed":
            reasons = (f"beside the network it was made of: {against.reasons[0]}", *verdict.reasons)
            verdict = verdict.model_copy(update={"result": "failed", "reasons": reasons})
    return verdict.model_copy(update={"variant": name})


def _first(candidate: Scorecard, use_case: UseCase) -> tuple[list[SiteVerdict], Result, list[str]]:
    """A first release: nothing to compare with, so the declared metric over all sites has to reach the floor."""
    gate, outcome = use_case.gate, use_case.outcome
    rows = rows_of(candidate.predictions, outcome.good_labels)
    sites = []
    for site, items in {**_sites(use_case, candidate.predictions), **_slices(use_case, candidate.predictions)}.items():
        name, recalls = _metric_of(rows_of(items, outcome.good_labels), outcome)
        value = _value(recalls)
        enough = len(items) >= gate.samples_min
        text = f"{name} {_number(value)} on {len(items)} samples; no champion to compare with"
        sites.append(SiteVerdict(site=site, result="passed" if enough else "inconclusive", text=text, candidate=value))
    sites += [_first_label(label, rows, gate) for label in outcome.labels_that_matter]
    n = len(candidate.predictions)
    name, recalls = _metric_of(rows, outcome)
    value = _value(recalls)
    seen = f"first release: {name} over all sites is {_number(value)} on {n} samples, the floor is {gate.floor}"
    if value is None or n < gate.samples_min:
        return (
            sites,
            "inconclusive",
            [f"{seen}; at least {gate.samples_min} samples are needed to judge it, label more"],
        )
    return sites, "passed" if value >= gate.floor else "failed", [seen]


def _first_label(label: str, rows: Rows, gate: Gate) -> SiteVerdict:
    """What is known of a label that matters before there is a champion; the floor is asked of the declared metric."""
    recalls = rows.by_label([label])
    n, value = int(recalls.members.sum()), _value(recalls)
    text = f"recall of {label} over all sites {_number(value)} on {n} samples; no champion to compare with"
    result: Result = "passed" if n >= gate.samples_min else "inconclusive"
    return SiteVerdict(site=_label_name(label), result=result, text=text, candidate=value)


def _against(
    candidate: Scorecard, champion: Scorecard, use_case: UseCase, beat: Beat
) -> tuple[list[SiteVerdict], Result, list[str]]:
    check_same_samples(candidate.predictions, champion.predictions)
    sites: list[SiteVerdict] = []
    losses: list[float] = []
    partner = {item.sample: item for item in champion.predictions}
    for site, items in _sites(use_case, candidate.predictions).items():
        verdict, difference = _judge_site(site, _pair(items, partner, use_case, beat), use_case)
        sites.append(verdict)
        losses += [] if difference is None else [difference]
    # A slice's samples are those of sites too; its difference would count them twice in the mean over sites.
    for name, items in _slices(use_case, candidate.predictions).items():
        sites.append(_judge_site(name, _pair(items, partner, use_case, beat), use_case)[0])
    everything = _pair(candidate.predictions, partner, use_case, beat)
    sites += [_judge_label(label, everything, use_case.gate) for label in use_case.outcome.labels_that_matter]
    reasons = [f"{item.site}: {item.result}, {item.text}" for item in sites]
    result, reason = _together(sites, losses, use_case.gate)
    return sites, result, [reason, *reasons]


def _of_values(
    candidate: Scorecard, champion: Scorecard | None, use_case: UseCase, target: Target, beat: Beat
) -> tuple[list[SiteVerdict], Result, list[str]]:
    """The word on stated values: by error and coverage, site by site and slice by slice (`_judge_values`)."""
    gate, said = use_case.gate, candidate.predictions
    sites_of, slices_of = _sites(use_case, said), _slices(use_case, said)
    if champion is not None:
        check_same_samples(said, champion.predictions)
        partner = {item.sample: item for item in champion.predictions}
        words = {
            site: site_against(site, items, partner, target, gate, beat)
            for site, items in {**sites_of, **slices_of}.items()
        }
        sites = [word for word, _ in words.values()]
        gains = [gain for site, (_, gain) in words.items() if site in sites_of and gain is not None]
        result, reason = _together(sites, gains, gate)
        return sites, result, [reason, *(f"{item.site}: {item.result}, {item.text}" for item in sites)]
    sites = [first_site(site, items, target, gate, beat) for site, items in {**sites_of, **slices_of}.items()]
    skill, n = first_skill(said)
    seen = f"first release: skill over all sites is {_number(skill)} on {n} samples, the floor is {gate.floor}"
    failed = [item for item in sites if item.result == "failed"]
    if failed:
        return sites, "failed", [f"{item.site}: {item.text}" for item in failed] + [seen]
    if skill is None or n < gate.samples_min:
        return sites, "inconclusive", [f"{seen}; at least {gate.samples_min} samples are needed to judge it"]
    return sites, "passed" if skill >= gate.floor else "failed", [seen]


def _together(sites: Sequence[SiteVerdict], differences: Sequence[float], gate: Gate) -> tuple[Result, str]:
    failed = [item.site for item in sites if item.result == "failed"]
    unsure = [item.site for item in sites if item.result == "inconclusive"]
    if failed:
        return "failed", f"got worse at {', '.join(failed)}"
    if not unsure:
        return "passed", f"no loss over the margin {gate.margin} at any site or slice"
    if gate.when_inconclusive == "hold":
        return "inconclusive", f"not certain at {', '.join(unsure)}; label more there, or let a person decide"
    mean = sum(differences) / len(differences) if differences else None
    if mean is None or mean < -gate.margin:
        return "inconclusive", (
            f"not certain at {', '.join(unsure)}, and the mean difference over sites is {_signed(mean)}, "
            f"which needs to be at least -{gate.margin} to bake; label more there"
        )
    return "passed", (
        f"not certain at {', '.join(unsure)}; the mean difference over sites is {_signed(mean)}, so the paired test "
        "on the devices decides during bake"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Paired:
    """The rows of both bundles over the same samples in the same order."""

    candidate: Rows
    champion: Rows
    beat: Beat

    def __len__(self) -> int:
        return len(self.candidate.predictions)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Difference:
    """A measure of both bundles on the same samples, and how sure we are of their difference."""

    candidate: float
    champion: float
    value: float  # candidate - champion
    low: float | None
    high: float | None
    chance: float  # of a loss as large when the two are exchangeable
    n: int


def _judge_site(site: str, pair: _Paired, use_case: UseCase) -> tuple[SiteVerdict, float | None]:
    gate = use_case.gate
    if not len(pair):
        text = f"no evaluation sample; needs {gate.samples_min}"
        return SiteVerdict(site=site, result="inconclusive", text=text), None
    name, ours = _metric_of(pair.candidate, use_case.outcome)
    theirs = _metric_of(pair.champion, use_case.outcome)[1]
    difference = _difference(ours, theirs, pair, gate.alpha)
    results = [_result(difference, gate)]
    texts = [_text(name, difference, gate)]
    for label in use_case.outcome.labels_that_matter:
        ours, theirs = pair.candidate.by_label([label]), pair.champion.by_label([label])
        if ours.members.sum() >= gate.samples_min:
            of_label = _difference(ours, theirs, pair, gate.alpha)
            # Only a certain loss counts here: few samples of one class at one site swing too far to hold everything.
            results += ["failed"] if _result(of_label, gate) == "failed" else []
            texts.append(_text(f"recall of {label}", of_label, gate))
    worst: Result = min(results, key=("failed", "inconclusive", "passed").index)
    return _verdict(site, worst, "; ".join(texts), difference), difference.value


def _judge_label(label: str, pair: _Paired, gate: Gate) -> SiteVerdict:
    name = _label_name(label)
    ours, theirs = pair.candidate.by_label([label]), pair.champion.by_label([label])
    if not ours.members.any():
        text = f"no evaluation sample of {label}, which matters; needs {gate.samples_min}"
        return SiteVerdict(site=name, result="inconclusive", text=text)
    difference = _difference(ours, theirs, pair, gate.alpha)
    text = _text(f"recall of {label} over all sites", difference, gate)
    return _verdict(name, _result(difference, gate), text, difference)


def _label_name(label: str) -> str:
    """The label's name in a field for names; what does not fit there is still in the text."""
    return ("label:" + re.sub(r"[^A-Za-z0-9._@:-]", "_", label))[:128]


def _verdict(site: str, result: Result, text: str, difference: _Difference) -> SiteVerdict:
    return SiteVerdict(
        site=site,
        result=result,
        text=text,
        champion=difference.champion,
        candidate=difference.candidate,
        low=difference.low,
        high=difference.high,
    )


def _result(difference: _Difference, gate: Gate) -> Result:
    # Half a billionth is forgiven, or a loss of exactly the margin would fail by rounding.
    lost = difference.value < -gate.margin - 5e-10
    if lost and difference.high is not None and difference.high < 0 and difference.chance <= gate.alpha:
        return "failed"
    return "inconclusive" if lost or difference.n < gate.samples_min else "passed"


def _difference(ours: Recalls, theirs: Recalls, pair: _Paired, alpha: float) -> _Difference:
    """The difference of the mean recalls; both have the same members, as the truth is the same."""
    mine, other = ours.mean(), theirs.mean()
    numbers, groups = pair.candidate.numbers, pair.candidate.groups
    ones = np.ones((1, len(pair)))
    drawn = resample(
        lambda weights: (mine(weights) - other(weights))[:, None],
        numbers,
        groups,
        seed=SEED,
        repeats=REPEATS,
        beat=pair.beat,
    )[:, 0]
    # The groups that carry the measure together, not those of its rarest class: a site with one good part must be able
    # to fail by its defects, and the swap test guards against what the interval does not see.
    carrying = len(np.unique(numbers[ours.members.any(axis=1)]))
    low, high = interval(drawn, carrying, min(max(1 - alpha, 1e-4), 1 - 1e-4))
    candidate, champion = float(mine(ones)[0]), float(other(ones)[0])
    return _Difference(
        candidate=candidate,
        champion=champion,
        value=candidate - champion,
        low=low,
        high=high,
        chance=_swap_chance(ours, theirs, pair),
        n=int(ours.members.any(axis=1).sum()),
    )


def _swap_chance(ours: Recalls, theirs: Recalls, pair: _Paired) -> float:
    """Chance of a loss at least as large, if in each group it were a coin which answers are whose.

    Resampling alone calls three losing groups and no winning one certain, where a coin gives that one time in eight.
    """
    members = ours.members.astype(np.float64)
    gained = members * (ours.hits.astype(np.float64) - theirs.hits)
    shares = ratio(gained, np.broadcast_to(members.sum(axis=0), gained.shape)) / members.shape[1]
    return swap_chance(shares.sum(axis=1), pair.candidate.numbers, pair.candidate.groups)


def _metric_of(rows: Rows, outcome: Outcome) -> tuple[str, Recalls]:
    balanced = outcome.metric == "balanced_accuracy" and rows.has_both_kinds()
    return ("balanced_accuracy", rows.balanced()) if balanced else ("macro_recall", rows.macro())


def _value(recalls: Recalls) -> float | None:
    if not len(recalls.members):
        return None
    value = float(recalls.mean()(np.ones((1, len(recalls.members))))[0])
    return None if np.isnan(value) else value


def _sites(use_case: UseCase, predictions: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """The predictions of each site, of declared ones without any too."""
    seen = by_site(predictions)
    return {name: seen.get(name, []) for name in sorted({*seen, *(site.name for site in use_case.sites)})}


def _slices(use_case: UseCase, predictions: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """The predictions of each declared slice, of those without any too."""
    return by_slice(predictions, [item.name for item in use_case.slices])


def _pair(items: Sequence[Prediction], partner: dict[str, Prediction], use_case: UseCase, beat: Beat) -> _Paired:
    good = use_case.outcome.good_labels
    theirs = rows_of([partner[item.sample] for item in items], good)
    return _Paired(candidate=rows_of(items, good), champion=theirs, beat=beat)


def check_same_samples(ours: Sequence[Prediction], theirs: Sequence[Prediction]) -> None:
    """Raises NotValid unless both speak of the same samples, with the same site, group, truth and slices."""
    facts = [
        sorted((item.sample, item.site, item.group, item.truth, item.slices or ()) for item in items)
        for items in (ours, theirs)
    ]
    if facts[0] != facts[1]:
        apart = sorted({item[0] for item in set(facts[0]) ^ set(facts[1])})
        raise NotValid(
            f"candidate and champion were scored on different samples ({len(ours)} and {len(theirs)}, "
            f"{len(apart)} apart, first {apart[:1] or 'a repeated one'}); score both over the same evaluation share",
            code="samples_differ",
        )


def _text(name: str, difference: _Difference, gate: Gate) -> str:
    between = (
        "no interval, too few groups"
        if difference.low is None or difference.high is None
        else f"{_signed(difference.low)} to {_signed(difference.high)}"
    )
    text = (
        f"{name} {difference.champion:.3f} -> {difference.candidate:.3f} on {difference.n} samples "
        f"({_signed(difference.value)}, {between}, by chance {difference.chance:.3f}; margin {gate.margin})"
    )
    return f"{text}, needs {gate.samples_min} samples" if difference.n < gate.samples_min else text


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.3f}"
