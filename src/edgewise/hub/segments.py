"""What is inside one segment, and whether the hub may take it. Pure: policy and bytes go in, records come out."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from edgewise import _zstd
from edgewise.delta import decode_series
from edgewise.hub.limits import Limits
from edgewise.policy import check_contents, check_segment
from edgewise.wire import (
    AnyRecord,
    DataPolicy,
    Event,
    Feedback,
    NotValid,
    Readings,
    Sample,
    SegmentHeader,
    Telemetry,
    encode,
    explain,
    loads,
)

RECORDS: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="kind")])
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_1_MS = (datetime(1, 1, 2, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
OPENED_BYTES_MAX = 1 << 31  # of a payload that was opened under its limit before
# An escape, a number of 16 digits or with an exponent of three, and words that are no JSON: look closer.
SUSPECT = re.compile(rb'[:,\[]\s*"?-?(?:[0-9]{16}|[0-9.]+[eE][+-]?[0-9]{3}|NaN|Infinity)|\\u')
WINDOW_LOG_MAX = 23  # 8 MB of memory are all that a payload may ask the decompressor for


@dataclass(frozen=True, kw_only=True, slots=True)
class Records:
    """The records of one segment, by kind."""

    samples: tuple[Sample, ...] = ()
    telemetry: tuple[Telemetry, ...] = ()
    events: tuple[Event, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    readings: tuple[tuple[Readings, datetime], ...] = ()  # each with the time of its first reading

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing that anything else follows from."""
        return not (self.samples or self.events or self.feedback)


def open_segment(
    header: SegmentHeader, payload: bytes, *, site: str, policies: Sequence[DataPolicy], limits: Limits
) -> Records:
    """The records of a segment that the policy allows.

    Args:
        site: where the device was enrolled; a record of another site would be judged by the wrong site's gate.
        policies: the data policy in force, then the use case's older ones: a device may have sealed under one of them.
    Raises:
        NotValid: forbidden by the policy, or not what the header says; the segment as a whole is refused.
    """
    check_segment(policies[0], header, earlier=policies[1:])
    lines = _inflate(payload, header.number, limits.inflated_bytes_max).splitlines()
    if len(lines) != header.count:
        raise _wrong(header, f"it holds {len(lines)} records, its header says {header.count}")
    records = [_record(header, line) for line in lines]
    for line, record in zip(lines, records, strict=True):
        check_storable(line, record, f"segment {header.number}: {record.kind} {record.id}")
    check_contents(next(item for item in policies if item.version == header.policy_version), header, records)
    for record in records:
        if not isinstance(record, Event) and record.site != site:
            raise _wrong(
                header, f"{record.kind} {record.id} is of site {record.site}, the device was enrolled at {site}"
            )
    return Records(
        samples=tuple(item for item in records if isinstance(item, Sample)),
        telemetry=tuple(item for item in records if isinstance(item, Telemetry)),
        events=tuple(item for item in records if isinstance(item, Event)),
        feedback=tuple(item for item in records if isinstance(item, Feedback)),
        readings=tuple(_blocks(header, records, limits)),
    )


def _blocks(header: SegmentHeader, records: Sequence[AnyRecord], limits: Limits) -> Iterator[tuple[Readings, datetime]]:
    """The blocks of readings, each with the time of its first one.

    Every block is read once, one at a time: what is stored as received must be readable later.
    """
    found = [item for item in records if isinstance(item, Readings)]
    total = sum(item.count for item in found)
    if total > limits.readings_max:
        raise _wrong(header, f"it holds {total} readings, at most {limits.readings_max} are taken")
    for item in found:
        columns = decode_series(item.block_bytes(), channels=len(item.channels), count=item.count)
        start = min(int(column.times_ms.min()) for column in columns)
        end = max(int(column.times_ms.max()) for column in columns)
        if end != (item.end - EPOCH) // timedelta(milliseconds=1) or start < YEAR_1_MS:
            raise _wrong(header, f"readings {item.id} are from {start} to {end} ms, not to {item.end.isoformat()}")
        yield item, EPOCH + timedelta(milliseconds=start)


def without(payload: bytes, ids: Container[str]) -> bytes:
    """A segment's payload that was opened before, without the records of these ids."""
    lines = _zstd.unpack(payload, bytes_max=OPENED_BYTES_MAX)[0].splitlines()
    kept = [line for line in lines if loads(line).get("id") not in ids]
    return _zstd.pack(b"\n".join(kept))


def check_storable(received: bytes, record: BaseModel, what: str) -> None:
    """Refuse text that a database may not take, and numbers that have no canonical JSON.

    Args:
        received: the JSON that `record` was read from. Most of it is plainly harmless, which a look at the bytes tells
            far sooner than making the canonical ones.
    Raises:
        NotValid: there is a NUL in a text, or a number without a canonical form.
    """
    if SUSPECT.search(received) and b"\\u0000" in encode(record):
        raise NotValid(f"{what} has a NUL character in a text; send it without", code="segment_invalid")


def _inflate(payload: bytes, number: int, bytes_max: int) -> bytes:
    # The size that a frame claims for itself is not trusted.
    try:
        return _zstd.unpack(payload, bytes_max=bytes_max, window_log_max=WINDOW_LOG_MAX)[0]
    except _zstd.TooLong as error:
        raise NotValid(f"segment {number} unpacks to more than {bytes_max} bytes", code="segment_too_big") from error
    except ValueError as error:
        raise NotValid(f"segment {number} is not zstd: {error}", code="segment_invalid") from error


def _record(header: SegmentHeader, line: bytes) -> AnyRecord:
    try:
        return RECORDS.validate_json(line)
    except ValidationError as error:
        raise _wrong(header, f"a record is not valid: {explain(error)}") from error


def _wrong(header: SegmentHeader, what: str) -> NotValid:
    return NotValid(f"segment {header.number}: {what}", code="segment_invalid")
