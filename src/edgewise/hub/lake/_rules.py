"""What the data policies say of the lake: from when on rows are kept, and which sites' rows may not enter it at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from edgewise.hub.lake._place import LakeConfig
from edgewise.hub.store import Store
from edgewise.hub.store import usecases as rows

ALWAYS = datetime(1, 1, 2, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """The policies in force at one moment.

    Attributes:
        since: for each use case, the moment before which its rows are past their retention.
        outside: (use case, site) whose rows have to stay in another region than the lake's.
    """

    since: Mapping[str, datetime]
    outside: frozenset[tuple[str, str]]

    def admits(self, use_case: str, site: str) -> datetime | None:
        """From when on rows of a site are kept; None where none may enter."""
        return None if (use_case, site) in self.outside else self.since.get(use_case, ALWAYS)


def rules_of(store: Store, config: LakeConfig, now: datetime) -> Rules:
    """What the newest policy of each use case says."""
    since: dict[str, datetime] = {}
    outside: set[tuple[str, str]] = set()
    with store.read() as connection:
        for name in rows.names(connection):
            usecase, _ = rows.in_force(connection, name)
            since[name] = kept_since(now, usecase.data.retention_days)
            if usecase.data.residency == "region":
                outside |= {(name, site.name) for site in usecase.sites if site.region != config.region}
    return Rules(since=since, outside=frozenset(outside))


def kept_since(now: datetime, days: int) -> datetime:
    """The begin of the first day (UTC) that is kept whole: files are rewritten once a day, not at every look.

    >>> kept_since(datetime(2026, 3, 10, 15, tzinfo=UTC), 7).isoformat()
    '2026-03-03T00:00:00+00:00'
    """
    day = datetime.combine(now.astimezone(UTC).date(), time.min, UTC)
    return day - timedelta(days=days) if (day - ALWAYS).days > days else ALWAYS
