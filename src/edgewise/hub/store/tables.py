"""Every table of the hub. Changing one needs a new file in ``migrations/versions``; a test compares both.

Documents with a content address (revisions, scorecards, verdicts, manifests) are kept as the exact bytes whose
SHA-256 is their key, never as columns taken apart: what was signed or hashed must come back byte for byte.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Index, Table, text

from edgewise.hub.store.types import Json, Position, UtcDateTime

FORMAT_VERSION = 1  # of the whole data folder; see hub/folder.py

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)


def _name(title: str, *, nullable: bool = False) -> Column[str]:
    return Column(title, sa.String(160), nullable=nullable)


def _text(title: str, *, nullable: bool = False, default: str | None = None) -> Column[str]:
    return Column(title, sa.Text, nullable=nullable, server_default=default)


def _time(title: str, *, nullable: bool = False) -> Column[datetime]:
    return Column(title, UtcDateTime(), nullable=nullable)


def _json(title: str, *, nullable: bool = True) -> Column[object]:
    return Column(title, Json, nullable=nullable)


def _count(title: str) -> Column[int]:
    return Column(title, sa.BigInteger, nullable=False, server_default="0")


# Facts about this store: hub_epoch (a random id made once), format_version, made_at.
meta = Table("meta", metadata, Column("key", sa.String(64), primary_key=True), _text("value"))

# Every version of every use case; the highest version of a name is the one in force.
usecases = Table(
    "usecases",
    metadata,
    Column("name", sa.String(160), primary_key=True),
    Column("version", sa.Integer, primary_key=True),
    Column("policy_version", sa.Integer, nullable=False),
    _json("body", nullable=False),
    _text("source"),
    _time("made_at"),
    _text("who"),
)

enrolment_tokens = Table(
    "enrolment_tokens",
    metadata,
    Column("digest", sa.String(64), primary_key=True),  # the token itself is shown once and never stored
    _name("site"),
    _name("use_case"),
    _name("device", nullable=True),
    _json("labels"),
    _time("made_at"),
    _time("expires_at"),
    _time("used_at", nullable=True),
    _name("used_by", nullable=True),
)

devices = Table(
    "devices",
    metadata,
    Column("id", sa.String(160), primary_key=True),
    _name("site"),
    _name("use_case"),
    _json("labels"),
    _text("public"),  # base64 of the P-256 public key (SubjectPublicKeyInfo, DER)
    Column("keyid", sa.String(64), nullable=False, unique=True),
    _json("facts"),  # the capability card: as enrolled, then as last reported
    _time("enrolled_at"),
    _time("certificate_ends_at", nullable=True),  # of the last one issued; None: none was
    _time("revoked_at", nullable=True),
    _time("seen_at", nullable=True),  # hub time of the last contact
    _time("sent_at", nullable=True),  # the device's own clock at that contact
    _json("report"),  # the last Report, whole
    # Columns taken from the report, because rollouts and pages ask for them.
    _name("phase", nullable=True),
    _name("release", nullable=True),
    Column("bundle", sa.String(64)),
    # The desired state: the unsigned Assignment in force. It is signed afresh whenever it is handed out.
    Column("assignment_number", sa.BigInteger, nullable=False, server_default="0"),
    _json("assignment"),
    _text("clone_seen", nullable=True),  # epoch:number:sha256 of the last upload that betrayed a copied key
    Index(None, "use_case", "site"),
)

# What is to be forgotten, on devices and of what comes from them. The numbers grow by one within a hub epoch.
erasures = Table(
    "erasures",
    metadata,
    Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    _name("use_case"),
    Column("subject", sa.String(64)),  # a keyed hash made on the site; the key is not here
    _name("site", nullable=True),
    _time("since", nullable=True),
    _time("until", nullable=True),
    _text("reason"),
    _text("who"),
    _time("made_at"),
    Index(None, "use_case", "number"),
)

erasure_acks = Table(
    "erasure_acks",
    metadata,
    Column("device", sa.String(160), primary_key=True),
    Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    _time("done_at"),  # by the device's clock
    _time("heard_at"),
    Index(None, "number"),
)

watermarks = Table(
    "watermarks",
    metadata,
    Column("device", sa.String(160), primary_key=True),
    Column("epoch", sa.String(32), primary_key=True),
    Column("number", sa.BigInteger, nullable=False),  # everything up to it is stored and acknowledged
    _time("made_at"),
    _time("updated_at"),
)

# Which release was seen committed on which device, from when to when (hub time): one row for each unbroken stretch.
commits = Table(
    "commits",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=True),
    _name("device"),
    _name("use_case"),
    _name("release"),
    Column("bundle", sa.String(64), nullable=False),
    _time("since"),
    _time("last_at"),
    Index(None, "device", "since"),
    Index(None, "release"),
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
    _name("record_class"),
    Column("count", sa.Integer, nullable=False),
    Column("duplicates", sa.Integer, nullable=False, server_default="0"),  # record ids already stored: a device's fault
    Column("policy_version", sa.Integer, nullable=False),
    _text("transform"),
    _time("sealed_at"),
    _time("received_at"),
    _name("refused_code", nullable=True),
    _text("refused_text", nullable=True),
    Column("body", sa.LargeBinary),  # compressed, exactly as received
)

samples = Table(
    "samples",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    _name("use_case"),
    _name("site"),
    _name("device", nullable=True),  # none for an import
    Column("epoch", sa.String(32)),
    Column("number", sa.BigInteger),  # with device and epoch: the segment it came in
    _text("frame"),
    _text("group"),  # the sample's own id where the source named no group
    _time("taken_at"),
    _time("kept_at"),
    _time("received_at"),
    _name("why"),
    Column("inclusion_probability", sa.Float, nullable=False),
    Column("blob", sa.String(64), nullable=False),
    _count("size_bytes"),
    _name("media_type"),
    _json("decision"),
    _json("shadow"),
    Column("rollout", sa.String(32)),
    _json("facts"),
    # The order of the labelling queue: priority first (0 is most urgent), then rank (small is first), then arrival.
    Column("priority", sa.Integer, nullable=False),
    Column("rank", sa.Float, nullable=False, server_default="0"),
    _name("label", nullable=True),  # the newest of `labels`, kept here for the queue
    _time("labelled_at", nullable=True),
    _name("purpose", nullable=True),  # train or evaluation, given with the first label and never changed
    Index(None, "use_case", "label", "priority", "rank", "received_at"),
    Index(None, "use_case", "purpose"),
    Index(None, "use_case", "received_at", "id"),
    Index(None, "device", "frame"),
    Index(None, "rollout"),
    Index(None, "blob"),
)

# What a group of samples is for. Written once with the group's first label: evaluation never leaks into training.
groups = Table(
    "groups",
    metadata,
    Column("use_case", sa.String(160), primary_key=True),
    Column("site", sa.String(160), primary_key=True),
    Column("group", sa.Text, primary_key=True),
    _name("purpose"),
    _name("label"),  # the first label, by which the share was balanced
    _time("made_at"),
)

# The history: a row is added for every change and none is ever changed.
labels = Table(
    "labels",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=True),
    Column("sample", sa.String(32), ForeignKey("samples.id"), nullable=False),
    _name("use_case"),
    _name("label"),
    _text("who"),
    _time("at"),
    Index(None, "sample"),
    Index(None, "use_case", "position"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    _name("use_case"),
    _name("site"),
    _name("device"),
    _text("frame"),
    _time("given_at"),
    _time("received_at"),
    _name("verdict"),
    _name("label", nullable=True),
    _text("note"),
    Index(None, "device", "frame"),
)

telemetry = Table(
    "telemetry",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    _name("use_case"),
    _name("site"),
    _name("device"),
    _time("start"),
    _time("end"),
    _time("received_at"),
    _name("release", nullable=True),
    Column("bundle", sa.String(64)),
    Column("rollout", sa.String(32)),
    _count("decisions"),
    _count("bytes_decided"),
    _count("alarms"),
    _count("paired"),
    _count("disagreed"),
    _json("labels"),
    _json("latency_ms"),
    _json("shed"),
    Index(None, "use_case", "start"),
    Index(None, "rollout"),
)

# Blocks of sensor readings as received; `start` and `end` are of the readings in them.
readings = Table(
    "readings",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    _name("use_case"),
    _name("site"),
    _name("device"),
    _time("start"),
    _time("end"),
    _time("received_at"),
    _count("count"),
    _json("channels"),
    Column("block", sa.LargeBinary, nullable=False),
    Index(None, "device", "end"),
)

events = Table(
    "events",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    _name("use_case"),
    _name("device"),
    _time("at"),
    _time("received_at"),
    _name("what"),
    _text("text"),
    _json("data"),
    Index(None, "use_case", "received_at"),
    Index(None, "device", "received_at"),
)

revisions = Table(
    "revisions",
    metadata,
    Column("digest", sa.String(64), primary_key=True),
    _name("use_case"),
    _time("made_at"),
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
    _name("use_case"),
    _name("kind"),
    _name("state"),
    _json("body", nullable=False),  # the Order
    Column("revision", sa.String(64), nullable=False),
    _time("made_at"),
    _time("updated_at"),
    Column("labels_position", sa.BigInteger, nullable=False, server_default="0"),  # labels up to here were seen
    _name("worker", nullable=True),
    _time("lease_until", nullable=True),
    Column("attempts", sa.Integer, nullable=False, server_default="0"),
    Column("attempts_max", sa.Integer, nullable=False),
    _text("error", nullable=True),
    _json("candidate"),  # the Candidate
    Column("bundle", sa.String(64)),
    Index(None, "use_case", "made_at"),
    Index(None, "state", "made_at"),
    # One unfinished training order a use case, held by the database itself.
    Index(
        "uq_orders_unfinished",
        "use_case",
        "kind",
        unique=True,
        sqlite_where=text("state IN ('open', 'claimed')"),
        postgresql_where=text("state IN ('open', 'claimed')"),
    ),
)

bundles = Table(
    "bundles",
    metadata,
    Column("digest", sa.String(64), primary_key=True),
    _name("use_case", nullable=True),  # of the order that it answers; none when pushed by a person
    _name("name"),
    Column("order", sa.String(32)),
    _count("size_bytes"),
    _time("made_at"),
    _text("who"),
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
    _count("size_bytes"),
    _time("made_at"),
    _time("used_at"),
    Index(None, "used_at"),
    Index(None, "delta"),
)

scorecards = Table(
    "scorecards",
    metadata,
    Column("digest", sa.String(64), primary_key=True),
    _name("use_case"),
    Column("bundle", sa.String(64), nullable=False),
    _time("made_at"),
    Column("body", sa.LargeBinary, nullable=False),
    Index(None, "use_case", "bundle"),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("digest", sa.String(64), primary_key=True),
    _name("use_case"),
    Column("candidate", sa.String(64), nullable=False),
    Column("champion", sa.String(64)),
    _name("result"),
    Column("order", sa.String(32)),  # the order whose candidate was judged, if any
    _time("made_at"),
    Column("body", sa.LargeBinary, nullable=False),
    Index(None, "use_case", "made_at"),
    Index(None, "candidate"),
)

# States: waiting -> signed | refused | withdrawn.
signing_requests = Table(
    "signing_requests",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    _name("use_case"),
    Column("bundle", sa.String(64), nullable=False),
    Column("verdict", sa.String(64)),
    _name("state"),
    _text("asked_by"),
    _text("why"),
    _text("answered_by", nullable=True),
    _text("answer", nullable=True),
    _name("release", nullable=True),
    _time("made_at"),
    _time("updated_at"),
    Index(None, "state", "made_at"),
    Index(None, "bundle"),
)

releases = Table(
    "releases",
    metadata,
    Column("id", sa.String(160), primary_key=True),
    _name("use_case"),
    Column("version", sa.Integer, nullable=False),
    Column("bundle", sa.String(64), nullable=False),  # the default variant's manifest digest
    Column("verdict", sa.String(64)),
    _name("signed_as"),
    _json("body", nullable=False),  # the Release, for reading
    _time("made_at"),
    _time("received_at"),
    _time("reverted_at", nullable=True),
    _text("reverted_why", nullable=True),
    _time("withdrawn_at", nullable=True),  # its role vouches for it no longer
    sa.UniqueConstraint("use_case", "version"),
)

tuf_roles = Table(
    "tuf_roles",
    metadata,
    Column("role", sa.String(160), primary_key=True),
    Column("version", sa.Integer, primary_key=True),
    Column("body", sa.LargeBinary, nullable=False),  # the signed document, for devices
    _time("expires_at"),
    _time("made_at"),
)

tuf_targets = Table(
    "tuf_targets",
    metadata,
    Column("path", sa.String(400), primary_key=True),
    Column("sha256", sa.String(64), primary_key=True),  # the bytes are a blob
    _time("made_at"),
)

tuf_pending = Table(  # documents that lack signatures; those that belong together are published together
    "tuf_pending",
    metadata,
    Column("role", sa.String(160), primary_key=True),
    Column("set", sa.String(32), nullable=False),
    Column("version", sa.Integer, nullable=False),
    Column("body", sa.LargeBinary, nullable=False),
    _json("files", nullable=False),  # path -> text, of the targets that come with it
    _text("who"),
    _time("made_at"),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    _name("use_case"),
    _name("release"),
    _name("previous", nullable=True),  # the release to return to
    _name("state"),
    _json("policy", nullable=False),  # the RolloutPolicy in force for this rollout
    _json("data"),  # what the controller remembers: wave, times, evidence
    _text("who"),
    _text("why", nullable=True),
    _time("made_at"),
    _time("updated_at"),
    Index(None, "use_case", "made_at"),
    Index(None, "state"),
)

# Tokens of people and of machines elsewhere; the secret is shown once and only its hash is here.
tokens = Table(
    "tokens",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    Column("digest", sa.String(64), nullable=False, unique=True),
    _name("name"),
    _name("role"),
    _json("sites"),  # none for all sites
    _time("made_at"),
    _text("made_by"),
    _time("expires_at", nullable=True),
    _time("revoked_at", nullable=True),
    _time("used_at", nullable=True),  # to the hour
)

# Who is signed in to the console.
sessions = Table(
    "sessions",
    metadata,
    Column("digest", sa.String(64), primary_key=True),
    _name("name"),
    _name("role"),
    _json("sites"),
    Column("token", sa.String(32)),  # the stored token it began with: revoking that ends it
    _time("made_at"),
    _time("expires_at"),
)

# Logins that are away at the OIDC issuer.
logins = Table(
    "logins",
    metadata,
    Column("digest", sa.String(64), primary_key=True),  # of the state
    _text("nonce"),
    _text("verifier"),
    _text("redirect_uri"),
    _time("made_at"),
    _time("expires_at"),
)

# Fenced leases: who holds a controller, until when; the fence grows with every new holder.
leases = Table(
    "leases",
    metadata,
    Column("name", sa.String(64), primary_key=True),
    _text("holder"),
    Column("fence", sa.BigInteger, nullable=False),
    _time("until"),
)

# The hash chain. Rows are only ever added, in the transaction of the change that they tell of.
audit = Table(
    "audit",
    metadata,
    Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
    _time("at"),
    _text("actor"),
    _name("action"),
    _text("subject"),
    _json("data", nullable=False),
    Column("previous", sa.String(64), nullable=False),
    Column("hash", sa.String(64), nullable=False),
    Index(None, "subject"),
    Index(None, "action"),
)
