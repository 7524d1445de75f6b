"""What the hub is, what it was told to do, and who holds which controller."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Index, Table

from edgewise.hub.store.tables._columns import json, metadata, name, text, time

# Facts about this store: hub_epoch (a random id made once), format_version, made_at.
meta = Table("meta", metadata, Column("key", sa.String(64), primary_key=True), text("value"))

# Every version of every use case; the highest version of a name is the one in force.
usecases = Table(
    "usecases",
    metadata,
    Column("name", sa.String(160), primary_key=True),
    Column("version", sa.Integer, primary_key=True),
    Column("policy_version", sa.Integer, nullable=False),
    json("body", nullable=False),
    text("source"),
    time("made_at"),
    text("who"),
)

# Fenced leases: who holds a controller, until when; the fence grows with every new holder.
leases = Table(
    "leases",
    metadata,
    Column("name", sa.String(64), primary_key=True),
    text("holder"),
    Column("fence", sa.BigInteger, nullable=False),
    time("until"),
)

# The hash chain. Rows are only ever added, in the transaction of the change that they tell of.
audit = Table(
    "audit",
    metadata,
    Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
    time("at"),
    text("actor"),
    name("action"),
    text("subject"),
    json("data", nullable=False),
    Column("previous", sa.String(64), nullable=False),
    Column("hash", sa.String(64), nullable=False),
    Index(None, "subject"),
    Index(None, "action"),
)
