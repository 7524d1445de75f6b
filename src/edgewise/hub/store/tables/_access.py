"""Who may ask: tokens, and who is signed in to the console."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Table

from edgewise.hub.store.tables._columns import json, metadata, name, text, time

# Tokens of people and of machines elsewhere; the secret is shown once and only its hash is here.
tokens = Table(
    "tokens",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    Column("digest", sa.String(64), nullable=False, unique=True),
    name("name"),
    name("role"),
    json("sites"),  # none for all sites
    time("made_at"),
    text("made_by"),
    time("expires_at", nullable=True),
    time("revoked_at", nullable=True),
    time("used_at", nullable=True),  # to the hour
)

# Who is signed in to the console.
sessions = Table(
    "sessions",
    metadata,
    Column("digest", sa.String(64), primary_key=True),
    name("name"),
    name("role"),
    json("sites"),
    Column("token", sa.String(32)),  # the stored token it began with: revoking that ends it
    time("made_at"),
    time("expires_at"),
)

# Logins that are away at the OIDC issuer.
logins = Table(
    "logins",
    metadata,
    Column("digest", sa.String(64), primary_key=True),  # of the state
    text("nonce"),
    text("verifier"),
    text("redirect_uri"),
    time("made_at"),
    time("expires_at"),
)
