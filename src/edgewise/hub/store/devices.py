"""Questions about devices: who they are, what they should run, what they say."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub.store._rows import columns, many, of_sites, one
from edgewise.hub.store.tables import commits, devices, enrolment_tokens
from edgewise.wire import Assignment, CapabilityCard, PublicKey, Report, decode, plain

COMMITTED = "committed"  # the phase in which a device's bundle has passed its trial


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceRow:
    id: str
    site: str
    use_case: str
    labels: dict[str, str]
    public: str
    keyid: str
    facts: dict[str, Any]
    enrolled_at: datetime
    certificate_ends_at: datetime | None
    revoked_at: datetime | None
    seen_at: datetime | None
    sent_at: datetime | None
    report: dict[str, Any] | None
    phase: str | None
    release: str | None
    bundle: str | None
    assignment_number: int
    assignment: dict[str, Any] | None
    clone_seen: str | None
    pin: dict[str, Any] | None = None
    conflict: dict[str, Any] | None = None
    card_told: dict[str, Any] | None = None

    @property
    def in_conflict(self) -> str:
        """What it reports that this hub does not know, as a sentence; empty where nobody has to decide."""
        return "" if self.conflict is None or self.conflict["resolved"] is not None else str(self.conflict["text"])

    @property
    def public_key(self) -> PublicKey:
        return PublicKey(keyid=self.keyid, public=self.public)

    @property
    def last_report(self) -> Report | None:
        return None if self.report is None else Report.model_validate_json(json.dumps(self._whole_report()))

    def _whole_report(self) -> dict[str, Any]:
        return {**(self.report or {}), **(self.card_told or {})}

    @property
    def card(self) -> CapabilityCard | None:
        """What the device measured of itself; its signature was verified before it was stored."""
        report = self.last_report
        if report is None or report.card is None:
            return None
        return decode(CapabilityCard, base64.b64decode(report.card.payload))

    @property
    def wanted(self) -> Assignment | None:
        """The assignment in force."""
        return None if self.assignment is None else Assignment.model_validate_json(json.dumps(self.assignment))


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitRow:
    """A release was seen committed on a device, from `since` to at least `last_at` (hub time)."""

    device: str
    use_case: str
    release: str
    bundle: str
    since: datetime
    last_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class EnrolmentRow:
    digest: str
    site: str
    use_case: str
    device: str | None
    labels: dict[str, str]
    expires_at: datetime
    used_at: datetime | None


def get(connection: sa.Connection, device: str) -> DeviceRow | None:
    return one(connection, DeviceRow, columns(devices, DeviceRow).where(devices.c.id == device))


def find(
    connection: sa.Connection,
    *,
    use_case: str | None = None,
    site: str | None = None,
    sites: Collection[str] | None = None,
) -> list[DeviceRow]:
    """Devices by name, of one use case or site where one is named, and only of these sites where some are."""
    statement = columns(devices, DeviceRow).where(*of_sites(devices.c.site, sites)).order_by(devices.c.id)
    if use_case is not None:
        statement = statement.where(devices.c.use_case == use_case)
    if site is not None:
        statement = statement.where(devices.c.site == site)
    return many(connection, DeviceRow, statement)


def names(connection: sa.Connection, use_case: str) -> list[str]:
    """The names of all devices of a use case."""
    statement = sa.select(devices.c.id).where(devices.c.use_case == use_case).order_by(devices.c.id)
    return list(connection.execute(statement).scalars())


def sites(connection: sa.Connection, use_case: str) -> list[str]:
    """The sites at which a use case has devices."""
    statement = sa.select(devices.c.site).where(devices.c.use_case == use_case).distinct().order_by(devices.c.site)
    return list(connection.execute(statement).scalars())


def by_key(connection: sa.Connection, keyid: str) -> DeviceRow | None:
    return one(connection, DeviceRow, columns(devices, DeviceRow).where(devices.c.keyid == keyid))


def add(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    connection.execute(sa.insert(devices).values(**row))


def change(connection: sa.Connection, device: str, **values: Any) -> None:
    statement = sa.update(devices).where(devices.c.id == device).values(**values)
    connection.execute(statement.execution_options(edgewise_device=device))


def set_apart(connection: sa.Connection, conflict: Mapping[str, Any]) -> int:
    """Give every device this conflict, instead of any other; comes back with how many there are."""
    return connection.execute(sa.update(devices).values(conflict=dict(conflict))).rowcount


def unheard(connection: sa.Connection) -> int:
    """How many devices were not heard since a restore."""
    where = devices.c.conflict["unheard"].as_boolean()
    return int(connection.execute(sa.select(sa.func.count()).select_from(devices).where(where)).scalar_one())


def conflicted(connection: sa.Connection, *, limit: int) -> list[str]:
    """Devices that report what this hub does not know, and wait for a person."""
    statement = sa.select(devices.c.id, devices.c.conflict).where(devices.c.conflict.is_not(None))
    found = connection.execute(statement.order_by(devices.c.id))
    waiting = (row.id for row in found if row.conflict["resolved"] is None and not row.conflict.get("unheard"))
    return list(itertools.islice(waiting, limit))


def assign(connection: sa.Connection, assignment: Assignment) -> None:
    """Make this the device's desired state. Its number must be one above the last."""
    change(connection, assignment.device, assignment=plain(assignment), assignment_number=assignment.number)


