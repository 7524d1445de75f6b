"""Questions about sums by channel that devices told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, insert_new, many
from edgewise.hub.store.tables import channel_sums

BUNDLES_MAX = 4  # of a device whose sums are kept


@dataclass(frozen=True, kw_only=True, slots=True)
class SumsRow:
    event: str
    use_case: str
    site: str
    device: str
    bundle: str
    why: str
    frames: int
    told: dict[str, Any]
    received_at: datetime


def add(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    """Store what a device told, in place of what it told of the same bundle; of the newest few bundles all stay."""
    insert_new(connection, channel_sums, [row], key="event")
    mine = channel_sums.c.device == row["device"]
    newest = (channel_sums.c.received_at.desc(), channel_sums.c.event)
    found = connection.execute(sa.select(channel_sums.c.event, channel_sums.c.bundle).where(mine).order_by(*newest))
    kept: list[str] = [row["bundle"]]  # the one that came is the newest word, whatever its time
    gone: list[str] = []
    for event, bundle in found:
        if event == row["event"]:
            continue
        if bundle in kept or len(kept) >= BUNDLES_MAX:
            gone.append(event)
        else:
            kept.append(bundle)
    if gone:
        connection.execute(sa.delete(channel_sums).where(channel_sums.c.event.in_(gone)))


def find(connection: sa.Connection, use_case: str, *, site: str | None = None) -> Sequence[SumsRow]:
    """Those of a use case, or of one of its sites, newest first."""
    statement = columns(channel_sums, SumsRow).where(channel_sums.c.use_case == use_case)
    if site is not None:
        statement = statement.where(channel_sums.c.site == site)
    return many(connection, SumsRow, statement.order_by(channel_sums.c.received_at.desc(), channel_sums.c.event))
