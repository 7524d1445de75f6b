"""What goes into the outbox, its bounds, and how records become the bytes of a segment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from edgewise import _zstd
from edgewise.wire import AnyRecord, Event, NotValid, RecordClass, SegmentHeader, digest, encode

RESERVED = 2  # alarm and audit: the first classes, which own the reserve and are shed last
RESERVE_FILE = "reserve"
FATES = ("waiting", "sealed", "stored", "shed", "refused", "lost", "erased")


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxLimits:
    """Every bound of the outbox in one place."""

    bytes_max: int = 200_000_000  # records and blobs held, waiting and sealed
    reserve_bytes: int = 1_000_000  # of them for alarm and audit alone; as much disk is held ready in a file
    record_bytes_max: int = 1_000_000
    segment_bytes_max: int = 1_000_000  # of records before compression
    segment_records_max: int = 500
    segment_blob_bytes_max: int = 4_000_000
    sealed_bytes_max: int = 8_000_000  # an alarm made now waits behind no more than this
    ledger_max: int = 20_000  # finished records that are remembered


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A record on its way into the outbox, already private."""

    record: AnyRecord
    record_class: RecordClass
    policy_version: int
    transform: str = "none"
    content: bytes | None = None  # of a sample: the bytes that `record.blob` names
    subject: str = ""  # keyed hash of whom the frame is about; it stays here, for erasures
    about_at: datetime | None = None  # when the frame was taken; None for what is about no frame


@dataclass(frozen=True, kw_only=True, slots=True)
class Backlog:
    """What is in the outbox, by class."""

    waiting: dict[str, int]
    sealed: dict[str, int]
    shed: dict[str, int]  # since the file was made
    refused: dict[str, int]
    stored: dict[str, int]
    erased: dict[str, int]
    held_bytes: int

    @property
    def records(self) -> int:
        return sum(self.waiting.values()) + sum(self.sealed.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """One line of the ledger: a record that was offered, and what became of it."""

    id: str
    record_class: str
    made_at: str
    fate: str  # one of FATES


def nothing(_: str) -> None:
    """A checkpoint at which nothing happens. Tests hand in one that cuts the power."""


def spacing(offered: int) -> int:
    """How far apart records as rare as this one are: the number's trailing zero bits.

    Shedding the lowest first drops every second record, then every second of the rest, so that what stays is spread
    evenly over the whole outage, and new records are thinned like old ones.

    >>> [spacing(number) for number in range(1, 9)]
    [0, 1, 0, 2, 0, 1, 0, 3]
    """
    return (offered & -offered).bit_length() - 1


def made_at_of(record: AnyRecord) -> str:
    for name in ("kept_at", "given_at", "end", "at"):
        when = getattr(record, name, None)
        if when is not None:
            return str(when.isoformat())
    raise AssertionError(f"a {type(record).__name__} has no time")


def pack(lines: Iterable[bytes]) -> bytes:
    # No checksum or size frills: the header carries both, and equal records give equal bytes.
    return _zstd.pack(b"\n".join(lines))


def unpack(payload: bytes, *, bytes_max: int = 64_000_000) -> list[bytes]:
    """The JSON lines of a segment's payload.

    Raises:
        NotValid: not zstd, or larger than the bound.
    """
    try:
        return _zstd.unpack(payload, bytes_max=bytes_max)[0].split(b"\n")
    except ValueError as error:
        raise NotValid(f"a segment's payload cannot be unpacked: {error}", code="segment_invalid") from error


def lost_record(header: SegmentHeader, now: datetime) -> bytes:
    return encode(
        Event(
            id=digest(b"lost " + header.sha256.encode())[:32],
            at=now,
            what="samples_lost",
            text=f"the bytes of {header.count} samples in segment {header.number} cannot be read here any more",
            data={"number": header.number, "blobs": list(header.blobs)},
        )
    )
