"""What the console shows of a release's scorecard: rows of places and measures, and the samples behind each number."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlencode

import sqlalchemy as sa

from edgewise.hub.weighed import Weighed, weigh
from edgewise.wire import BoxScore, Compared, Metric, NotValid, Prediction, Robustness, Scorecard, SiteScore, ValueScore

SHOWN_MAX = 200  # samples on one page
OVERALL = "overall"
Only = Literal["all", "gained", "lost", "wrong"]
ONLY: Mapping[Only, str] = {
    "all": "all",
    "gained": "only the candidate is right",
    "lost": "only the champion is right",
    "wrong": "the candidate is wrong",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One measure at one place: the candidate's value, and the champion's on the same samples where there is one."""

    place: str
    name: str  # of the measure, for people
    first: bool  # of its place
    ours: Metric
    champion: float | None
    compared: Compared | None
    result: str | None  # the gate's word on the place, with its first row
    links: Mapping[str, str]  # to the samples: all, gained, lost, wrong


def scorecard(connection: sa.Connection, release: str) -> dict[str, Any] | None:
    """The block of a release's page; None where the gate said nothing, as the page says itself."""
    try:
        found = weigh(connection, release)
    except NotValid as error:
        if error.code != "scorecard_unknown":
            raise
        return None
    if found.outcome.target is not None:
        return {"stated": list(_values(found)), "weighed": found, "target": found.outcome.target,
                "api": f"/api/v1/releases/{quote(release, safe='')}/scorecard"}  # fmt: skip
    cards = {"as trained": found.scorecard} | {name: one.scorecard for name, one in found.variants.items()}
    told = {name: card.robustness for name, card in cards.items() if card.robustness is not None}
    return {
        "weighed": found,
        "rows": list(_rows(found)),
        "cards": cards,
        "measure": found.outcome.metric,
        "robustness": told,
        "harms": _harms(told),
        "boxes": list(_boxes(found.scorecard)),
        "api": f"/api/v1/releases/{quote(release, safe='')}/scorecard",
        "samples": _link(release, OVERALL, found.outcome.metric, None, "all"),
    }


def _boxes(card: Scorecard) -> Iterator[tuple[str, BoxScore]]:
    """How good found boxes are, by place and then by label."""
    yield from ((one.site, one.boxes) for one in (*card.sites, card.overall) if one.boxes is not None)
    yield from (card.overall.boxes_of or {}).items()


def behind(connection: sa.Connection, release: str, asked: Mapping[str, str]) -> dict[str, Any]:
    """The samples from which one number was computed, with what both bundles said; the first `SHOWN_MAX` of them.

    Args:
        asked: `where` a site, slice:<name> or overall; `measure` and `label` of a row; `only` one of `ONLY`.
    Raises:
        NotValid: no such release or scorecard, or something else was asked.
    """
    found = weigh(connection, release)
    if found.outcome.target is not None:
        raise NotValid(
            f"{release} states values; its samples are in its scorecard: GET /api/v1/releases/{release}/scorecard",
            code="samples_unknown",
        )
    where, measure = asked.get("where", OVERALL), asked.get("measure", "macro_recall")
    label, only = asked.get("label") or None, asked.get("only", "all")
    places = {item.site for item in found.scorecard.sites} | {OVERALL}
    if where not in places or measure not in MEMBERS or only not in ONLY:
        raise NotValid(
            f"the scorecard of {release} has no samples {only[:20]!r} of {measure[:40]!r} at {where[:80]!r}; follow a "
            "link of the release's page",
            code="samples_unknown",
        )
    chosen = list(_samples(found, where, measure, label, only))
    return {
        "release": found.release,
        "weighed": found,
        "where": where,
        "name": name_of(measure, label),
        "only": only,
        "choices": [
            (name, text, _link(release, where, measure, label, name))
            for name, text in ONLY.items()
            if found.champion is not None or name in ("all", "wrong")
        ],
        "shown": chosen[:SHOWN_MAX],
        "total": len(chosen),
    }


def name_of(measure: str, label: str | None) -> str:
    """A measure as people read it.

    >>> name_of("good_recall", None), name_of("recall", "crack"), name_of("macro_recall", None)
    ('recall of good', 'recall of crack', 'macro recall')
    """
    if measure == "recall":
        return f"recall of {label}"
    return "recall of good" if measure == "good_recall" else measure.replace("_", " ")


