"""Questions that follow a thing through the ledger: in which revisions a sample is, what was made of a revision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, one
from edgewise.hub.store.orders import OrderRow
from edgewise.hub.store.releases import ReleaseRow
from edgewise.hub.store.tables import bundles, commits, orders, releases, revisions, samples, telemetry, verdicts
from edgewise.hub.store.verdicts import VerdictRow


@dataclass(frozen=True, kw_only=True, slots=True)
class RevisionRow:
    """A revision without its lines."""

    digest: str
    use_case: str
    made_at: datetime
    parent: str | None
    count: int
    new: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditCount:
    """Labelled audit samples that a release decided at a site, and how many of them it decided right."""

    release: str
    site: str
    right: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditRow:
    """One frame that was drawn at random for audit: what the release said, and the label where there is one."""

    id: str
    site: str
    group: str
    inclusion_probability: float
    told: str | None
    label: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldCount:
    """What one device counted while it ran a release."""

    release: str
    site: str
    device: str
    decisions: int
    overrides: int | None  # none where any of its windows hides them


def revision(connection: sa.Connection, digest: str) -> RevisionRow | None:
    return one(connection, RevisionRow, columns(revisions, RevisionRow).where(revisions.c.digest == digest))


def revisions_list(connection: sa.Connection, use_case: str, *, limit: int) -> list[RevisionRow]:
    """Revisions of a use case without their lines, newest first."""
    statement = columns(revisions, RevisionRow).where(revisions.c.use_case == use_case)
    return many(
        connection, RevisionRow, statement.order_by(revisions.c.made_at.desc(), revisions.c.digest).limit(limit)
    )


def revisions_of(connection: sa.Connection, use_case: str) -> list[str]:
    """Digests of all revisions of a use case, oldest first."""
    statement = sa.select(revisions.c.digest).where(revisions.c.use_case == use_case)
    return list(connection.execute(statement.order_by(revisions.c.made_at, revisions.c.digest)).scalars())


def revisions_with(connection: sa.Connection, use_case: str, sample: str, *, limit: int) -> list[RevisionRow]:
    """Revisions in whose bytes the sample's id occurs, oldest first.

    An id is 128 random bits: it occurs nowhere by chance. The database looks, so that no body is fetched.
    """
    place_of = sa.func.strpos if connection.dialect.name == "postgresql" else sa.func.instr
    body = sa.func.encode(revisions.c.body, "escape") if connection.dialect.name == "postgresql" else revisions.c.body
    pattern: str | bytes = sample if connection.dialect.name == "postgresql" else sample.encode()
    statement = columns(revisions, RevisionRow).where(revisions.c.use_case == use_case, place_of(body, pattern) > 0)
    return many(connection, RevisionRow, statement.order_by(revisions.c.made_at, revisions.c.digest).limit(limit))


def orders_on(connection: sa.Connection, revision: str, *, limit: int) -> list[OrderRow]:
    """Orders on this revision, oldest first."""
    statement = columns(orders, OrderRow).where(orders.c.revision == revision)
    return many(connection, OrderRow, statement.order_by(orders.c.made_at, orders.c.id).limit(limit))


def order_of_bundle(connection: sa.Connection, bundle: str) -> OrderRow | None:
    """The order that the bundle answers, also as a variant."""
    name = sa.select(bundles.c.order).where(bundles.c.digest == bundle).scalar_subquery()
    return one(connection, OrderRow, columns(orders, OrderRow).where(orders.c.id == name))


def use_case_of_bundle(connection: sa.Connection, bundle: str) -> str | None:
    return connection.execute(sa.select(bundles.c.use_case).where(bundles.c.digest == bundle)).scalar_one_or_none()


def verdicts_on(connection: sa.Connection, bundle: str, *, limit: int) -> list[VerdictRow]:
    """What the gate said of a bundle, oldest first."""
    statement = columns(verdicts, VerdictRow).where(verdicts.c.candidate == bundle)
    return many(connection, VerdictRow, statement.order_by(verdicts.c.made_at, verdicts.c.digest).limit(limit))


def releases_of(connection: sa.Connection, use_case: str) -> list[ReleaseRow]:
    """All releases of a use case, oldest first."""
    statement = columns(releases, ReleaseRow).where(releases.c.use_case == use_case)
    return many(connection, ReleaseRow, statement.order_by(releases.c.version))


def devices_of(connection: sa.Connection, names: Sequence[str]) -> dict[str, tuple[int, datetime, datetime]]:
    """Of each release that ran: on how many devices, first and last heard of there."""
    ran = sa.func.count(sa.distinct(commits.c.device))
    statement = sa.select(commits.c.release, ran, sa.func.min(commits.c.since), sa.func.max(commits.c.last_at))
    statement = statement.where(commits.c.release.in_(names)).group_by(commits.c.release)
    return {name: (count, first, last) for name, count, first, last in connection.execute(statement)}


def audit_counts(connection: sa.Connection, use_case: str, good_labels: Sequence[str]) -> list[AuditCount]:
    """Labelled audit samples by the release that decided them and by site; all good labels are one.

    They were drawn at random on the device, so they stand for all frames; what an operator spoke of does not.
    """
    release = samples.c.decision["release"].as_string()
    told = samples.c.decision["label"].as_string()
    same = sa.or_(told == samples.c.label, sa.and_(told.in_(good_labels), samples.c.label.in_(good_labels)))
    right = sa.func.sum(sa.case((same, 1), else_=0))
    where = (samples.c.use_case == use_case, samples.c.why == "audit", samples.c.label.is_not(None))
    statement = sa.select(release, samples.c.site, right, sa.func.count()).where(*where, release.is_not(None))
    statement = statement.group_by(release, samples.c.site).order_by(release, samples.c.site)
    return [
        AuditCount(release=name, site=site, right=int(right), total=int(total))
        for name, site, right, total in connection.execute(statement)
    ]


def audit_rows(
    connection: sa.Connection, use_case: str, release: str, *, since: datetime, limit: int
) -> list[AuditRow]:
    """Audit samples that a release decided since then, newest first, with and without a label."""
    told = samples.c.decision["label"].as_string()
    columns = (samples.c.id, samples.c.site, samples.c.group, samples.c.inclusion_probability, told, samples.c.label)
    where = (
        samples.c.use_case == use_case,
        samples.c.why == "audit",
        samples.c.decision["release"].as_string() == release,
        samples.c.taken_at >= since,
    )
    statement = sa.select(*columns).where(*where).order_by(samples.c.taken_at.desc(), samples.c.id).limit(limit)
    return [
        AuditRow(id=id_, site=site, group=group, inclusion_probability=chance, told=word, label=label)
        for id_, site, group, chance, word, label in connection.execute(statement)
    ]


def field_counts(connection: sa.Connection, use_case: str, *, since: datetime | None = None) -> list[FieldCount]:
    """Decisions and operators' overrides by release and device, over all telemetry, or that which came since then."""
    key = (telemetry.c.release, telemetry.c.site, telemetry.c.device)
    hidden = sa.func.sum(sa.case((telemetry.c.overrides.is_(None), 1), else_=0))
    sums = (sa.func.sum(telemetry.c.decisions), sa.func.sum(telemetry.c.overrides), hidden)
    where = (telemetry.c.use_case == use_case, telemetry.c.release.is_not(None))
    statement = sa.select(*key, *sums).where(*where).group_by(*key).order_by(*key)
    if since is not None:
        statement = statement.where(telemetry.c.end >= since)
    return [
        FieldCount(
            release=release,
            site=site,
            device=device,
            decisions=int(decisions),
            overrides=None if hidden else int(overrides or 0),
        )
        for release, site, device, decisions, overrides, hidden in connection.execute(statement)
    ]
