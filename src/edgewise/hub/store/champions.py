"""The one question that joins releases, rollouts and devices: which bundle is the champion."""

from __future__ import annotations

import sqlalchemy as sa

from edgewise.hub.store import releases as rows
from edgewise.hub.store._rows import columns, one
from edgewise.hub.store.releases import ReleaseRow
from edgewise.hub.store.tables import commits, releases, rollouts


def champion(connection: sa.Connection, use_case: str) -> ReleaseRow | None:
    """The release that a candidate is judged against and a training run starts from; None before the first.

    It is the newest release not taken back whose rollout finished; while none has finished, the newest that any device
    has committed.
    """
    kept = sa.and_(releases.c.use_case == use_case, releases.c.reverted_at.is_(None))
    newest = releases.c.version.desc()
    finished = sa.select(rollouts.c.release).where(rollouts.c.state == "finished")
    committed = sa.select(commits.c.release)
    for proven in (finished, committed):
        where = (kept, releases.c.id.in_(proven))
        row = one(connection, rows.ReleaseRow, columns(releases, ReleaseRow).where(*where).order_by(newest))
        if row is not None:
            return row
    return None
