"""Did it help? After each round: a release beside the one that it replaced, by what came back from the field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa

from edgewise.hub import usecases
from edgewise.hub.store import ledger as rows
from edgewise.hub.store import rollouts, verdicts
from edgewise.hub.store.ledger import AuditCount, FieldCount
from edgewise.measure import Helped, did_it_help
from edgewise.measure._helped import Counted
from edgewise.wire import SiteVerdict

Row = TypeVar("Row", AuditCount, FieldCount)


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One release that went out, and what became of it."""

    release: str
    replaced: str
    at: datetime
    taken_back: str | None
    helped: Helped
    gate: tuple[SiteVerdict, ...]  # on the frozen evaluation share, before it went out


def of_use_case(connection: sa.Connection, use_case: str) -> list[Round]:
    """All releases that replaced another one, newest first.

    Raises:
        NotValid: no such use case.
    """
    good = usecases.need(connection, use_case).outcome.good_labels
    whole = rows.releases_of(connection, use_case)
    audits = _by_release(rows.audit_counts(connection, use_case, good))
    field = _by_release(rows.field_counts(connection, use_case))
    found = []
    for row in whole:
        went_out = rollouts.find(connection, use_case=use_case, release=row.id, limit=100)
        if not (replaced := next((one.previous for one in reversed(went_out) if one.previous), None)):
            continue
        evidence = [(one.data or {}).get("evidence", {}) for one in went_out if one.previous == replaced]
        helped = did_it_help(
            wins=sum(one.get("wins", 0) for one in evidence),
            losses=sum(one.get("losses", 0) for one in evidence),
            audit_old=_audit(audits.get(replaced, [])),
            audit_new=_audit(audits.get(row.id, [])),
            overrides_old=_overrides(field.get(replaced, [])),
            overrides_new=_overrides(field.get(row.id, [])),
        )
        verdict = verdicts.get(connection, row.verdict) if row.verdict else None
        found.append(
            Round(
                release=row.id,
                replaced=replaced,
                at=went_out[-1].made_at,
                taken_back=row.reverted_why,
                helped=helped,
                gate=verdict.verdict.sites if verdict else (),
            )
        )
    return found[::-1]


def _by_release(counts: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for one in counts:
        found.setdefault(one.release, []).append(one)
    return found


def _audit(counts: Iterable[AuditCount]) -> Mapping[str, Counted]:
    return {one.site: (one.right, one.total) for one in counts}


def _overrides(counts: Iterable[FieldCount]) -> Mapping[str, Counted]:
    return {one.device: (one.overrides, one.decisions) for one in counts if one.overrides is not None}
