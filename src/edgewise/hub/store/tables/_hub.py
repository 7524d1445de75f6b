"""What the hub is, what it was told to do, and who holds which controller."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Index, Table

from edgewise.hub.store.tables._columns import count, json, metadata, name, text, time
from edgewise.hub.store.types import Position

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

# What looked like an attack or a fault that an attack would look like: counted by hour, so that a flood is few rows.
threats = Table(
    "threats",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=True),
    name("kind"),
    name("subject"),  # a device, an address, or who asked
    name("site", nullable=True),  # none where no device is known
    name("use_case", nullable=True),
    time("hour"),
    count("count"),
    time("first_at"),
    time("last_at"),
    text("text"),  # what happened the last time
    Index(None, "kind", "subject", "hour", unique=True),
    Index(None, "hour"),
)

# What people are told of, once for each cause and window, and whether each way of telling took it.
alerts = Table(
    "alerts",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=True),
    Column("id", sa.String(32), nullable=False),
    name("cause"),
    name("key"),  # what it is about, with the cause: at most one alert of a key in a window
    time("window_at"),
    name("channel"),
    json("body", nullable=False),
    name("state"),  # waiting, sent or given_up
    Column("attempts", sa.Integer, nullable=False, server_default="0"),
    time("next_at"),
    text("error", nullable=True),
    time("made_at"),
    time("sent_at", nullable=True),
    Index(None, "key", "window_at", "channel", unique=True),
    Index(None, "state", "next_at"),
)
