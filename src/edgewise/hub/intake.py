"""One contact of one device: store what is new exactly once, acknowledge what is durable, say what to run.

The promises (invariants 2 and 3): records, their segment and the watermark change in one transaction; the receipt is
made from what that transaction committed and leaves the hub only after it; numbers are accepted without gaps, without
any time window; the same number with other bytes means that two devices use one key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub import audit, drift_sketches, epochs, erasures, refusals, reports, repository, site_sums
from edgewise.hub.cards import with_card
from edgewise.hub.known import KnownDevices, known_device, next_contact_s
from edgewise.hub.limits import Limits
from edgewise.hub.odd import oddities
from edgewise.hub.segments import Records, check_storable, open_segment
from edgewise.hub.store import Store, devices, samples, usecases
from edgewise.hub.store import intake as rows
from edgewise.hub.store.devices import DeviceRow
from edgewise.hub.streams import Streams
from edgewise.ports import Chance
from edgewise.trust import PrivateKey, seal
from edgewise.wire import (
    ASSIGNMENT_TYPE,
    Assignment,
    DataPolicy,
    Envelope,
    Erasure,
    NotTrusted,
    NotValid,
    Receipt,
    Refusal,
    Sample,
    SegmentHeader,
    UploadHeader,
    digest,
    encode,
    plain,
    unpack_upload,
    upload_head,
)
from edgewise.wire.trace import trace_id

AT_ONCE_BYTES_MAX = 64 << 10  # of an upload that is looked at where it arrives; a report has about 1 kB
INTEGER_MAX = 2**31 - 1  # of a plain integer column in PostgreSQL


class Gap(NotValid):
    """The device skipped numbers: it must send again from `watermark` + 1."""

    def __init__(self, message: str, *, watermark: int, epoch: str) -> None:
        super().__init__(message, code="gap")
        self.watermark = watermark
        self.epoch = epoch


class ClonedKey(NotTrusted):
    """Two different segments carry one number: the device's key or its outbox was copied."""

    def __init__(self, message: str, *, seen: str) -> None:
        super().__init__(message, code="cloned_key")
        self.seen = seen


@dataclass(frozen=True, kw_only=True, slots=True)
class _Segment:
    """One segment looked at before the transaction."""

    header: SegmentHeader
    payload: bytes
    records: Records | None = None
    refusal: Refusal | None = None
    missing: tuple[str, ...] = ()


def handle_contact(
    store: Store,
    device: str,
    body: bytes,
    now: datetime,
    *,
    known: KnownDevices,
    hub_epoch: str,
    signer_key: Callable[[], PrivateKey],
    chance: Chance,
    limits: Limits,
) -> bytes:
    """The bytes of the Receipt for an upload whose sender was verified as `device`.

    Raises:
        NotTrusted: the upload names another device, the device is unknown or shut out, or its key was cloned.
        NotValid: not an upload; with code ``gap`` (a `Gap`) when numbers are missing.
        NotNow: the store cannot take it now; nothing was changed.
    """
    if len(body) > limits.contact_bytes_max:
        raise NotValid(
            f"the upload has {len(body)} bytes, at most {limits.contact_bytes_max} are taken", code="too_big"
        )
    header, payloads = unpack_upload(body)
    check_upload(header, payloads, body, device)
    quiet = _quiet_answer(header, now, known=known, hub_epoch=hub_epoch, chance=chance, limits=limits)
    if quiet is not None:
        return quiet
    with store.read() as connection:
        row = known_device(connection, device)
        usecase, policies = usecases.in_force(connection, row.use_case)
        seen = rows.watermark(connection, device, header.epoch)
        metadata = repository.newest_metadata(connection)
    # Unpacking is slow, so it is done outside the transaction, and only for what is new.
    looked = [
        _look(store, segment, payload, row.site, policies, limits)
        if segment.number > seen
        else _Segment(header=segment, payload=payload)
        for segment, payload in zip(header.segments, payloads, strict=True)
    ]

    trace = trace_id()  # here: another thread may be the one that writes

    def take(connection: sa.Connection) -> tuple[Receipt, DeviceRow]:
        receipt, row = _take(connection, header, looked, now, hub_epoch, trace)
        if row.assignment is not None and row.assignment["hub_epoch"] != hub_epoch:
            epochs.note_erased_more(connection, header, hub_epoch, now)
            row = known_device(connection, device)
            if epochs.heard(connection, row, hub_epoch=hub_epoch, now=now):
                row = known_device(connection, device)
        # After what it sent: that may have been sealed before it erased.
        version = usecase.data.version
        if erasures.heard(connection, row, header, hub_epoch=hub_epoch, policy_version=version, now=now):
            row = known_device(connection, device)
        known.drop(device)
        return receipt, row

    try:
        receipt, row = store.write_grouped(take)
        known.drop(device)  # once more: it may have been read again before the commit
    except Gap:
        with store.write() as connection:
            epochs.note_gap(connection, header, now)
        raise
    except ClonedKey as error:
        _note_clone(store, device, error, now)
        raise
    for kind, text in oddities(row, header, brought=receipt.watermark > seen, now=now, limits=limits):
        known.sightings.add(kind, device, text, now)
    if receipt.watermark > seen:
        _note_two_epochs(store, device, header.epoch, now)
    answer = {
        "assignment": _assignment(row, header.has_assignment, signer_key),
        "metadata": metadata,
        "next_contact_s": next_contact_s(usecase.connectivity.contact_s, chance, limits),
    }
    if looked and all(one.records is not None and one.records.is_plain for one in looked):
        known.learn(header, now)
    return encode(receipt.model_copy(update=answer))


