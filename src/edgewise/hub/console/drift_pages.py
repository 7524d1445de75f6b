"""The page of a use case's drift: alarms, what they have in common, and the days of each device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Response

from edgewise.hub.api.auth import ThisHub
from edgewise.hub.api.drift import overview
from edgewise.hub.console._render import page
from edgewise.hub.console._router import router
from edgewise.hub.console.login import Visitor

WIDTH, HEIGHT = 160, 32  # of a small plot
SHOWN_MAX = 200  # devices; those in alarm first


@router.get("/drift/{use_case}")
def drift_of(hub: ThisHub, who: Visitor, use_case: str) -> Response:
    """Which devices and cohorts see something else than at first."""

    def values() -> dict[str, Any]:
        found = overview(hub, who, use_case)
        order = {"changed": 0, "unusual": 1, "learning": 2, "quiet": 3}
        shown = sorted([*found.cohorts, *found.devices], key=lambda one: (order[one.data["word"]], one.subject))
        plots = {
            (one.kind, one.subject, one.pipeline): points(one.data["distance"], one.data["limit"]) for one in shown
        }
        return {"found": found, "shown": shown[:SHOWN_MAX], "more": max(len(shown) - SHOWN_MAX, 0), "plots": plots}

    return page(hub, who, "drift.html", values)


def points(distances: Sequence[float | None], limit: float) -> str:
    """The points of a line in a plot whose middle is the limit; distances over twice of it are cut.

    >>> points([None, 0.0, 10.0, 99.0], 10.0)
    '53.3,32.0 106.7,16.0 160.0,0.0'
    """
    step = WIDTH / max(len(distances) - 1, 1)
    return " ".join(
        f"{place * step:.1f},{HEIGHT - HEIGHT * min(distance / (2 * limit), 1.0):.1f}"
        for place, distance in enumerate(distances)
        if distance is not None
    )
