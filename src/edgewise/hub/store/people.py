"""Questions about people: their tokens, who is signed in, who is away at the issuer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, one
from edgewise.hub.store.tables import logins, sessions, tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRow:
    id: str
    name: str
    role: str
    sites: list[str] | None
    made_at: datetime
    made_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionRow:
    name: str
    role: str
    sites: list[str] | None
    token: str | None
    expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginRow:
    nonce: str
    verifier: str
    redirect_uri: str
    expires_at: datetime


def add_token(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    connection.execute(sa.insert(tokens).values(**row))


def token(connection: sa.Connection, name: str) -> TokenRow | None:
    """A token by its id."""
    return one(connection, TokenRow, columns(tokens, TokenRow).where(tokens.c.id == name))


def token_of(connection: sa.Connection, digest: str) -> TokenRow | None:
    """A token by the hash of its secret."""
    return one(connection, TokenRow, columns(tokens, TokenRow).where(tokens.c.digest == digest))


def all_tokens(connection: sa.Connection, *, limit: int) -> list[TokenRow]:
    """Tokens, newest first; those that ended too."""
    return many(
        connection, TokenRow, columns(tokens, TokenRow).order_by(tokens.c.made_at.desc(), tokens.c.id).limit(limit)
    )


def tokens_in_force(connection: sa.Connection, now: datetime) -> int:
    alive = sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now)
    where = (tokens.c.revoked_at.is_(None), alive)
    return connection.execute(sa.select(sa.func.count()).select_from(tokens).where(*where)).scalar_one()


def change_token(connection: sa.Connection, name: str, **values: Any) -> None:
    connection.execute(sa.update(tokens).where(tokens.c.id == name).values(**values))


def add_session(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    connection.execute(sa.insert(sessions).values(**row))


def session(connection: sa.Connection, digest: str) -> SessionRow | None:
    return one(connection, SessionRow, columns(sessions, SessionRow).where(sessions.c.digest == digest))


def end_session(connection: sa.Connection, digest: str) -> None:
    connection.execute(sa.delete(sessions).where(sessions.c.digest == digest))


def forget_sessions(connection: sa.Connection, *, before: datetime) -> int:
    """Drop sessions that ended before then; comes back with how many are left."""
    connection.execute(sa.delete(sessions).where(sessions.c.expires_at < before))
    return connection.execute(sa.select(sa.func.count()).select_from(sessions)).scalar_one()


def add_login(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    connection.execute(sa.insert(logins).values(**row))


def take_login(connection: sa.Connection, digest: str) -> LoginRow | None:
    """A login by the hash of its state; it is good once."""
    row = one(connection, LoginRow, columns(logins, LoginRow).where(logins.c.digest == digest))
    connection.execute(sa.delete(logins).where(logins.c.digest == digest))
    return row


def forget_logins(connection: sa.Connection, *, before: datetime) -> int:
    """Drop logins that ended before then; comes back with how many are left."""
    connection.execute(sa.delete(logins).where(logins.c.expires_at < before))
    return connection.execute(sa.select(sa.func.count()).select_from(logins)).scalar_one()
