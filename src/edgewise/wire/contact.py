"""What a device and the hub say to each other: one exchange a contact."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from pydantic import Field

from edgewise.wire._record import Digest, Id, Name, Record, Share, Time
from edgewise.wire.codec import decode, encode
from edgewise.wire.errors import NotValid
from edgewise.wire.failure import Failure
from edgewise.wire.readings import Readings
from edgewise.wire.release import Envelope
from edgewise.wire.values import Stated

RecordClass: TypeAlias = Literal["alarm", "audit", "feedback", "disagreement", "audit_sample", "telemetry", "sample"]
# Drained in this order, shed in the reverse one; the first two own the outbox's reserve.
CLASSES: tuple[RecordClass, ...] = ("alarm", "audit", "feedback", "disagreement", "audit_sample", "telemetry", "sample")
MAGIC = b"EWU1"
SEGMENTS_MAX = 8  # open at once (invariant 3)
HEADER_BYTES_MAX = 1 << 20
SEGMENT_BYTES_MAX = 4 << 20
MEDIA_TYPE = "application/vnd.edgewise.upload"


class StageDecision(Record):
    """What an earlier graph of a bundle said, before the one that decided."""

    graph: Name
    label: str
    confidence: Share
    margin: Share


class Decision(Record):
    """What a bundle said about one frame."""

    label: str
    confidence: Share  # probability of `label`
    defect: Share | None = None  # 1 - P(good), None where the bundle has no good label
    margin: Share  # best minus second-best probability
    release: Name | None = None
    bundle: Digest
    graph: Name | None = None  # which one decided, where the bundle has several
    earlier: tuple[StageDecision, ...] | None = Field(None, max_length=16)  # what those before it said, first one first
    deferred: Literal[True] | None = None  # by the large bundle of a cascade, after the edge had decided
    # Of a bundle that states values: the interval around the value. `label` says then where it lies by the limits
    # (within, above, below), `confidence` is the interval's level, `margin` how much narrower it is than no knowledge.
    stated: Stated | None = None


class Sample(Record):
    """A kept frame: why it was kept, with which probability, and where its private bytes are."""

    kind: Literal["sample"] = "sample"
    id: Id
    frame: str  # the frame's name at its source, unique on a device
    site: Name
    taken_at: Time
    kept_at: Time
    group: str = ""  # part, spindle, patient: never split inside one
    why: Literal["margin", "audit", "novelty", "feedback", "disagreement", "alarm", "import"]
    inclusion_probability: float = Field(gt=0, le=1)
    blob: Digest
    size_bytes: int = Field(ge=0)
    media_type: str
    decision: Decision
    shadow: Decision | None = None  # the other bundle's word on the same frame; `decision` is what acted
    rollout: Id | None = None  # the rollout in whose bake or shadow the pair was seen
    facts: dict[str, str | float | int | bool] = Field(default_factory=dict)


class Feedback(Record):
    """An operator's word on a decision."""

    kind: Literal["feedback"] = "feedback"
    id: Id
    frame: str
    site: Name
    given_at: Time
    verdict: Literal["wrong", "missed", "unknown"]
    label: str | None = None
    note: str = ""


class Telemetry(Record):
    """Counts of one window of one release in one pipeline; additive, so that site and fleet are sums."""

    kind: Literal["telemetry"] = "telemetry"
    id: Id
    site: Name
    start: Time
    end: Time
    release: Name | None = None
    bundle: Digest | None = None
    decisions: int = Field(ge=0)
    bytes_decided: int = Field(0, ge=0)
    labels: dict[str, int] = Field(default_factory=dict)
    alarms: int = 0
    withheld: tuple[str, ...] = ()  # counts that the policy's counts_min hides: a 0 in them says nothing
    paired: int = 0  # decisions made by both bundles on the same frame
    disagreed: int = 0
    overrides: int = Field(0, ge=0)  # decisions of this release that an operator called wrong or missed, in this window
    rollout: Id | None = None
    pipeline: Name | None = None  # of a device that has several; None for the one named main
    latency_ms: dict[str, float] = Field(default_factory=dict)  # p50, p99
    shed: dict[str, int] = Field(default_factory=dict)  # records shed by class since the outbox was made
    deferrals: dict[str, int] | None = None  # of a cascade, by fate, since the device was made; see docs/pipelines.md


class Event(Record):
    """Something that happened on the device: a change of phase, a refusal, a start. Class audit or alarm."""

    kind: Literal["event"] = "event"
    id: Id
    at: Time
    what: Name
    text: str
    data: dict[str, Any] = Field(default_factory=dict)


