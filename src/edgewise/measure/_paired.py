"""Candidate beside champion on the same samples: which answers changed, by how much each measure moved, how sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewise.measure._intervals import Beat, Floats, interval, no_beat, resample, wilson
from edgewise.measure._judge import check_same_samples
from edgewise.measure._rows import Recalls, Rows, by_site, by_slice, rows_of
from edgewise.measure._scores import OVERALL
from edgewise.measure._swap import REPEATS, SEED
from edgewise.wire import Compared, Metric, Outcome, Prediction, Scorecard, UseCase

LEVEL = 0.9


def mcnemar(gained: int, lost: int) -> float:
    """Chance of so one-sided a split of discordant pairs, or a more one-sided one, if neither bundle is better.

    The exact test, two-sided: twice the smaller tail of Binomial(gained + lost, 1/2), at most 1. It errs on the safe
    side: its mid-p form, which counts half of the split that was seen, would be smaller.

    Args:
        gained, lost: pairs about which only the one and only the other is right, each at least 0.
    Source: McNemar, Note on the sampling error of the difference between correlated proportions or percentages,
        Psychometrika 1947; exact and mid-p forms in Fagerland, Lydersen and Laake, BMC Medical Research Methodology
        2013, 13:91.

    >>> mcnemar(1, 9), mcnemar(5, 5), mcnemar(0, 0)
    (0.021484375, 1.0, 1.0)
    """
    pairs, fewer = gained + lost, min(gained, lost)
    term = total = 1
    for count in range(fewer):
        term = term * (pairs - count) // (count + 1)
        total += term
    return min(1.0, float(2 * total / 2**pairs))


def compare(
    candidate: Scorecard,
    champion: Scorecard,
    *,
    use_case: UseCase,
    seed: int = SEED,
    repeats: int = REPEATS,
    beat: Beat = no_beat,
) -> tuple[Compared, ...]:
    """Both bundles in each measure: at each site, then in each declared slice, then over all as ``overall``.

    Measures are the outcome's own metric, macro recall, the recall of good parts (all good labels are one class) and
    the recall of each label that matters. Balanced accuracy needs good and defective samples. A site or slice without
    a sample has one row which says so; so has, over all, a label that matters and has none.

    - The interval of the difference (level 0.9) redraws whole groups, the same ones for both bundles. Where no answer
      changed it is as wide as Wilson's bound for no such group among those there are, mean over the classes.
    - `p` takes the group as the unit: frames of one part are no independent pairs. A group counts for the bundle that
      is right about more of its samples. Without groups this is McNemar's test on samples.

    Args:
        candidate, champion: scorecards over the same samples; only their predictions are read.
        use_case: its outcome, sites, slices, and `gate.samples_min`, below which a row is told to be of few samples.
        beat: called again and again while it computes.
    Raises:
        NotValid: the two are not about the same samples, or a sample occurs twice.
    Source: `mcnemar`; pairs in clusters as in Eliasziw and Donner, Application of the McNemar test to non-independent
        matched pair data, Statistics in Medicine 1991; the interval as in `group_bootstrap`.
    """
    check_same_samples(candidate.predictions, champion.predictions)
    partner = {item.sample: item for item in champion.predictions}
    sites = by_site(candidate.predictions)
    parts = {name: sites.get(name, []) for name in sorted({*sites, *(site.name for site in use_case.sites)})}
    parts |= by_slice(candidate.predictions, [item.name for item in use_case.slices])
    found: list[Compared] = []
    for name, items in {**parts, OVERALL: list(candidate.predictions)}.items():
        theirs = [partner[item.sample] for item in items]
        found += _compare(name, items, theirs, use_case, seed=seed, repeats=repeats, beat=beat)
    return tuple(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """One measure of both bundles; the members are the same, as the truth is."""

    measure: str
    label: str | None
    ours: Recalls
    theirs: Recalls


def _compare(
    site: str,
    ours: Sequence[Prediction],
    theirs: Sequence[Prediction],
    use_case: UseCase,
    *,
    seed: int,
    repeats: int,
    beat: Beat,
) -> list[Compared]:
    outcome = use_case.outcome
    if not ours:
        return [_nothing(site, outcome.metric, None)]
    mine, other = rows_of(ours, outcome.good_labels), rows_of(theirs, outcome.good_labels)
    lines = _lines(mine, other, outcome)

    def differences(weights: Floats) -> Floats:
        each = [line.ours.mean()(weights) - line.theirs.mean()(weights) for line in lines]
        return np.stack(each, axis=1)

    drawn = resample(differences, mine.numbers, mine.groups, seed=seed, repeats=repeats, beat=beat)
    found = [_row(site, line, drawn[:, place], mine, use_case) for place, line in enumerate(lines)]
    if site == OVERALL:
        present = {line.label for line in lines if line.measure == "recall"}
        found += [_nothing(site, "recall", label) for label in outcome.labels_that_matter if label not in present]
    return found


def _lines(ours: Rows, theirs: Rows, outcome: Outcome) -> list[_Line]:
    lines = []
    if outcome.metric == "balanced_accuracy" and ours.has_both_kinds():
        lines.append(_Line(measure="balanced_accuracy", label=None, ours=ours.balanced(), theirs=theirs.balanced()))
    lines.append(_Line(measure="macro_recall", label=None, ours=ours.macro(), theirs=theirs.macro()))
    if ours.truth_good.any():
        lines.append(_Line(measure="good_recall", label=None, ours=ours.good(), theirs=theirs.good()))
    for label in outcome.labels_that_matter:
        mine = ours.by_label([label])
        if mine.members.any():
            lines.append(_Line(measure="recall", label=label, ours=mine, theirs=theirs.by_label([label])))
    return lines


def _row(site: str, line: _Line, drawn: Floats, rows: Rows, use_case: UseCase) -> Compared:
    ones = np.ones((1, len(rows.predictions)))
    members = line.ours.members.any(axis=1)
    ours, theirs = (_right(recalls) for recalls in (line.ours, line.theirs))
    gained, lost = ours & ~theirs, theirs & ~ours
    net = np.bincount(rows.numbers, weights=gained.astype(np.float64) - lost, minlength=rows.groups)
    groups_gained, groups_lost = int((net > 0).sum()), int((net < 0).sum())
    groups = len(np.unique(rows.numbers[members]))
    candidate, champion = float(line.ours.mean()(ones)[0]), float(line.theirs.mean()(ones)[0])
    low, high = interval(drawn, groups, LEVEL)
    if low is not None and low == high:
        # Where no answer changed, redrawing shows no doubt; how many groups were looked at does.
        reach = _reach(line.ours.groups(rows.numbers))
        low, high = max(-1.0, low - reach), min(1.0, high + reach)
    n = int(members.sum())
    return Compared(
        site=site,
        measure=line.measure,
        label=line.label,
        n=n,
        groups=groups,
        champion=champion,
        candidate=candidate,
        difference=Metric(value=candidate - champion, low=low, high=high, n=n),
        gained=int(gained.sum()),
        lost=int(lost.sum()),
        groups_gained=groups_gained,
        groups_lost=groups_lost,
        p=mcnemar(groups_gained, groups_lost),
        few=_few(n, groups, groups_gained + groups_lost, use_case.gate.samples_min),
    )


def _right(recalls: Recalls) -> npt.NDArray[np.bool_]:
    """(N,) whether a sample that carries the measure is met."""
    return np.asarray((recalls.members & recalls.hits).any(axis=1), np.bool_)


def _reach(groups: Sequence[int]) -> float:
    """How far a difference may still be from none that was seen, by the groups of each class."""
    ends = [wilson(0, count, LEVEL).high or 0.0 for count in groups if count]
    return sum(ends) / len(ends) if ends else 1.0


def _few(n: int, groups: int, differing: int, samples_min: int) -> str | None:
    """What makes a row say little. Five groups that differ are the fewest that can make p as small as 0.1."""
    told = []
    if n < samples_min:
        told.append(f"{n} sample{'s' if n != 1 else ''}, the gate needs {samples_min}")
    if groups < 2:
        told.append("one group, so no interval")
    least = 2.0 ** (1 - differing)
    if differing and least > 1 - LEVEL:
        told.append(f"{differing} group{'s differ' if differing != 1 else ' differs'}, so p is at least {least:.3g}")
    return "; ".join(told) or None


def _nothing(site: str, measure: str, label: str | None) -> Compared:
    return Compared(
        site=site,
        measure=measure,
        label=label,
        n=0,
        groups=0,
        difference=Metric(),
        gained=0,
        lost=0,
        groups_gained=0,
        groups_lost=0,
        p=1.0,
        few="no evaluation sample",
    )
