"""What the sites of a use case counted since a moment, for the page of its app."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub.store._rows import of_sites
from edgewise.hub.store.tables import devices, samples, telemetry

WINDOWS_MAX = 50_000  # telemetry windows whose labels are added up; the newest


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """Sums of telemetry at one site; None where nothing was told, or the policy hides it."""

    decisions: int
    alarms: int | None
    overrides: int | None


def counted(
    connection: sa.Connection, use_case: str, *, since: datetime, sites: Collection[str] | None = None
) -> dict[str, Counted]:
    """By site, decisions and the events among them that tell of quality."""
    told = telemetry.c.alarms_told
    statement = sa.select(
        telemetry.c.site,
        sa.func.sum(telemetry.c.decisions),
        sa.func.sum(sa.case((told, telemetry.c.alarms))),
        sa.func.sum(telemetry.c.overrides),
    ).where(*_mine(use_case, since, sites))
    rows = connection.execute(statement.group_by(telemetry.c.site))
    return {
        site: Counted(
            decisions=int(decisions or 0),
            alarms=None if alarms is None else int(alarms),
            overrides=None if overrides is None else int(overrides),
        )
        for site, decisions, alarms, overrides in rows
    }


def decided(
    connection: sa.Connection, use_case: str, *, since: datetime, sites: Collection[str] | None = None
) -> dict[str, Counter[str]]:
    """By site, decisions by label, over the newest `WINDOWS_MAX` windows."""
    statement = sa.select(telemetry.c.site, telemetry.c.labels).where(*_mine(use_case, since, sites))
    found: dict[str, Counter[str]] = {}
    for site, labels in connection.execute(statement.order_by(telemetry.c.start.desc()).limit(WINDOWS_MAX)):
        found.setdefault(site, Counter()).update(labels or {})
    return found


def judged(
    connection: sa.Connection,
    use_case: str,
    *,
    since: datetime,
    good: Collection[str],
    sites: Collection[str] | None = None,
) -> dict[str, tuple[int, int]]:
    """By site, audit samples that a person labelled, and those whose decision was another label.

    Only audit samples, which are drawn at random: the others were kept because something was odd about them.
    """
    said = samples.c.decision["label"].as_string()
    both_good = sa.and_(samples.c.label.in_(sorted(good)), said.in_(sorted(good)))
    wrong = sa.func.sum(sa.case((sa.or_(said == samples.c.label, both_good), 0), else_=1))
    statement = sa.select(samples.c.site, sa.func.count(), wrong).where(
        samples.c.use_case == use_case,
        samples.c.received_at >= since,
        samples.c.why == "audit",
        samples.c.label.is_not(None),
        samples.c.decision.is_not(None),
        *of_sites(samples.c.site, sites),
    )
    return {
        site: (int(count), int(off or 0)) for site, count, off in connection.execute(statement.group_by(samples.c.site))
    }


def mostly_run(connection: sa.Connection, use_case: str, *, sites: Collection[str] | None = None) -> dict[str, str]:
    """By site, the release that most of its devices run."""
    count = sa.func.count()
    where = (devices.c.use_case == use_case, devices.c.release.is_not(None), *of_sites(devices.c.site, sites))
    statement = sa.select(devices.c.site, devices.c.release).where(*where).group_by(devices.c.site, devices.c.release)
    found: dict[str, str] = {}
    for site, release in connection.execute(statement.order_by(count.desc(), devices.c.release.desc())):
        found.setdefault(site, release)
    return found


def _mine(use_case: str, since: datetime, sites: Collection[str] | None) -> list[sa.ColumnElement[bool]]:
    return [telemetry.c.use_case == use_case, telemetry.c.start >= since, *of_sites(telemetry.c.site, sites)]
