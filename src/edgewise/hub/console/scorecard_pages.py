"""The page of the samples behind a number of a release's scorecard."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from edgewise.hub import releases, scope
from edgewise.hub.api.auth import ThisHub
from edgewise.hub.console import scorecard
from edgewise.hub.console._render import page
from edgewise.hub.console._router import router
from edgewise.hub.console.login import Visitor


@router.get("/releases/{release}/samples")
def samples_behind(request: Request, hub: ThisHub, who: Visitor, release: str) -> Response:
    """What candidate and champion said of the evaluation samples that one number was computed from."""

    def values() -> dict[str, Any]:
        with hub.store.read() as connection:
            row = releases.need(connection, release)
            scope.check_whole(connection, who, row.use_case, f"the scorecard of {release}")
            return scorecard.behind(connection, release, dict(request.query_params))

    return page(hub, who, "release_samples.html", values)
