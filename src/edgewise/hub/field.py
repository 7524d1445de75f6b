"""How good the running release is in the field, and which audit samples to label next to know it better."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from edgewise.hub import usecases
from edgewise.hub.store import champions
from edgewise.hub.store import ledger as rows
from edgewise.measure import Audited, FieldResult, field_result
from edgewise.wire import NotValid

DAYS = 28.0  # the window that is looked at
NEXT_MAX = 200  # samples that are named at once
AUDITED_MAX = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldStatus:
    """One release in the field.

    Attributes:
        waiting: audit samples without a label, by site.
        next: of them, those to label next, where they bring most first.
    """

    use_case: str
    release: str
    since: datetime
    half_width: float
    labelled: int
    result: FieldResult
    waiting: dict[str, int]
    next: tuple[str, ...]


def status(
    connection: sa.Connection,
    use_case: str,
    *,
    now: datetime,
    release: str | None = None,
    half_width: float = 0.02,
    days: float = DAYS,
    sites: Collection[str] | None = None,
) -> FieldStatus:
    """What the audit share says of a release, by default the champion.

    Only frames that the device drew at random for audit count; whatever was kept for another reason would flatter or
    blacken it.

    Args:
        half_width: of the interval that is wanted, 0.001 to 0.5.
        sites: that the asker may see; all without it.
    Raises:
        NotValid: no such use case, no release yet, or a half width or window out of bounds.
    """
    usecase = usecases.need(connection, use_case)
    if not 0.001 <= half_width <= 0.5 or not 1 <= days <= 366:
        raise NotValid(
            f"half_width is {half_width:g} and days {days:g}; needs 0.001 to 0.5 and 1 to 366", code="field_invalid"
        )
    if usecase.outcome.target is not None:
        raise NotValid(
            f"{use_case} states values of {usecase.outcome.target.name}, and this counts right labels; look at the "
            "scorecard of its release: `edgewise release scorecard`",
            code="field_invalid",
        )
    champion = champions.champion(connection, use_case)
    name = release or (champion.id if champion else None)
    if name is None:
        raise NotValid(
            f"{use_case} has no release yet, so nothing decides in the field; sign one first", code="release_unknown"
        )
    since = now - timedelta(days=days)
    found = rows.audit_rows(connection, use_case, name, since=since, limit=AUDITED_MAX)
    found = [row for row in found if sites is None or row.site in sites]
    good = usecase.outcome.good_labels
    audited = [
        Audited(
            site=row.site,
            cluster=row.group,
            probability=row.inclusion_probability,
            right=row.told == row.label or (row.told in good and row.label in good),
            truth=row.label,
        )
        for row in found
        if row.label is not None
    ]
    decisions: dict[str, int] = {}
    for count in rows.field_counts(connection, use_case, since=since):
        if count.release == name and (sites is None or count.site in sites):
            decisions[count.site] = decisions.get(count.site, 0) + count.decisions
    labels = usecase.outcome.labels_that_matter or tuple(one for one in usecase.outcome.labels if one not in good)
    result = field_result(audited, decisions, labels=labels, half_width=half_width)
    open_rows = [row for row in found if row.label is None]
    waiting: dict[str, int] = {}
    for row in open_rows:
        waiting[row.site] = waiting.get(row.site, 0) + 1
    return FieldStatus(
        use_case=use_case,
        release=name,
        since=since,
        half_width=half_width,
        labelled=len(audited),
        result=result,
        waiting=waiting,
        next=_next(open_rows, result.wanted),
    )


def _next(waiting: list[rows.AuditRow], wanted: dict[str, int] | object) -> tuple[str, ...]:
    """Samples by lot within a site, as many of each site as are wanted there, the sites in turn."""
    assert isinstance(wanted, dict)
    queues: dict[str, list[str]] = {}
    # A lot that nobody can steer: by a hash of the sample's random id, not by what it shows or when it came.
    for row in sorted(waiting, key=lambda one: hashlib.sha256(one.id.encode()).digest()):
        queues.setdefault(row.site, []).append(row.id)
    left = {site: queue[: wanted.get(site, 0)] for site, queue in sorted(queues.items())}
    longest = max(map(len, left.values()), default=0)
    turns = [queue[turn] for turn in range(longest) for queue in left.values() if turn < len(queue)]
    return tuple(turns[:NEXT_MAX])
