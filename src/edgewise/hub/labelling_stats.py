"""How labelling goes: what is labelled and open, who did what, how far people agree, and whether it is enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import Any

import sqlalchemy as sa

from edgewise.hub import usecases
from edgewise.hub.access import Person
from edgewise.hub.store import opinions, pages, samples, verdicts
from edgewise.measure import Agreement, Enough, agreement, enough
from edgewise.wire import Verdict

OPINIONS_MAX = 20_000  # the newest that agreement is told from
DISPUTES_MAX = 1000
ROUNDS_MAX = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteCount:
    site: str
    labelled: int
    open: int
    labels: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far labelling is, at the sites that somebody sees."""

    labelled: int
    open: int
    today: int
    planned_today: int
    labels: Mapping[str, int]  # every label of the use case, those without a sample too
    sites: tuple[SiteCount, ...]
    why: Mapping[str, int]  # open samples by why they were kept
    people: tuple[Mapping[str, Any], ...]
    disputed: int  # at most DISPUTES_MAX are counted
    unanswered: int  # words of operators


def progress(connection: sa.Connection, use_case: str, *, who: Person, now: datetime) -> Progress:
    """Counts per class, site, person and day (UTC).

    Raises:
        NotValid: no such use case.
    """
    usecase = usecases.need(connection, use_case)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    by_label = Counter[str](dict.fromkeys([*usecase.outcome.good_labels, *usecase.outcome.labels], 0))
    by_site: dict[str, Counter[str | None]] = {site.name: Counter() for site in usecase.sites if who.sees(site.name)}
    for site, label, count in samples.label_counts(connection, use_case, sites=who.sites):
        by_site.setdefault(site, Counter())[label] += count
        if label is not None:
            by_label[label] += count
    sites = tuple(_site(site, counts) for site, counts in by_site.items())
    people = opinions.counted(connection, use_case, since=midnight, sites=who.sites)
    return Progress(
        labelled=sum(one.labelled for one in sites),
        open=sum(one.open for one in sites),
        today=pages.labelled_since(connection, use_case, midnight),
        planned_today=usecase.labelling.labels_per_day,
        labels=dict(by_label),
        sites=sites,
        why=pages.waiting_by_why(connection, use_case, sites=who.sites),
        people=tuple(people),
        disputed=len(opinions.disputed(connection, use_case, limit=DISPUTES_MAX, sites=who.sites)),
        unanswered=opinions.open_words(connection, use_case, sites=who.sites),
    )


def _site(site: str, counts: Counter[str | None]) -> SiteCount:
    known = {label: count for label, count in sorted(counts.items(), key=lambda one: str(one[0])) if label is not None}
    return SiteCount(site=site, labelled=sum(known.values()), open=counts[None], labels=known)


def agreed(connection: sa.Connection, use_case: str, *, who: Person) -> Agreement:
    """How far people agree, by opinions that were given without knowing another one."""
    usecases.need(connection, use_case)
    said: dict[str, dict[str, str]] = {}
    for one in opinions.blind(connection, use_case, limit=OPINIONS_MAX, sites=who.sites):
        said.setdefault(one.sample, {}).setdefault(one.who, one.label)
    return agreement(said)


def is_enough(connection: sa.Connection, use_case: str, *, target: float | None = None) -> Enough:
    """Whether more labels would help, by the rounds that the gate has judged."""
    usecase = usecases.need(connection, use_case)
    rounds = rounds_of(connection, use_case)
    sizes, scores = [size for size, _ in rounds], [score for _, score in rounds]
    return enough(sizes, scores, margin=usecase.gate.margin, target=target)


def rounds_of(connection: sa.Connection, use_case: str) -> list[tuple[int, float]]:
    """Labels that each judged candidate was trained on, and the mean of its metric over the sites."""
    found = []
    for row, labels in verdicts.sized(connection, use_case, limit=ROUNDS_MAX):
        score = score_of(row.verdict)
        if score is not None and labels:
            found.append((labels, score))
    return found[::-1]


def score_of(verdict: Verdict) -> float | None:
    """Mean over sites, each counting alike; slices and single labels are parts of the same samples."""
    sites = [one.candidate for one in verdict.sites if ":" not in one.site and one.candidate is not None]
    return fmean(sites) if sites else None
