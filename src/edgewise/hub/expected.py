"""How the devices of a use case are expected to behave: what previews of rollouts assume."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from edgewise.hub.rollout_model import Expected
from edgewise.hub.store import intake
from edgewise.wire import UseCase

LINK_BYTES_PER_S = 1e6  # our choice where nobody names a cap: a slow mobile link
DECISIONS_PER_S = 1 / 60  # our choice where no device has told of its decisions yet
PAST = timedelta(days=1)


def expected_of(
    connection: sa.Connection,
    usecase: UseCase,
    now: datetime,
    *,
    away_share: float = 0.0,
    bytes_per_s: float | None = None,
) -> Expected:
    """How the devices of a use case are expected to behave, from what they did in the last day."""
    caps = (bytes_per_s, usecase.connectivity.bytes_per_s_max)
    return Expected(
        contact_s=usecase.connectivity.contact_s,
        bytes_per_s=min((cap for cap in caps if cap is not None), default=LINK_BYTES_PER_S),
        decisions_per_s=intake.decisions_per_s(connection, usecase.name, since=now - PAST, now=now) or DECISIONS_PER_S,
        away_share=away_share,
        zones={site.name: site.zone for site in usecase.sites},
    )
