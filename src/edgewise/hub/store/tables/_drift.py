"""Day sketches of devices, and the alarms made from them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Index, Table

from edgewise.hub.store.tables._columns import json, metadata, name, text, time

# What a device told of a day, or of a part of one; they add up. The newest days of a use case are kept.
day_sketches = Table(
    "day_sketches",
    metadata,
    Column("event", sa.String(32), primary_key=True),
    name("use_case"),
    name("device"),
    name("pipeline"),
    Column("bundle", sa.String(64), nullable=False),
    Column("day", sa.String(10), nullable=False),  # by the device's clock, UTC
    Column("sketch", sa.LargeBinary, nullable=False),
    time("received_at"),
    Index(None, "use_case", "day"),
    Index(None, "device", "day"),
)

# One row for each time a device or a cohort changed; open until it is as before, runs another bundle, or is accepted.
drift_alarms = Table(
    "drift_alarms",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    name("use_case"),
    name("kind"),  # device or cohort
    name("subject"),  # the device, or attribute=value
    name("pipeline"),
    Column("bundle", sa.String(64), nullable=False),
    Column("began", sa.String(10), nullable=False),  # the day on which it most likely began
    time("opened_at"),
    time("closed_at", nullable=True),
    text("closed_why", nullable=True),
    json("data"),
    Index(None, "use_case", "closed_at"),
    Index(None, "subject"),
)

# What the newest look found, for pages and routes; it is made anew from the sketches and nothing is decided by it.
drift_states = Table(
    "drift_states",
    metadata,
    Column("use_case", sa.String(160), primary_key=True),
    Column("kind", sa.String(160), primary_key=True),
    Column("subject", sa.String(160), primary_key=True),
    Column("pipeline", sa.String(160), primary_key=True),
    Column("bundle", sa.String(64), nullable=False),
    Column("day", sa.String(10), nullable=False),
    json("data"),
)

# What devices told of their network's normalisations: the newest for each bundle, for the newest few bundles.
channel_sums = Table(
    "channel_sums",
    metadata,
    Column("event", sa.String(32), primary_key=True),
    name("use_case"),
    name("site"),
    name("device"),
    Column("bundle", sa.String(64), nullable=False),
    name("why"),
    Column("frames", sa.Integer, nullable=False),
    json("told"),  # a ToldSums
    time("received_at"),
    Index(None, "use_case", "bundle"),
    Index(None, "device"),
)