def heard(connection: sa.Connection, device: DeviceRow, report: Report, *, sent_at: datetime, now: datetime) -> None:
    """Keep what the device says about itself, and how long its release has been committed there."""
    values: dict[str, Any] = {"seen_at": now, "sent_at": sent_at, "phase": report.phase}
    values |= {"release": report.release, "bundle": report.bundle, **_told(report)}
    if report.facts:
        # Whole, not merged: a fact that is not told any more is not known any more.
        values["facts"] = report.facts
    statement = sa.update(devices).where(devices.c.id == device.id).values(**values)
    connection.execute(statement.execution_options(edgewise_own_word=True))
    if report.release and report.bundle:
        is_new = report.phase.lower() == COMMITTED
        _committed(connection, device, report.release, report.bundle, now, is_new=is_new)


def _told(report: Report) -> dict[str, Any]:
    """The columns of a report: its card, which changes rarely, stands apart."""
    fields = plain(report)
    card = {name: fields.pop(name) for name in ("card", "card_refused") if name in fields}
    return {"report": fields, "card_told": card or None}


@dataclass(frozen=True, kw_only=True, slots=True)
class QuietWord:
    """What a device said in a contact that changed nothing else."""

    device: str
    report: Report  # with the facts of its card, without the card
    stretch: int | None  # of `commits`
    sent_at: datetime
    at: datetime


def heard_quiet(connection: sa.Connection, words: Sequence[QuietWord]) -> None:
    """As `heard`, for many devices at once, whose phase, release and card are as they were."""
    key: sa.BindParameter[Any] = sa.bindparam("key")
    update = sa.update(devices).where(devices.c.id == key).execution_options(edgewise_own_word=True)
    rows = [
        {"key": word.device, "seen_at": word.at, "sent_at": word.sent_at, "report": _told(word.report)["report"]}
        for word in words
    ]
    connection.execute(update, rows)
    facts = [{"key": word.device, "facts": word.report.facts} for word in words if word.report.facts]
    if facts:
        connection.execute(update, facts)
    longer = [{"key": word.stretch, "last_at": word.at} for word in words if word.stretch is not None]
    if longer:
        connection.execute(sa.update(commits).where(commits.c.position == key), longer)


def stretch(connection: sa.Connection, device: DeviceRow) -> int | None:
    """The row of `commits` that lasts while the device reports what it reported last; None where there is none."""
    return _stretch(connection, device.id, device.release, device.bundle)


def _stretch(connection: sa.Connection, device: str, release: str | None, bundle: str | None) -> int | None:
    last = sa.select(commits.c.position, commits.c.release, commits.c.bundle).where(commits.c.device == device)
    row = connection.execute(last.order_by(commits.c.position.desc()).limit(1)).first()
    return int(row.position) if row is not None and (row.release, row.bundle) == (release, bundle) else None


def _committed(
    connection: sa.Connection, device: DeviceRow, release: str, bundle: str, now: datetime, *, is_new: bool
) -> None:
    """Lengthen the device's newest stretch, or begin one. While it works on an update it still runs what it ran."""
    here = _stretch(connection, device.id, release, bundle)
    if here is not None:
        connection.execute(sa.update(commits).where(commits.c.position == here).values(last_at=now))
        return
    if not is_new:
        return
    values = {"device": device.id, "use_case": device.use_case, "release": release, "bundle": bundle}
    connection.execute(sa.insert(commits).values(**values, since=now, last_at=now))


def commits_of(
    connection: sa.Connection, *, use_case: str | None = None, device: str | None = None, release: str | None = None
) -> list[CommitRow]:
    """Where and when releases were committed, oldest first."""
    statement = columns(commits, CommitRow).order_by(commits.c.position)
    for column, value in ((commits.c.use_case, use_case), (commits.c.device, device), (commits.c.release, release)):
        if value is not None:
            statement = statement.where(column == value)
    return many(connection, CommitRow, statement)


def add_token(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    connection.execute(sa.insert(enrolment_tokens).values(**row))


def token(connection: sa.Connection, digest: str) -> EnrolmentRow | None:
    statement = columns(enrolment_tokens, EnrolmentRow).where(enrolment_tokens.c.digest == digest)
    return one(connection, EnrolmentRow, statement)


def use_token(connection: sa.Connection, digest: str, device: str, now: datetime) -> None:
    connection.execute(
        sa.update(enrolment_tokens).where(enrolment_tokens.c.digest == digest).values(used_at=now, used_by=device)
    )


def token_user(connection: sa.Connection, digest: str) -> str | None:
    """The device that a token made known, None while it is unused."""
    column = enrolment_tokens.c.used_by
    return connection.execute(sa.select(column).where(enrolment_tokens.c.digest == digest)).scalar_one_or_none()
