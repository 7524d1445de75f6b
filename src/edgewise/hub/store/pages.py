"""Questions that only the console asks."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub.store._rows import of_sites
from edgewise.hub.store.tables import labels, samples


def waiting_by_why(connection: sa.Connection, use_case: str, *, sites: Collection[str] | None = None) -> dict[str, int]:
    """Samples without a label by the reason why they were kept, the most urgent reason first."""
    where = (samples.c.use_case == use_case, samples.c.label.is_(None), *of_sites(samples.c.site, sites))
    urgency = sa.func.min(samples.c.priority)
    statement = sa.select(samples.c.why, sa.func.count()).where(*where).group_by(samples.c.why)
    return {str(why): int(count) for why, count in connection.execute(statement.order_by(urgency, samples.c.why))}


def labelled_since(connection: sa.Connection, use_case: str, since: datetime) -> int:
    """Labels given since then, corrections included; taking one back is none."""
    where = (labels.c.use_case == use_case, labels.c.at >= since, labels.c.taken_back_by.is_(None))
    return int(connection.execute(sa.select(sa.func.count()).select_from(labels).where(*where)).scalar_one())


def any_sample(connection: sa.Connection, use_case: str) -> bool:
    statement = sa.select(samples.c.id).where(samples.c.use_case == use_case).limit(1)
    return connection.execute(statement).first() is not None