def handle_at_once(
    device: str,
    body: bytes,
    now: datetime,
    *,
    known: KnownDevices,
    streams: Streams,
    hub_epoch: str,
    chance: Chance,
    limits: Limits,
) -> bytes | Future[bytes | None] | None:
    """The Receipt's bytes where that takes no look at the store, or the promise of them; None: ask `handle_contact`."""
    if len(body) > AT_ONCE_BYTES_MAX or not known.holds(device, now):
        return None
    header, payloads = unpack_upload(body)
    check_upload(header, payloads, body, device)
    if payloads:
        return streams.offer(header, payloads, now)
    return _quiet_answer(header, now, known=known, hub_epoch=hub_epoch, chance=chance, limits=limits)


def _quiet_answer(
    header: UploadHeader, now: datetime, *, known: KnownDevices, hub_epoch: str, chance: Chance, limits: Limits
) -> bytes | None:
    quiet = known.quiet(header, now)
    if quiet is None:
        return None
    return quiet.receipt(quiet.watermark, now, hub_epoch=hub_epoch, chance=chance, limits=limits)


def check_upload(header: UploadHeader, payloads: list[bytes], body: bytes, device: str) -> None:
    """Refuse an upload in another's name, or whose parts are not what it says.

    Raises:
        NotTrusted: it names another device.
        NotValid: a number, a text or a payload does not hold.
    """
    if header.device != device:
        raise NotTrusted(f"device {device} sent an upload in the name of {header.device}", code="wrong_device")
    numbers = [segment.number for segment in header.segments]
    too_big = [s.number for s in header.segments if max(s.count, s.policy_version) > INTEGER_MAX]
    if too_big:
        raise NotValid(f"segment {too_big[0]} has a count or policy version over {INTEGER_MAX}", code="upload_invalid")
    check_storable(upload_head(body), header, f"the header of device {device}")
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) if numbers else False:
        raise NotValid(f"segments must be numbered one after the other; seen {numbers}", code="upload_invalid")
    for segment, payload in zip(header.segments, payloads, strict=True):
        if digest(payload) != segment.sha256:
            raise NotValid(
                f"segment {segment.number} is {digest(payload)[:12]}…, not {segment.sha256[:12]}…; send it again",
                code="upload_corrupt",
            )


def _look(
    store: Store, header: SegmentHeader, payload: bytes, site: str, policies: Sequence[DataPolicy], limits: Limits
) -> _Segment:
    try:
        records = open_segment(header, payload, site=site, policies=policies, limits=limits)
    except NotValid as error:
        # Refused for good: the number is taken and the device told, else one bad segment would block it for ever.
        refusal = Refusal(number=header.number, code=error.code, text=str(error)[:500])
        return _Segment(header=header, payload=payload, refusal=refusal)
    missing = tuple(blob for blob in dict.fromkeys(header.blobs) if not store.blobs.has(blob))
    return _Segment(header=header, payload=payload, records=records, missing=missing)


