"""From a signing request to a rollout, and the signed documents of the release repository."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Index, Table

from edgewise.hub.store.tables._columns import json, metadata, name, text, time

# States: waiting -> signed | refused | withdrawn.
signing_requests = Table(
    "signing_requests",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    name("use_case"),
    Column("bundle", sa.String(64), nullable=False),
    Column("verdict", sa.String(64)),
    name("state"),
    text("asked_by"),
    text("why"),
    text("answered_by", nullable=True),
    text("answer", nullable=True),
    name("release", nullable=True),
    time("made_at"),
    time("updated_at"),
    Index(None, "state", "made_at"),
    Index(None, "bundle"),
)

releases = Table(
    "releases",
    metadata,
    Column("id", sa.String(160), primary_key=True),
    name("use_case"),
    Column("version", sa.Integer, nullable=False),
    Column("bundle", sa.String(64), nullable=False),  # the default variant's manifest digest
    Column("verdict", sa.String(64)),
    name("signed_as"),
    json("body", nullable=False),  # the Release, for reading
    time("made_at"),
    time("received_at"),
    time("reverted_at", nullable=True),
    text("reverted_why", nullable=True),
    time("withdrawn_at", nullable=True),  # its role vouches for it no longer
    sa.UniqueConstraint("use_case", "version"),
)

tuf_roles = Table(
    "tuf_roles",
    metadata,
    Column("role", sa.String(160), primary_key=True),
    Column("version", sa.Integer, primary_key=True),
    Column("body", sa.LargeBinary, nullable=False),  # the signed document, for devices
    time("expires_at"),
    time("made_at"),
)

tuf_targets = Table(
    "tuf_targets",
    metadata,
    Column("path", sa.String(400), primary_key=True),
    Column("sha256", sa.String(64), primary_key=True),  # the bytes are a blob
    time("made_at"),
)

tuf_pending = Table(  # documents that lack signatures; those that belong together are published together
    "tuf_pending",
    metadata,
    Column("role", sa.String(160), primary_key=True),
    Column("set", sa.String(32), nullable=False),
    Column("version", sa.Integer, nullable=False),
    Column("body", sa.LargeBinary, nullable=False),
    json("files", nullable=False),  # path -> text, of the targets that come with it
    text("who"),
    time("made_at"),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    name("use_case"),
    name("release"),
    name("previous", nullable=True),  # the release to return to
    name("state"),
    json("policy", nullable=False),  # the RolloutPolicy in force for this rollout
    json("data"),  # what the controller remembers: wave, times, evidence
    text("who"),
    text("why", nullable=True),
    time("made_at"),
    time("updated_at"),
    Index(None, "use_case", "made_at"),
    Index(None, "state"),
)
