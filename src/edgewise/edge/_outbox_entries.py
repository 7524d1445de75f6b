"""What an outbox holds, as entries again: for moving it into another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from edgewise.edge import _outbox_sql as sql
from edgewise.edge._outbox_records import Entry, unpack
from edgewise.ports import Blobs
from edgewise.wire import (
    CLASSES,
    AnyRecord,
    Event,
    Feedback,
    NotTrusted,
    NotValid,
    Readings,
    Sample,
    SegmentHeader,
    Telemetry,
    decode,
    loads,
)

KINDS: dict[str, type[AnyRecord]] = {
    "sample": Sample,
    "feedback": Feedback,
    "telemetry": Telemetry,
    "readings": Readings,
    "event": Event,
}
BATCH = 200


def held_entries(
    rows: Callable[..., list[Any]],
    segments: Sequence[SegmentHeader],
    payload: Callable[[int], bytes],
    blobs: Blobs,
) -> Iterator[Entry]:
    """Sealed records, then waiting ones, each with its content; those that cannot be read are left out.

    Args:
        rows: asks the outbox's file.
        payload: the bytes of a segment by its number.
    """
    for header in segments:
        for line in unpack(payload(header.number)):
            about = rows(sql.ABOUT_OF_ID, loads(line)["id"])
            head = (CLASSES.index(header.record_class), header.policy_version, header.transform)
            yield from _entry(*head, line, *(about[0] if about else (None, None)), blobs=blobs)
    last = -1
    while batch := rows(sql.WAITING_WHOLE, last, BATCH):
        for seq, *fields in batch:
            yield from _entry(*fields, blobs=blobs)
            last = seq


def _entry(
    rank: int,
    policy_version: int,
    transform: str,
    body: bytes | None,
    subject: str | None,
    about_at: float | None,
    *,
    blobs: Blobs,
) -> Iterator[Entry]:
    if body is None:
        return
    record = decode(KINDS[loads(body)["kind"]], body)
    content = None
    if isinstance(record, Sample):
        try:
            content = blobs.get(record.blob)
        except (NotValid, NotTrusted):
            return
    yield Entry(
        record=record,
        record_class=CLASSES[rank],
        policy_version=policy_version,
        transform=transform,
        content=content,
        subject=subject or "",
        about_at=None if about_at is None else datetime.fromtimestamp(about_at, UTC),
    )
