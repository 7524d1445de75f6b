"""From labels to verdicts: purposes, labels, revisions, orders, bundles and what they were found to be worth."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Index, Table

from edgewise.hub.store.tables._columns import count, json, metadata, name, text, time
from edgewise.hub.store.types import Position

# What a group of samples is for. Written once with the group's first label: evaluation never leaks into training.
groups = Table(
    "groups",
    metadata,
    Column("use_case", sa.String(160), primary_key=True),
    Column("site", sa.String(160), primary_key=True),
    Column("group", sa.Text, primary_key=True),
    name("purpose"),
    name("label"),  # the first label, by which the share was balanced
    time("made_at"),
)

# The history: a row is added for every change and none is ever changed.
labels = Table(
    "labels",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=True),
    Column("sample", sa.String(32), ForeignKey("samples.id"), nullable=False),
    name("use_case"),
    name("label"),  # empty where the only one was taken back
    json("annotation"),  # an Annotation, where more than the label was said
    text("who"),
    time("at"),
    text("taken_back_by", nullable=True),  # who undid the one before, so that an older one holds again …
    Column("stands_for", sa.BigInteger),  # … this one, by its position; 0 where there was none
    Index(None, "sample"),
    Index(None, "use_case", "position"),
)

# What is left of an erased sample that had a label: enough to say that it was there, nothing of what it showed.
tombstones = Table(
    "tombstones",
    metadata,
    Column("sample", sa.String(32), primary_key=True),
    name("use_case"),
    name("site"),
    name("purpose"),
    Column("labels", sa.Integer, nullable=False),  # that it had had
    Column("erasure", sa.Integer, nullable=False),
    time("at"),
    Index(None, "use_case"),
)

# How a labelled picture looks, and which pictures of other groups look nearly so: what keeps copies on one side.
fingerprints = Table(
    "fingerprints",
    metadata,
    Column("sample", sa.String(32), primary_key=True),
    name("use_case"),
    Column("mark", sa.LargeBinary),  # none where the picture cannot be read
    Column("nearest", sa.Float),  # likeness to the nearest picture of another group that came before it
    json("near"),  # the nearest of them as [sample, likeness], those that may count as near
    Index(None, "use_case"),
)

revisions = Table(
    "revisions",
    metadata,
    Column("digest", sa.String(64), primary_key=True),
    name("use_case"),
    time("made_at"),
    Column("parent", sa.String(64)),
    Column("count", sa.Integer, nullable=False),
    Column("new", sa.Integer, nullable=False),
    Column("body", sa.LargeBinary, nullable=False),
    Index(None, "use_case", "made_at"),
)

# States: open -> claimed -> returned, or failed after `attempts_max` claims; a lease that ends goes back to open.
orders = Table(
    "orders",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    name("use_case"),
    name("kind"),
    name("state"),
    json("body", nullable=False),  # the Order
    Column("revision", sa.String(64), nullable=False),
    time("made_at"),
    time("updated_at"),
    Column("labels_position", sa.BigInteger, nullable=False, server_default="0"),  # labels up to here were seen
    name("worker", nullable=True),
    time("lease_until", nullable=True),
    Column("attempts", sa.Integer, nullable=False, server_default="0"),
    Column("attempts_max", sa.Integer, nullable=False),
    text("error", nullable=True),
    json("candidate"),  # the Candidate
    Column("bundle", sa.String(64)),
    Index(None, "use_case", "made_at"),
    Index(None, "state", "made_at"),
    # One unfinished training order a use case, held by the database itself.
    Index(
        "uq_orders_unfinished",
        "use_case",
        "kind",
        unique=True,
        sqlite_where=sa.text("state IN ('open', 'claimed')"),
        postgresql_where=sa.text("state IN ('open', 'claimed')"),
    ),
)

bundles = Table(
    "bundles",
    metadata,
    Column("digest", sa.String(64), primary_key=True),
    name("use_case", nullable=True),  # of the order that it answers; none when pushed by a person
    name("name"),
    Column("order", sa.String(32)),
    count("size_bytes"),
    time("made_at"),
    text("who"),
    Column("manifest", sa.LargeBinary, nullable=False),
)

# How one blob is made from another: built once for a pair, dropped again when the cache is full.
deltas = Table(
    "deltas",
    metadata,
    Column("base", sa.String(64), primary_key=True),
    Column("target", sa.String(64), primary_key=True),
    Column("codec", sa.Integer, primary_key=True),
    Column("delta", sa.String(64)),  # the blob that holds it; none where the plain blob is as good
    count("size_bytes"),
    time("made_at"),
    time("used_at"),
    Index(None, "used_at"),
    Index(None, "delta"),
)

# The newest word of a later bundle on a sample that waits for a label.
predictions = Table(
    "predictions",
    metadata,
    Column("sample", sa.String(32), primary_key=True),
    name("use_case"),
    Column("bundle", sa.String(64), nullable=False),
    name("release", nullable=True),
    name("label"),
    Column("confidence", sa.Float, nullable=False),
    Column("margin", sa.Float, nullable=False),
    time("at"),
    Index(None, "use_case", "bundle"),
)

scorecards = Table(
    "scorecards",
    metadata,
    Column("digest", sa.String(64), primary_key=True),
    name("use_case"),
    Column("bundle", sa.String(64), nullable=False),
    time("made_at"),
    Column("body", sa.LargeBinary, nullable=False),
    Index(None, "use_case", "bundle"),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("digest", sa.String(64), primary_key=True),
    name("use_case"),
    Column("candidate", sa.String(64), nullable=False),
    Column("champion", sa.String(64)),
    name("result"),
    Column("order", sa.String(32)),  # the order whose candidate was judged; none for a variant
    time("made_at"),
    Column("body", sa.LargeBinary, nullable=False),
    Index(None, "use_case", "made_at"),
    Index(None, "candidate"),
)
