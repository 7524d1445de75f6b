"""The route that tells what a rollout will do before it starts."""

from __future__ import annotations

import threading
from typing import Annotated

from fastapi import APIRouter, Query

from edgewise.hub import previews, scope
from edgewise.hub import releases as release_acts
from edgewise.hub.api.auth import Operator, ThisHub
from edgewise.hub.api.problems import responses
from edgewise.hub.api.rollouts import RolloutIn
from edgewise.hub.previews import RolloutPreview
from edgewise.wire import NotNow

router = APIRouter()
AT_ONCE = 2  # each works for seconds on a large fleet, and devices must not wait for it
WAIT_S = 10.0
_places = threading.BoundedSemaphore(AT_ONCE)


@router.post("/rollouts/preview", tags=["rollouts"], responses=responses(404))
def preview_rollout(
    wish: RolloutIn,
    hub: ThisHub,
    who: Operator,
    away_share: Annotated[float, Query(ge=0, le=1, description="of the devices in contact now, that stay away")] = 0.0,
    bytes_per_s: Annotated[
        float | None, Query(gt=0, description="speed at which a device downloads; as in the use case without it")
    ] = None,
) -> RolloutPreview:
    """What a rollout would do if it began now: who takes part, waves, bytes, cost, time, and what can never work."""
    if not _places.acquire(timeout=WAIT_S):
        raise NotNow(f"{AT_ONCE} previews are being made; try again in a moment", code="preview_busy")
    try:
        with hub.store.read() as connection:
            release = release_acts.need(connection, wish.release)
            scope.check_whole(connection, who, release.use_case, f"a rollout of {wish.release}")
            return previews.preview_of(
                connection,
                wish.release,
                wish.overrides(),
                now=hub.now(),
                started_at=hub.started_at,
                away_share=away_share,
                bytes_per_s=bytes_per_s,
            )
    finally:
        _places.release()
