"""How people label: what each of them said, acts that can be taken back, who has a sample now, answers to operators."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Index, Table

from edgewise.hub.store.tables._columns import json, metadata, name, text, time
from edgewise.hub.store.types import Position

# What each person said of a sample; the settled word is the sample's label. Rows are added; only their flags change.
opinions = Table(
    "opinions",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=True),
    Column("sample", sa.String(32), nullable=False),
    name("use_case"),
    text("who"),
    name("label"),
    json("annotation"),
    time("at"),
    name("kind"),  # label, second or settle
    Column("blind", sa.Boolean, nullable=False),  # nobody's label was known to who gave it: counts for agreement
    Column("current", sa.Boolean, nullable=False),  # false once the same person said something newer, or took it back
    Column("settled", sa.Boolean, nullable=False),  # the label was set knowing of this one: it disputes nothing
    Column("differs", sa.Boolean, nullable=False),  # from the label, or what was marked with it, when both were said
    Column("act", sa.String(32)),  # by which act; none for labels that came over POST /labels or an import
    Index(None, "sample"),
    Index(None, "use_case", "at"),
)

# One act of one person, under an id that the page chose: the same one twice is one, and it can be taken back.
label_acts = Table(
    "label_acts",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=True),
    Column("act", sa.String(32), nullable=False, unique=True),
    name("use_case"),
    text("who"),
    name("kind"),  # label, bulk, second, settle or answer
    json("before", nullable=False),  # how each sample stood, and what the act added
    time("at"),
    time("undone_at", nullable=True),
    Index(None, "use_case", "who", "position"),
)

# Who looks at an open sample now. A claim runs out by itself; nothing ever waits for one.
label_claims = Table(
    "label_claims",
    metadata,
    Column("sample", sa.String(32), primary_key=True),
    name("use_case"),
    text("who"),
    time("until"),
    Index(None, "use_case", "until"),
    Index(None, "who"),
)

# What became of an operator's word about a frame; the word itself is in `feedback`.
answers = Table(
    "answers",
    metadata,
    Column("feedback", sa.String(32), primary_key=True),
    name("use_case"),
    name("verdict"),  # right, not right or unclear
    text("note"),
    text("who"),
    time("at"),
    Column("act", sa.String(32)),
    Index(None, "act"),
)
