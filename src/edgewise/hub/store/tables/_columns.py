"""The one metadata of all tables, and the kinds of columns that they share."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Column

from edgewise.hub.store.types import Json, UtcDateTime

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)


def name(title: str, *, nullable: bool = False) -> Column[str]:
    return Column(title, sa.String(160), nullable=nullable)


def text(title: str, *, nullable: bool = False, default: str | None = None) -> Column[str]:
    return Column(title, sa.Text, nullable=nullable, server_default=default)


def time(title: str, *, nullable: bool = False) -> Column[datetime]:
    return Column(title, UtcDateTime(), nullable=nullable)


def json(title: str, *, nullable: bool = True) -> Column[object]:
    return Column(title, Json, nullable=nullable)


def count(title: str) -> Column[int]:
    return Column(title, sa.BigInteger, nullable=False, server_default="0")
