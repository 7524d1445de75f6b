"""Questions about the release repository: published documents, their target files, and what lacks signatures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many
from edgewise.hub.store.tables import tuf_pending, tuf_roles, tuf_targets


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingRow:
    role: str
    set: str
    version: int
    body: bytes
    files: dict[str, str]
    who: str
    made_at: datetime


def newest(connection: sa.Connection) -> dict[str, bytes]:
    """The newest document of every role."""
    latest = sa.select(tuf_roles.c.role, sa.func.max(tuf_roles.c.version).label("version")).group_by(tuf_roles.c.role)
    found = latest.subquery()
    where = sa.and_(tuf_roles.c.role == found.c.role, tuf_roles.c.version == found.c.version)
    statement = sa.select(tuf_roles.c.role, tuf_roles.c.body).join(found, where).order_by(tuf_roles.c.role)
    return {row.role: row.body for row in connection.execute(statement)}


def newest_version(connection: sa.Connection, role: str) -> int:
    """The version of a role's newest document, 0 without one."""
    statement = sa.select(sa.func.max(tuf_roles.c.version)).where(tuf_roles.c.role == role)
    return connection.execute(statement).scalar_one() or 0


def document(connection: sa.Connection, role: str, version: int | None = None) -> bytes | None:
    """A role's document, the newest where no version is named."""
    statement = sa.select(tuf_roles.c.body).where(tuf_roles.c.role == role).order_by(tuf_roles.c.version.desc())
    if version is not None:
        statement = statement.where(tuf_roles.c.version == version)
    return connection.execute(statement.limit(1)).scalar_one_or_none()


def add(
    connection: sa.Connection, role: str, version: int, body: bytes, *, expires_at: datetime, now: datetime
) -> None:
    row = {"role": role, "version": version, "body": body, "expires_at": expires_at, "made_at": now}
    connection.execute(sa.insert(tuf_roles).values(**row))


def forget_before(connection: sa.Connection, role: str, version: int) -> None:
    """Remove a role's older documents: nobody who starts now asks for them."""
    connection.execute(sa.delete(tuf_roles).where(tuf_roles.c.role == role, tuf_roles.c.version < version))


def add_targets(connection: sa.Connection, digests: Mapping[str, str], now: datetime) -> None:
    """Note which bytes lie at which paths; again is fine."""
    for path, sha256 in digests.items():
        if not has_target(connection, path, sha256):
            connection.execute(sa.insert(tuf_targets).values(path=path, sha256=sha256, made_at=now))


def has_target(connection: sa.Connection, path: str, sha256: str) -> bool:
    where = (tuf_targets.c.path == path, tuf_targets.c.sha256 == sha256)
    return connection.execute(sa.select(tuf_targets.c.path).where(*where)).first() is not None


def pending(connection: sa.Connection) -> list[PendingRow]:
    """Documents that lack signatures."""
    return many(connection, PendingRow, columns(tuf_pending, PendingRow).order_by(tuf_pending.c.role))


def put_pending(connection: sa.Connection, row: PendingRow) -> None:
    drop_pending(connection, row.role)
    values = {name: getattr(row, name) for name in PendingRow.__dataclass_fields__}
    connection.execute(sa.insert(tuf_pending).values(**values))


def drop_pending(connection: sa.Connection, role: str) -> None:
    """Forget what waits for a role, and what it waits together with."""
    together = sa.select(tuf_pending.c.set).where(tuf_pending.c.role == role).scalar_subquery()
    connection.execute(sa.delete(tuf_pending).where(tuf_pending.c.set == together))