Good = Collection[str]


def _class(label: str, good: Good) -> str:
    return "" if label in good else label


# Which samples carry a measure, and whether an answer is right for it: as `measure.compare` has it.
MEMBERS: Mapping[str, Callable[[Prediction, str | None, Good], bool]] = {
    "balanced_accuracy": lambda _item, _label, _good: True,
    "macro_recall": lambda _item, _label, _good: True,
    "good_recall": lambda item, _label, good: item.truth in good,
    "recall": lambda item, label, _good: item.truth == label,
}


def _right(item: Prediction, measure: str, good: Good) -> bool:
    if measure == "balanced_accuracy":
        return (item.truth in good) == (item.label in good)
    return _class(item.truth, good) == _class(item.label, good)


def _samples(
    found: Weighed, where: str, measure: str, label: str | None, only: str
) -> Iterator[tuple[Prediction, Prediction | None]]:
    good = found.outcome.good_labels
    beside = {} if found.champion is None else {item.sample: item for item in found.champion.predictions}
    for item in found.scorecard.predictions:
        inside = where in (OVERALL, item.site) or where.removeprefix("slice:") in (item.slices or ())
        if not inside or not MEMBERS[measure](item, label, good):
            continue
        other = beside.get(item.sample)
        ours, theirs = _right(item, measure, good), other is not None and _right(other, measure, good)
        wanted = {"all": True, "wrong": not ours, "gained": ours and not theirs, "lost": theirs and not ours}
        if wanted[only]:
            yield item, other


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueRow:
    """How good stated values are at one place, and the champion's error on the same samples."""

    place: str
    n: int
    ours: ValueScore | None
    champion: Metric | None
    result: str | None


def _values(found: Weighed) -> Iterator[ValueRow]:
    card, champion = found.scorecard, found.champion
    judged = {item.site: item.result for item in found.verdict.sites} | {OVERALL: found.verdict.result}
    beside = {} if champion is None else {one.site: one.values for one in (*champion.sites, champion.overall)}
    for one in (*card.sites, card.overall):
        theirs = beside.get(one.site)
        yield ValueRow(
            place=one.site,
            n=one.n,
            ours=one.values,
            champion=None if theirs is None else theirs.mae,
            result=judged.get(one.site),
        )


def _rows(found: Weighed) -> Iterator[Row]:
    card, outcome = found.scorecard, found.outcome
    judged = {item.site: item.result for item in found.verdict.sites} | {OVERALL: found.verdict.result}
    paired: dict[tuple[str, str, str | None], Compared]
    paired = {(one.site, one.measure, one.label): one for one in card.compared or ()}
    for score in (*card.sites, card.overall):
        for place, (measure, label, metric) in enumerate(_measures(score, outcome.metric, outcome.labels_that_matter)):
            one = paired.get((score.site, measure, label))
            yield Row(
                place=score.site,
                name=name_of(measure, label),
                first=not place,
                ours=metric,
                champion=None if one is None else one.champion,
                compared=one,
                result=None if place else judged.get(score.site),
                links={only: _link(found.release.id, score.site, measure, label, only) for only in ONLY},
            )


def _measures(score: SiteScore, metric: str, matter: Collection[str]) -> Iterator[tuple[str, str | None, Metric]]:
    """The outcome's own metric, macro recall, good parts, and each class that matters, as far as they have a value."""
    if metric == "balanced_accuracy" and score.balanced_accuracy.value is not None:
        yield metric, None, score.balanced_accuracy
    yield "macro_recall", None, score.macro_recall
    if score.good_recall is not None:
        yield "good_recall", None, score.good_recall
    for label in matter:
        if label in score.recall:
            yield "recall", label, score.recall[label]


def _harms(told: Mapping[str, Robustness]) -> list[tuple[str, list[Any]]]:
    """Each harm with what every bundle says of it, in the order of the bundles."""
    names = list(dict.fromkeys(one.harm for each in told.values() for one in each.harms))
    by_harm = [{one.harm: one for one in each.harms} for each in told.values()]
    return [(name, [each.get(name) for each in by_harm]) for name in names]


def _link(release: str, where: str, measure: str, label: str | None, only: str) -> str:
    asked = {"where": where, "measure": measure, **({"label": label} if label is not None else {}), "only": only}
    return f"/releases/{quote(release, safe='')}/samples?{urlencode(asked)}"