def _take(
    connection: sa.Connection,
    header: UploadHeader,
    looked: list[_Segment],
    now: datetime,
    hub_epoch: str,
    trace: str | None,
) -> tuple[Receipt, DeviceRow]:
    """All that this contact changes, the receipt for it and the device; the caller's write makes all true at once."""
    device = known_device(connection, header.device)
    watermark = before = rows.watermark(connection, device.id, header.epoch)
    refused: list[Refusal] = []
    missing: tuple[str, ...] = ()
    in_force = erasures.in_force_for(connection, device) if header.segments else []
    for segment in looked:
        number = segment.header.number
        if number <= watermark:
            refused += _again(connection, device.id, header.epoch, segment.header)
            continue
        if number != watermark + 1:
            raise Gap(
                f"device {device.id} sent number {number}, the hub has everything up to {watermark}; "
                f"send again from {watermark + 1}",
                watermark=watermark,
                epoch=header.epoch,
            )
        if segment.missing:
            missing = segment.missing
            break
        _store_segment(connection, device, header.epoch, segment, in_force, now, trace)
        refused += [segment.refusal] if segment.refusal is not None else []
        watermark = number
    if watermark != before or before == 0:
        rows.move_watermark(connection, device.id, header.epoch, number=watermark, now=now)
    if header.acked > before:
        epochs.note_gap(connection, header, now)  # this hub was restored from a backup
    report = with_card(connection, device, header.report, now)
    reports.heard(connection, device, report, sent_at=header.sent_at, now=now)
    receipt = Receipt(
        watermark=watermark,
        epoch=header.epoch,
        hub_epoch=hub_epoch,
        missing_blobs=missing,
        refused=tuple(refused),
        next_contact_s=1,
        at=now,
    )
    return receipt, device


def _again(connection: sa.Connection, device: str, epoch: str, header: SegmentHeader) -> list[Refusal]:
    """A number that was acknowledged before: the same bytes are acknowledged again, other bytes betray a clone."""
    stored = rows.segment(connection, device, epoch, header.number)
    assert stored is not None, f"watermark of {device}/{epoch} covers {header.number}, but no such segment is stored"
    if stored.sha256 != header.sha256:
        raise ClonedKey(
            f"device {device} sent number {header.number} as {header.sha256[:12]}…, the hub stored it as "
            f"{stored.sha256[:12]}…: two devices use one key; shut this device out and enrol both again",
            seen=f"{epoch}:{header.number}:{header.sha256}",
        )
    if stored.refused_code is None:
        return []
    return [Refusal(number=header.number, code=stored.refused_code, text=stored.refused_text or "")]


def _store_segment(
    connection: sa.Connection,
    device: DeviceRow,
    epoch: str,
    segment: _Segment,
    in_force: Sequence[tuple[Erasure, datetime | None]],
    now: datetime,
    trace: str | None,
) -> None:
    header = segment.header
    if segment.records is None:
        assert segment.refusal is not None
        refused = (segment.refusal.code, segment.refusal.text)
        row = rows.segment_row(device.id, epoch, header, body=None, refused=refused, now=now, trace=trace)
        rows.add_segments(connection, [row])
        data = {"number": header.number, "epoch": epoch, "code": refused[0], "class": header.record_class}
        actor = f"device {device.id}"
        audit.note(connection, actor=actor, action="segment.refused", subject=device.id, data=data, now=now)
        return
    records, body, left_out = erasures.leave_out(
        connection, device, header, segment.payload, segment.records, in_force, now
    )
    windows = [rows.telemetry_row(device.use_case, device.id, record, now) for record in records.telemetry]
    blocks = [rows.readings_row(device.use_case, device.id, record, start, now) for record, start in records.readings]
    told = rows.add_events(connection, device.use_case, device.id, records.events, now)
    new = {
        "event": told,
        "sample": _add_samples(connection, device, epoch, header, records.samples, now),
        "telemetry": rows.add_telemetry(connection, windows),
        "readings": rows.add_readings(connection, blocks),
        "feedback": rows.add_feedback(connection, device.use_case, device.id, records.feedback, now),
    }
    drift_sketches.take(connection, device, [event for event in records.events if event.id in told], now)
    site_sums.take(connection, device, [event for event in records.events if event.id in told], now)
    refusals.note_refusals(connection, device.id, [event for event in records.events if event.id in told], now)
    samples.make_urgent(connection, device.id, [item.frame for item in records.feedback])
    # A record id seen before is a fault of the device; it is stored once and counted, so that it can be seen.
    duplicates = header.count - sum(map(len, new.values())) - left_out
    more: dict[str, Any] = {
        "duplicates": duplicates,
        "repeated": records.but(new) if duplicates else [],
        "trace": trace,
    }
    rows.add_segments(connection, [rows.segment_row(device.id, epoch, header, body=body, now=now, **more)])
    erasures.forget_told(connection, device, [event for event in records.events if event.id in told], now)


