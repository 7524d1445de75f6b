"""Questions about bundles: manifests as the exact bytes that were hashed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, one
from edgewise.hub.store.tables import bundles
from edgewise.wire import Manifest, decode


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleRow:
    digest: str
    use_case: str | None
    name: str
    order: str | None
    size_bytes: int
    made_at: datetime
    who: str


def get(connection: sa.Connection, digest: str) -> BundleRow | None:
    return one(connection, BundleRow, columns(bundles, BundleRow).where(bundles.c.digest == digest))


def find(connection: sa.Connection, *, use_case: str | None = None, limit: int = 100) -> list[BundleRow]:
    """Bundles, newest first."""
    statement = columns(bundles, BundleRow).order_by(bundles.c.made_at.desc(), bundles.c.digest).limit(limit)
    if use_case is not None:
        statement = statement.where(bundles.c.use_case == use_case)
    return many(connection, BundleRow, statement)


def manifest_bytes(connection: sa.Connection, digest: str) -> bytes | None:
    return connection.execute(sa.select(bundles.c.manifest).where(bundles.c.digest == digest)).scalar_one_or_none()


def manifest(connection: sa.Connection, digest: str) -> Manifest | None:
    body = manifest_bytes(connection, digest)
    return None if body is None else decode(Manifest, body)


def add(
    connection: sa.Connection, digest: str, body: bytes, *, name: str, size_bytes: int, who: str, now: datetime
) -> None:
    connection.execute(
        sa.insert(bundles).values(digest=digest, name=name, size_bytes=size_bytes, made_at=now, who=who, manifest=body)
    )


def answers(connection: sa.Connection, digest: str, *, order: str, use_case: str) -> None:
    """Note the first order that this bundle answers."""
    where = (bundles.c.digest == digest, bundles.c.order.is_(None))
    connection.execute(sa.update(bundles).where(*where).values(order=order, use_case=use_case))
