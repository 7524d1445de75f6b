"""The gate's judgement on a site variant: at that site alone, beside the bundle that it was made of."""

from __future__ import annotations

from datetime import datetime

from edgewise.measure._intervals import Beat, no_beat
from edgewise.measure._judge import judge
from edgewise.wire import NotValid, Scorecard, UseCase, Verdict


def judge_site_variant(
    variant: Scorecard, base: Scorecard, *, site: str, use_case: UseCase, now: datetime, beat: Beat = no_beat
) -> Verdict:
    """The verdict on a site's variant; no other site is asked, as none will get it.

    It is judged as a candidate is, over the use case's gate, and has to win something as well: one that is only not
    certain to be worse is a change without a reason, and *inconclusive*. Slices, and labels that matter, with fewer
    than the gate's `samples_min` samples at the site are left out: they would hold every variant of a site for ever
    where a kind of part does not occur.

    Args:
        variant, base: scorecards over the same samples, all of the site.
        beat: called again and again while it computes.
    Raises:
        NotValid: a sample of another site, or as `judge`.
    """
    others = {item.site for item in variant.predictions} - {site}
    if others:
        raise NotValid(
            f"the scorecard has samples of {', '.join(sorted(others)[:3])}; a variant of {site} is judged on its own "
            "alone",
            code="samples_differ",
        )
    verdict = judge(variant, base, use_case=of_site_alone(use_case, variant, site), now=now, beat=beat)
    found = next(item for item in verdict.sites if item.site == site)
    if verdict.result == "passed" and found.candidate is not None and found.champion is not None:
        gain = found.candidate - found.champion
        if gain <= 0:
            reason = f"it wins nothing at {site} ({gain:+.3f}), and a site gets a bundle of its own for a gain alone"
            verdict = verdict.model_copy(update={"result": "inconclusive", "reasons": (reason, *verdict.reasons)})
    return verdict.model_copy(update={"site": site})


def of_site_alone(use_case: UseCase, card: Scorecard, site: str) -> UseCase:
    """The use case as if it had this site alone, with the slices and labels that matter of which there are enough."""
    least = use_case.gate.samples_min
    truths = [item.truth for item in card.predictions]
    slices = [name for item in card.predictions for name in item.slices or ()]
    matter = tuple(label for label in use_case.outcome.labels_that_matter if truths.count(label) >= least)
    return use_case.model_copy(
        update={
            "sites": tuple(one for one in use_case.sites if one.name == site),
            "slices": tuple(one for one in use_case.slices if slices.count(one.name) >= least),
            "outcome": use_case.outcome.model_copy(update={"labels_that_matter": matter}),
        }
    )
