"""What devices sent: segments as received, and the records in them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Index, Table

from edgewise.hub.store.tables._columns import count, json, metadata, name, text, time

watermarks = Table(
    "watermarks",
    metadata,
    Column("device", sa.String(160), primary_key=True),
    Column("epoch", sa.String(32), primary_key=True),
    Column("number", sa.BigInteger, nullable=False),  # everything up to it is stored and acknowledged
    time("made_at"),
    time("updated_at"),
)

# One row for each number acknowledged. A refused segment keeps its row, not its bytes.
segments = Table(
    "segments",
    metadata,
    Column("device", sa.String(160), primary_key=True),
    Column("epoch", sa.String(32), primary_key=True),
    Column("number", sa.BigInteger, primary_key=True),
    Column("sha256", sa.String(64), nullable=False),
    Column("size_bytes", sa.BigInteger, nullable=False),
    name("record_class"),
    Column("count", sa.Integer, nullable=False),
    Column("duplicates", sa.Integer, nullable=False, server_default="0"),  # record ids already stored: a device's fault
    Column("policy_version", sa.Integer, nullable=False),
    text("transform"),
    time("sealed_at"),
    time("received_at"),
    name("refused_code", nullable=True),
    text("refused_text", nullable=True),
    Column("body", sa.LargeBinary),  # compressed, exactly as received
    Column("trace", sa.String(32)),  # of the contact that brought it
)

samples = Table(
    "samples",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    name("use_case"),
    name("site"),
    name("device", nullable=True),  # none for an import
    Column("epoch", sa.String(32)),
    Column("number", sa.BigInteger),  # with device and epoch: the segment it came in
    text("frame"),
    text("group"),  # the sample's own id where the source named no group
    time("taken_at"),
    time("kept_at"),
    time("received_at"),
    name("why"),
    Column("inclusion_probability", sa.Float, nullable=False),
    Column("blob", sa.String(64), nullable=False),
    count("size_bytes"),
    name("media_type"),
    json("decision"),
    json("shadow"),
    Column("rollout", sa.String(32)),
    json("facts"),
    # The order of the labelling queue: priority first (0 is most urgent), then rank (small is first), then arrival.
    Column("priority", sa.Integer, nullable=False),
    Column("rank", sa.Float, nullable=False, server_default="0"),
    name("label", nullable=True),  # the newest of `labels`, kept here for the queue
    json("annotation"),  # and what was said with it
    time("labelled_at", nullable=True),
    name("purpose", nullable=True),  # train or evaluation, given with the first label and never changed
    Index(None, "use_case", "label", "priority", "rank", "received_at"),
    Index(None, "use_case", "purpose"),
    Index(None, "use_case", "received_at", "id"),
    Index(None, "device", "frame"),
    Index(None, "rollout"),
    Index(None, "blob"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    name("use_case"),
    name("site"),
    name("device"),
    text("frame"),
    time("given_at"),
    time("received_at"),
    name("verdict"),
    name("label", nullable=True),
    text("note"),
    Index(None, "device", "frame"),
    Index(None, "use_case", "given_at"),
)

telemetry = Table(
    "telemetry",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    name("use_case"),
    name("site"),
    name("device"),
    time("start"),
    time("end"),
    time("received_at"),
    name("release", nullable=True),
    Column("bundle", sa.String(64)),
    Column("rollout", sa.String(32)),
    count("decisions"),
    count("bytes_decided"),
    count("alarms"),
    Column("alarms_told", sa.Boolean, nullable=False, server_default=sa.true()),  # false: the policy hides the count
    Column("overrides", sa.BigInteger),  # none: hidden by the policy, or the device does not count them
    count("paired"),
    count("disagreed"),
    json("labels"),
    json("latency_ms"),
    json("shed"),
    Index(None, "use_case", "start"),
    Index(None, "rollout"),
    Index(None, "device", "start"),
)

# Blocks of sensor readings as received; `start` and `end` are of the readings in them.
readings = Table(
    "readings",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    name("use_case"),
    name("site"),
    name("device"),
    time("start"),
    time("end"),
    time("received_at"),
    count("count"),
    json("channels"),
    Column("block", sa.LargeBinary, nullable=False),
    Index(None, "device", "end"),
)

events = Table(
    "events",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    name("use_case"),
    name("device"),
    time("at"),
    time("received_at"),
    name("what"),
    text("text"),
    json("data"),
    Index(None, "use_case", "received_at"),
    Index(None, "device", "received_at"),
)
