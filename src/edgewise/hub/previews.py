"""Previews of rollouts: what the hub knows about the fleet, given to the pure preview."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import Field

from edgewise.hub import releases as release_acts
from edgewise.hub import rollouts, usecases
from edgewise.hub.expected import expected_of
from edgewise.hub.rollout_preview import Preview, preview
from edgewise.hub.situation import Situation
from edgewise.hub.store import rollouts as rows
from edgewise.wire import RolloutPolicy

GB = 10**9


class RolloutPreview(Preview):
    """What a rollout of a release is expected to do, and what it costs."""

    use_case: str
    release: str
    previous: str | None = Field(description="the release to return to")
    policy: RolloutPolicy = Field(description="as it would hold for this rollout")
    supersedes: tuple[str, ...] = Field(description="unfinished rollouts that it ends where they touch its devices")
    cost: float | None = Field(description="of metered_bytes; none where the use case names no price")
    currency: str | None


def preview_of(
    connection: sa.Connection,
    release: str,
    overrides: Mapping[str, Any],
    *,
    now: datetime,
    started_at: datetime,
    away_share: float = 0.0,
    bytes_per_s: float | None = None,
) -> RolloutPreview:
    """What a rollout of the release would do, if it began now.

    Args:
        overrides: fields of the use case's rollout policy that are different this time.
        started_at: when this hub began to listen to devices.
        away_share: of the devices in contact now, that will stay away.
        bytes_per_s: speed at which a device downloads, where the use case and the policy name no lower one.
    Raises:
        NotValid: as `rollouts.create`, except for what can never work: the preview tells of that itself.
    """
    row = release_acts.need(connection, release)
    usecase = usecases.need(connection, row.use_case)
    draft = rollouts.draft(connection, row, overrides)
    expected = expected_of(connection, usecase, now, away_share=away_share, bytes_per_s=bytes_per_s)
    fleet = Situation(connection, usecase, now, started_at=started_at).fleet(draft, {})
    seen = preview(draft, fleet, expected, now)
    price = usecase.connectivity.price_per_gb
    return RolloutPreview(
        **seen.model_dump(),
        use_case=row.use_case,
        release=release,
        previous=draft.previous.release if draft.previous else None,
        policy=draft.policy,
        supersedes=tuple(
            old.id for old in rows.find(connection, use_case=row.use_case) if old.state in rows.UNFINISHED
        ),
        cost=None if price is None else seen.metered_bytes / GB * price,
        currency=usecase.connectivity.currency,
    )
