"""The first schema."""

import sqlalchemy as sa
from alembic import op

from edgewise.hub.store.types import Json, Position, UtcDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=160), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("data", Json, nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("index", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_action"), "audit", ["action"], unique=False)
    op.create_index(op.f("ix_audit_subject"), "audit", ["subject"], unique=False)
    op.create_table(
        "bundles",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=True),
        sa.Column("name", sa.String(length=160), nullable=False),
        sa.Column("order", sa.String(length=32), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_bundles")),
    )
    op.create_table(
        "commits",
        sa.Column("position", Position, autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=160), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("release", sa.String(length=160), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("last_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_commits")),
    )
    op.create_index(op.f("ix_commits_device_since"), "commits", ["device", "since"], unique=False)
    op.create_index(op.f("ix_commits_release"), "commits", ["release"], unique=False)
    op.create_table(
        "deltas",
        sa.Column("base", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("codec", sa.Integer(), nullable=False),
        sa.Column("delta", sa.String(length=64), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("base", "target", "codec", name=op.f("pk_deltas")),
    )
    op.create_index(op.f("ix_deltas_delta"), "deltas", ["delta"], unique=False)
    op.create_index(op.f("ix_deltas_used_at"), "deltas", ["used_at"], unique=False)
    op.create_table(
        "devices",
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("site", sa.String(length=160), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("labels", Json, nullable=True),
        sa.Column("public", sa.Text(), nullable=False),
        sa.Column("keyid", sa.String(length=64), nullable=False),
        sa.Column("facts", Json, nullable=True),
        sa.Column("enrolled_at", UtcDateTime(), nullable=False),
        sa.Column("certificate_ends_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.Column("seen_at", UtcDateTime(), nullable=True),
        sa.Column("sent_at", UtcDateTime(), nullable=True),
        sa.Column("report", Json, nullable=True),
        sa.Column("phase", sa.String(length=160), nullable=True),
        sa.Column("release", sa.String(length=160), nullable=True),
        sa.Column("bundle", sa.String(length=64), nullable=True),
        sa.Column("assignment_number", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("assignment", Json, nullable=True),
        sa.Column("clone_seen", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_devices")),
        sa.UniqueConstraint("keyid", name=op.f("uq_devices_keyid")),
    )
    op.create_index(op.f("ix_devices_use_case_site"), "devices", ["use_case", "site"], unique=False)
    op.create_table(
        "enrolment_tokens",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("site", sa.String(length=160), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("device", sa.String(length=160), nullable=True),
        sa.Column("labels", Json, nullable=True),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.Column("used_by", sa.String(length=160), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_enrolment_tokens")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("device", sa.String(length=160), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("what", sa.String(length=160), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("data", Json, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_device_received_at"), "events", ["device", "received_at"], unique=False)
    op.create_index(op.f("ix_events_use_case_received_at"), "events", ["use_case", "received_at"], unique=False)
    op.create_table(
        "feedback",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("site", sa.String(length=160), nullable=False),
        sa.Column("device", sa.String(length=160), nullable=False),
        sa.Column("frame", sa.Text(), nullable=False),
        sa.Column("given_at", UtcDateTime(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("verdict", sa.String(length=160), nullable=False),
        sa.Column("label", sa.String(length=160), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
    )
    op.create_index(op.f("ix_feedback_device_frame"), "feedback", ["device", "frame"], unique=False)
    op.create_table(
        "groups",
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("site", sa.String(length=160), nullable=False),
        sa.Column("group", sa.Text(), nullable=False),
        sa.Column("purpose", sa.String(length=160), nullable=False),
        sa.Column("label", sa.String(length=160), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("use_case", "site", "group", name=op.f("pk_groups")),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=160), nullable=False),
        sa.Column("role", sa.String(length=160), nullable=False),
        sa.Column("sites", Json, nullable=True),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=160), nullable=False),
        sa.Column("role", sa.String(length=160), nullable=False),
        sa.Column("sites", Json, nullable=True),
        sa.Column("token", sa.String(length=32), nullable=True),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sessions")),
    )
    op.create_table(
        "logins",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("verifier", sa.Text(), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_logins")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("kind", sa.String(length=160), nullable=False),
        sa.Column("state", sa.String(length=160), nullable=False),
        sa.Column("body", Json, nullable=False),
        sa.Column("revision", sa.String(length=64), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("labels_position", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("worker", sa.String(length=160), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts_max", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("candidate", Json, nullable=True),
        sa.Column("bundle", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
    )
    op.create_index(op.f("ix_orders_state_made_at"), "orders", ["state", "made_at"], unique=False)
    op.create_index(op.f("ix_orders_use_case_made_at"), "orders", ["use_case", "made_at"], unique=False)
    op.create_index(
        "uq_orders_unfinished",
        "orders",
        ["use_case", "kind"],
        unique=True,
        sqlite_where=sa.text("state IN ('open', 'claimed')"),
        postgresql_where=sa.text("state IN ('open', 'claimed')"),
    )
    op.create_table(
        "releases",
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.String(length=64), nullable=True),
        sa.Column("signed_as", sa.String(length=160), nullable=False),
        sa.Column("body", Json, nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("reverted_at", UtcDateTime(), nullable=True),
        sa.Column("reverted_why", sa.Text(), nullable=True),
        sa.Column("withdrawn_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        sa.UniqueConstraint("use_case", "version", name=op.f("uq_releases_use_case_version")),
    )
    op.create_table(
        "revisions",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("parent", sa.String(length=64), nullable=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("new", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_revisions")),
    )
    op.create_index(op.f("ix_revisions_use_case_made_at"), "revisions", ["use_case", "made_at"], unique=False)
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("release", sa.String(length=160), nullable=False),
        sa.Column("previous", sa.String(length=160), nullable=True),
        sa.Column("state", sa.String(length=160), nullable=False),
        sa.Column("policy", Json, nullable=False),
        sa.Column("data", Json, nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollouts")),
    )
    op.create_index(op.f("ix_rollouts_state"), "rollouts", ["state"], unique=False)
    op.create_index(op.f("ix_rollouts_use_case_made_at"), "rollouts", ["use_case", "made_at"], unique=False)
    op.create_table(
        "samples",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("site", sa.String(length=160), nullable=False),
        sa.Column("device", sa.String(length=160), nullable=True),
        sa.Column("epoch", sa.String(length=32), nullable=True),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("frame", sa.Text(), nullable=False),
        sa.Column("group", sa.Text(), nullable=False),
        sa.Column("taken_at", UtcDateTime(), nullable=False),
        sa.Column("kept_at", UtcDateTime(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("why", sa.String(length=160), nullable=False),
        sa.Column("inclusion_probability", sa.Float(), nullable=False),
        sa.Column("blob", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("media_type", sa.String(length=160), nullable=False),
        sa.Column("decision", Json, nullable=True),
        sa.Column("shadow", Json, nullable=True),
        sa.Column("rollout", sa.String(length=32), nullable=True),
        sa.Column("facts", Json, nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Float(), server_default="0", nullable=False),
        sa.Column("label", sa.String(length=160), nullable=True),
        sa.Column("labelled_at", UtcDateTime(), nullable=True),
        sa.Column("purpose", sa.String(length=160), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_samples")),
    )
    op.create_index(op.f("ix_samples_blob"), "samples", ["blob"], unique=False)
    op.create_index(op.f("ix_samples_device_frame"), "samples", ["device", "frame"], unique=False)
    op.create_index(op.f("ix_samples_rollout"), "samples", ["rollout"], unique=False)
    op.create_index(
        op.f("ix_samples_use_case_label_priority_rank_received_at"),
        "samples",
        ["use_case", "label", "priority", "rank", "received_at"],
        unique=False,
    )
    op.create_index(op.f("ix_samples_use_case_purpose"), "samples", ["use_case", "purpose"], unique=False)
    op.create_index(
        op.f("ix_samples_use_case_received_at_id"), "samples", ["use_case", "received_at", "id"], unique=False
    )
    op.create_table(
        "scorecards",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_scorecards")),
    )
    op.create_index(op.f("ix_scorecards_use_case_bundle"), "scorecards", ["use_case", "bundle"], unique=False)
    op.create_table(
        "segments",
        sa.Column("device", sa.String(length=160), nullable=False),
        sa.Column("epoch", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("record_class", sa.String(length=160), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("duplicates", sa.Integer(), server_default="0", nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("transform", sa.Text(), nullable=False),
        sa.Column("sealed_at", UtcDateTime(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("refused_code", sa.String(length=160), nullable=True),
        sa.Column("refused_text", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("device", "epoch", "number", name=op.f("pk_segments")),
    )
    op.create_table(
        "signing_requests",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=160), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("answered_by", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("release", sa.String(length=160), nullable=True),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_requests")),
    )
    op.create_index(op.f("ix_signing_requests_bundle"), "signing_requests", ["bundle"], unique=False)
    op.create_index(op.f("ix_signing_requests_state_made_at"), "signing_requests", ["state", "made_at"], unique=False)
    op.create_table(
        "telemetry",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("site", sa.String(length=160), nullable=False),
        sa.Column("device", sa.String(length=160), nullable=False),
        sa.Column("start", UtcDateTime(), nullable=False),
        sa.Column("end", UtcDateTime(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("release", sa.String(length=160), nullable=True),
        sa.Column("bundle", sa.String(length=64), nullable=True),
        sa.Column("rollout", sa.String(length=32), nullable=True),
        sa.Column("decisions", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes_decided", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("alarms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("paired", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("disagreed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("labels", Json, nullable=True),
        sa.Column("latency_ms", Json, nullable=True),
        sa.Column("shed", Json, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_telemetry")),
    )
    op.create_index(op.f("ix_telemetry_rollout"), "telemetry", ["rollout"], unique=False)
    op.create_index(op.f("ix_telemetry_use_case_start"), "telemetry", ["use_case", "start"], unique=False)
    op.create_table(
        "tuf_pending",
        sa.Column("role", sa.String(length=160), nullable=False),
        sa.Column("set", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("files", Json, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("role", name=op.f("pk_tuf_pending")),
    )
    op.create_table(
        "tuf_roles",
        sa.Column("role", sa.String(length=160), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("role", "version", name=op.f("pk_tuf_roles")),
    )
    op.create_table(
        "tuf_targets",
        sa.Column("path", sa.String(length=400), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("path", "sha256", name=op.f("pk_tuf_targets")),
    )
    op.create_table(
        "usecases",
        sa.Column("name", sa.String(length=160), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("body", Json, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_usecases")),
    )
    op.create_table(
        "verdicts",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("candidate", sa.String(length=64), nullable=False),
        sa.Column("champion", sa.String(length=64), nullable=True),
        sa.Column("result", sa.String(length=160), nullable=False),
        sa.Column("order", sa.String(length=32), nullable=True),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_verdicts")),
    )
    op.create_index(op.f("ix_verdicts_candidate"), "verdicts", ["candidate"], unique=False)
    op.create_index(op.f("ix_verdicts_use_case_made_at"), "verdicts", ["use_case", "made_at"], unique=False)
    op.create_table(
        "watermarks",
        sa.Column("device", sa.String(length=160), nullable=False),
        sa.Column("epoch", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("device", "epoch", name=op.f("pk_watermarks")),
    )
    op.create_table(
        "labels",
        sa.Column("position", Position, autoincrement=True, nullable=False),
        sa.Column("sample", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.String(length=160), nullable=False),
        sa.Column("label", sa.String(length=160), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["sample"], ["samples.id"], name=op.f("fk_labels_sample")),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_labels")),
    )
    op.create_index(op.f("ix_labels_sample"), "labels", ["sample"], unique=False)
    op.create_index(op.f("ix_labels_use_case_position"), "labels", ["use_case", "position"], unique=False)