class Report(Record):
    """The device's actual state, sent with every contact."""

    at: Time
    phase: Name
    release: Name | None = None
    bundle: Digest | None = None
    previous: Name | None = None
    assignment: int = 0  # number of the newest assignment accepted
    waits_for: tuple[str, ...] = ()
    not_now: tuple[str, ...] = ()  # why the newest assignment waits for its window or conditions; no failure
    not_now_until: Time | None = None  # when its window opens
    known_bad: tuple[Digest, ...] = ()
    last_failure: str | None = None
    failure: Failure | None = None  # the same, for programs
    failed_rollout: Id | None = None  # the rollout whose trial failed here
    bytes_fetched: int = Field(0, ge=0)  # for all bundles that arrived on the device, as they came over the link
    bytes_full: int = Field(0, ge=0)  # that these bundles have: the rest was held already, or came as deltas
    metadata: int = 0  # version of the TUF timestamp verified last
    metadata_expires_at: Time | None = None  # the first of the verified TUF documents to end
    erased: int = Field(0, ge=0)  # highest number of an erasure that was carried out here
    erased_of: Id | None = None  # the hub epoch that gave that number
    backlog: int = 0
    decisions: int = 0  # since the device was made
    facts: dict[str, str | float | int | bool] = Field(default_factory=dict)
    version: str = ""
    card: Envelope | None = None  # the CapabilityCard, signed by the device's key; until the hub has heard it once
    card_refused: Digest | None = None  # the hub's own note of a card that did not hold, so that it is audited once


class SegmentHeader(Record):
    """What the hub checks before it looks inside. The payload is zstd over JSON lines of records."""

    number: int = Field(ge=1)
    sha256: Digest  # of the payload as sent
    size_bytes: int = Field(ge=0, le=SEGMENT_BYTES_MAX)
    record_class: RecordClass
    count: int = Field(ge=1)
    policy_version: int = Field(ge=1)
    transform: str  # the transforms that made it private, joined by "+"; "none" for records without content
    blobs: tuple[Digest, ...] = ()
    sealed_at: Time


class UploadHeader(Record):
    device: Name
    epoch: Id  # random, made when the outbox file was made
    acked: int = Field(0, ge=0)  # highest number the device knows to be acked
    sent_at: Time
    report: Report
    segments: tuple[SegmentHeader, ...] = Field((), max_length=SEGMENTS_MAX)
    has_assignment: int = Field(0, ge=0)


class Refusal(Record):
    number: int
    code: str
    text: str


class Receipt(Record):
    """The hub's answer. Everything up to `watermark` is durable and may be deleted on the device."""

    watermark: int = Field(ge=0)
    epoch: Id
    hub_epoch: Id
    missing_blobs: tuple[Digest, ...] = ()  # put these, then send again
    refused: tuple[Refusal, ...] = ()
    assignment: Envelope | None = None
    metadata: int = Field(0, ge=0)  # version of the newest TUF timestamp: a device that has an older one refreshes
    next_contact_s: float = Field(gt=0)
    at: Time


AnyRecord: TypeAlias = Sample | Feedback | Telemetry | Readings | Event


def pack_upload(header: UploadHeader, payloads: Sequence[bytes]) -> bytes:
    """One request body: magic, header length (4 bytes, big-endian), header, then the payloads in the header's order."""
    if [len(item) for item in payloads] != [segment.size_bytes for segment in header.segments]:
        raise NotValid("the payloads do not have the sizes that the header names", code="upload_invalid")
    head = encode(header)
    return MAGIC + struct.pack(">I", len(head)) + head + b"".join(payloads)


def upload_head(body: bytes) -> bytes:
    """The JSON of the header, as received, of a body that `unpack_upload` takes."""
    return body[8 : 8 + struct.unpack(">I", body[4:8])[0]]


def unpack_upload(body: bytes) -> tuple[UploadHeader, list[bytes]]:
    """The header and payloads of a request body.

    Raises:
        NotValid: wrong magic, a length over its limit, or bytes missing or left over.
    """
    if len(body) < 8 or body[:4] != MAGIC:
        raise NotValid(f"an upload starts with {MAGIC!r} and a length; seen {body[:8]!r}", code="upload_invalid")
    (size,) = struct.unpack(">I", body[4:8])
    if size > HEADER_BYTES_MAX:
        raise NotValid(
            f"the upload's header has {size} bytes, at most {HEADER_BYTES_MAX} allowed", code="upload_invalid"
        )
    header = decode(UploadHeader, body[8 : 8 + size])
    at, payloads = 8 + size, []
    for segment in header.segments:
        payloads.append(body[at : at + segment.size_bytes])
        at += segment.size_bytes
    if at != len(body):
        raise NotValid(f"the upload has {len(body)} bytes, its header names {at}", code="upload_invalid")
    return header, payloads
