"""The one question that joins releases, rollouts and devices: which bundle is the champion."""

from __future__ import annotations

import sqlalchemy as sa

from edgewise.hub.store import releases as rows
from edgewise.hub.store._rows import columns, one
from edgewise.hub.store.releases import ReleaseRow
from edgewise.hub.store.tables import commits, releases, rollouts


def champion(connection: sa.Connection, use_case: str) -> ReleaseRow | None:
    """The release that a candidate is judged against and a training run starts from; None before the first.

    It is the newest release not taken back whose rollout finished on the whole fleet; while none has finished so, the
    newest that any device has committed. A rollout that selects some devices makes no champion of all.
    """
    release = whole(connection, use_case)
    if release is not None:
        return release
    committed = releases.c.id.in_(sa.select(commits.c.release))
    kept = sa.and_(releases.c.use_case == use_case, releases.c.reverted_at.is_(None), committed)
    return one(connection, ReleaseRow, columns(releases, ReleaseRow).where(kept).order_by(releases.c.version.desc()))


def whole(connection: sa.Connection, use_case: str) -> ReleaseRow | None:
    """The newest release not taken back whose rollout finished on the whole fleet; None before the first."""
    kept = sa.and_(releases.c.use_case == use_case, releases.c.reverted_at.is_(None))
    newest = releases.c.version.desc()
    joined = releases.join(rollouts, rollouts.c.release == releases.c.id)
    finished = sa.select(releases.c.id, rollouts.c.policy).select_from(joined).where(rollouts.c.state == "finished")
    found = (
        row.id for row in connection.execute(finished.where(kept).order_by(newest)) if not row.policy.get("select")
    )
    release = next(found, None)
    return None if release is None else rows.get(connection, release)
