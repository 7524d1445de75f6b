"""How the lake is, for people and metrics: asked of the store alone, so every hub of a database can say it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store import lake as rows


def status(connection: sa.Connection, now: datetime) -> dict[str, Any]:
    """What waits, what the tables hold, and the trouble that there is.

    Returns:
        ``waiting`` segments, ``lag_s`` since the oldest of them was received (0 without any), ``committed_at``,
        ``tables`` with ``rows``, ``files``, ``bytes`` and ``version`` of each,
        ``held_back`` (``use_case/site`` whose rows have to be in another region), ``error`` (``text``, ``since``) or
        None.
    """
    state = rows.state(connection)
    count, oldest = rows.waiting(connection, state.get("position", 0))
    return {
        "waiting": count,
        "lag_s": 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds()),
        "committed_at": state.get("at"),
        "tables": state.get("tables", {}),
        "held_back": [f"{use_case}/{site}" for use_case, site in state.get("held_back", ())],
        "error": state.get("error"),
    }