def _add_samples(
    connection: sa.Connection,
    device: DeviceRow,
    epoch: str,
    header: SegmentHeader,
    kept: tuple[Sample, ...],
    now: datetime,
) -> set[str]:
    spoken_of = samples.frames_spoken_of(connection, device.id, [sample.frame for sample in kept])
    origin = {"use_case": device.use_case, "device": device.id, "epoch": epoch, "number": header.number}
    alarm = header.record_class == "alarm"
    rows_ = [
        sample_row(sample, now) | origin | _urgency(sample, spoken_of=sample.frame in spoken_of, alarm=alarm)
        for sample in kept
    ]
    return samples.add(connection, rows_)


def sample_row(sample: Sample, now: datetime) -> dict[str, Any]:
    """The columns that follow from the sample alone."""
    fields = plain(sample)
    same = {name: fields[name] for name in ("id", "site", "frame", "why", "blob", "media_type", "decision", "facts")}
    return same | {
        "inclusion_probability": sample.inclusion_probability,
        "size_bytes": sample.size_bytes,
        "group": sample.group or sample.id,  # without a group every sample is its own, so that it can be split alone
        "taken_at": sample.taken_at,
        "kept_at": sample.kept_at,
        "received_at": now,
        "shadow": fields.get("shadow"),
        "rollout": sample.rollout,
    }


def _urgency(sample: Sample, *, spoken_of: bool, alarm: bool) -> dict[str, float]:
    priority = 0 if alarm else samples.PRIORITY[sample.why]
    if spoken_of and sample.shadow is None:  # a pair keeps its place, see `samples.make_urgent`
        priority = min(priority, samples.PRIORITY["feedback"])
    uncertain = priority == samples.PRIORITY["margin"]
    return {"priority": priority, "rank": sample.decision.margin if uncertain else 0.0}


def _note_clone(store: Store, device: str, error: ClonedKey, now: datetime) -> None:
    """Audit the clone once for each contradiction: a device that repeats itself must not fill the log."""
    with store.write() as connection:
        _add_clone(connection, device, error.seen, now)


def _note_two_epochs(store: Store, device: str, epoch: str, now: datetime) -> None:
    """A device begins a new epoch when its outbox is new, and never goes back; two outboxes mean two devices.

    What was sent is stored all the same: which of the two is the real one, only a person can find out.
    """
    with store.read() as connection:
        if not rows.has_newer_epoch(connection, device, epoch):
            return
    with store.write() as connection:
        _add_clone(connection, device, f"{epoch}:again", now)


def _add_clone(connection: sa.Connection, device: str, seen: str, now: datetime) -> None:
    row = devices.get(connection, device)
    if row is None or row.clone_seen == seen:
        return
    devices.change(connection, device, clone_seen=seen)
    actor, data = f"device {device}", {"seen": seen}
    audit.note(connection, actor=actor, action="device.cloned", subject=device, data=data, now=now)


def _assignment(device: DeviceRow, has: int, key: Callable[[], PrivateKey]) -> Envelope | None:
    """The assignment in force, signed for this device, unless it has it already (invariant 12)."""
    if device.assignment_number in (0, has) or device.assignment is None:
        return None
    return sign_assignment(device.wanted, key())


def sign_assignment(assignment: Assignment | None, key: PrivateKey) -> Envelope:
    """The assignment under the hub's online key."""
    assert assignment is not None
    return seal(encode(assignment), ASSIGNMENT_TYPE, [key])
