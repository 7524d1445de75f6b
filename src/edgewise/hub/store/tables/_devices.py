"""Devices: enrolment, desired and last seen state, what ran when, and what is to be forgotten."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Index, Table

from edgewise.hub.store.tables._columns import json, metadata, name, text, time
from edgewise.hub.store.types import Position

enrolment_tokens = Table(
    "enrolment_tokens",
    metadata,
    Column("digest", sa.String(64), primary_key=True),  # the token itself is shown once and never stored
    name("site"),
    name("use_case"),
    name("device", nullable=True),
    json("labels"),
    time("made_at"),
    time("expires_at"),
    time("used_at", nullable=True),
    name("used_by", nullable=True),
)

devices = Table(
    "devices",
    metadata,
    Column("id", sa.String(160), primary_key=True),
    name("site"),
    name("use_case"),
    json("labels"),
    text("public"),  # base64 of the P-256 public key (SubjectPublicKeyInfo, DER)
    Column("keyid", sa.String(64), nullable=False, unique=True),
    json("facts"),  # the capability card: as enrolled, then as last reported
    time("enrolled_at"),
    time("certificate_ends_at", nullable=True),  # of the last one issued; None: none was
    time("revoked_at", nullable=True),
    time("seen_at", nullable=True),  # hub time of the last contact
    time("sent_at", nullable=True),  # the device's own clock at that contact
    json("report"),  # the last Report, without its card
    json("card_told"),  # the newest card that holds, and the digest of the last one that did not
    # Columns taken from the report, because rollouts and pages ask for them.
    name("phase", nullable=True),
    name("release", nullable=True),
    Column("bundle", sa.String(64)),
    # The desired state: the unsigned Assignment in force. It is signed afresh whenever it is handed out.
    Column("assignment_number", sa.BigInteger, nullable=False, server_default="0"),
    json("assignment"),
    text("clone_seen", nullable=True),  # epoch:number:sha256 of the last upload that betrayed a copied key
    json("pin"),  # {release, who, why, at}: an operator keeps the device at this release
    json("conflict"),  # {text, since}: it reports what this hub does not know, until a person resolves it
    Index(None, "use_case", "site"),
)

# Which release was seen committed on which device, from when to when (hub time): one row for each unbroken stretch.
commits = Table(
    "commits",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=True),
    name("device"),
    name("use_case"),
    name("release"),
    Column("bundle", sa.String(64), nullable=False),
    time("since"),
    time("last_at"),
    Index(None, "device", "since"),
    Index(None, "release"),
)

# What went wrong with updates, as devices told it: the newest of each device.
failures = Table(
    "failures",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=True),
    name("use_case"),
    name("site"),
    name("device"),
    time("at"),  # by the device's clock
    time("received_at"),
    name("phase"),
    name("component"),
    name("category", nullable=True),  # none where the device told it in words alone
    name("code"),
    text("text"),
    Column("rollout", sa.String(32)),
    name("release", nullable=True),
    Index(None, "use_case", "position"),
    Index(None, "device", "position"),
    Index(None, "rollout", "position"),
)

# What is to be forgotten, on devices and of what comes from them. The numbers grow by one within a hub epoch.
erasures = Table(
    "erasures",
    metadata,
    Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    name("use_case"),
    Column("subject", sa.String(64)),  # a keyed hash made on the site; the key is not here
    name("site", nullable=True),
    time("since", nullable=True),
    time("until", nullable=True),
    text("reason"),
    text("who"),
    time("made_at"),
    Index(None, "use_case", "number"),
)

erasure_acks = Table(
    "erasure_acks",
    metadata,
    Column("device", sa.String(160), primary_key=True),
    Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    time("done_at"),  # by the device's clock
    time("heard_at"),
    Index(None, "number"),
)

# Contents that nothing holds any more since an erasure. They are deleted after its commit; a row goes when they are.
loose_contents = Table(
    "loose_contents",
    metadata,
    Column("sha256", sa.String(64), primary_key=True),
    time("since"),
)
