"""Questions about releases: what was signed, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, one
from edgewise.hub.store.tables import releases, signing_requests, verdicts
from edgewise.wire import Release, plain

DEFAULT_VARIANT = "fp32"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseRow:
    id: str
    use_case: str
    version: int
    bundle: str
    verdict: str | None
    signed_as: str
    body: dict[str, Any]
    made_at: datetime
    received_at: datetime
    reverted_at: datetime | None
    reverted_why: str | None
    withdrawn_at: datetime | None


def get(connection: sa.Connection, release: str) -> ReleaseRow | None:
    return one(connection, ReleaseRow, columns(releases, ReleaseRow).where(releases.c.id == release))


def find(connection: sa.Connection, *, use_case: str | None = None, limit: int = 100) -> list[ReleaseRow]:
    """Releases, newest version first."""
    statement = (
        columns(releases, ReleaseRow).order_by(releases.c.received_at.desc(), releases.c.version.desc()).limit(limit)
    )
    if use_case is not None:
        statement = statement.where(releases.c.use_case == use_case)
    return many(connection, ReleaseRow, statement)


def newest_version(connection: sa.Connection, use_case: str) -> int:
    """The highest version number of a use case, 0 before its first release."""
    statement = sa.select(sa.func.max(releases.c.version)).where(releases.c.use_case == use_case)
    return connection.execute(statement).scalar_one() or 0


def of_bundle(connection: sa.Connection, bundle: str) -> list[ReleaseRow]:
    """Releases that were signed for this bundle, newest first."""
    # A site's release holds the bundle that its variant was made of as well, and is about the variant alone.
    about = releases.c.verdict.in_(sa.select(verdicts.c.digest).where(verdicts.c.candidate == bundle))
    statement = columns(releases, ReleaseRow).where(
        sa.or_(about, sa.and_(releases.c.bundle == bundle, releases.c.verdict.is_(None)))
    )
    return many(connection, ReleaseRow, statement.order_by(releases.c.version.desc()))


def add(connection: sa.Connection, release: Release, *, bundle: str, now: datetime) -> None:
    connection.execute(
        sa.insert(releases).values(
            id=release.id,
            use_case=release.use_case,
            version=release.version,
            bundle=bundle,
            verdict=release.verdict,
            signed_as=release.signed_as,
            body=plain(release),
            made_at=release.created_at,
            received_at=now,
        )
    )


def mark_reverted(connection: sa.Connection, release: str, *, why: str, now: datetime) -> None:
    """This release was taken back: it is never champion again."""
    where = (releases.c.id == release, releases.c.reverted_at.is_(None))
    connection.execute(sa.update(releases).where(*where).values(reverted_at=now, reverted_why=why))


def mark_withdrawn(connection: sa.Connection, release: str, *, why: str, now: datetime) -> None:
    """Its role vouches for this release no longer: nothing may go to it, or back to it."""
    mark_reverted(connection, release, why=why, now=now)
    connection.execute(sa.update(releases).where(releases.c.id == release).values(withdrawn_at=now))


def answer_requests(connection: sa.Connection, bundle: str, *, release: str, by: str, now: datetime) -> None:
    """The waiting signing requests of this bundle are answered by this release."""
    where = (signing_requests.c.bundle == bundle, signing_requests.c.state == "waiting")
    values = {"state": "signed", "release": release, "answered_by": by, "updated_at": now}
    connection.execute(sa.update(signing_requests).where(*where).values(**values))
