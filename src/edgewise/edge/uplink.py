"""The device's half of a contact: bytes in, events out, and the small loop that carries them over a link.

The protocol object owns no socket, thread or clock: the agent and the simulator use the same copy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from edgewise.edge.outbox import Outbox
from edgewise.policy import check_segment, may_leave
from edgewise.ports import Link, LinkDown, Refused
from edgewise.wire import (
    CLASSES,
    SEGMENTS_MAX,
    DataPolicy,
    Envelope,
    NotNow,
    NotTrusted,
    NotValid,
    Receipt,
    Report,
    SegmentHeader,
    UploadHeader,
    decode,
    pack_upload,
)

BREAKS_MAX = 64  # of one blob's upload in a contact; the next contact goes on where it is
STALLS_MAX = 3  # tries in a row that did not get further
ROUNDS_MAX = 16  # exchanges a contact; the next contact goes on from there


@dataclass(frozen=True, slots=True)
class Stored:
    """The hub has everything up to the watermark; so many records were let go."""

    watermark: int
    records: int


@dataclass(frozen=True, slots=True)
class BlobsMissing:
    """The hub wants these before it takes the rest."""

    blobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Assigned:
    """The hub's wish, still sealed: trust opens it."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class SegmentRefused:
    """The hub took note of a segment and did not store it."""

    number: int
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class BlobLost:
    """Bytes that the device itself can no longer read; so many samples went with them."""

    blob: str
    samples: int


@dataclass(frozen=True, slots=True)
class HubForgot:
    """The hub has lost what it once acknowledged, so what is open goes out again under a new epoch."""

    text: str


@dataclass(frozen=True, slots=True)
class Heard:
    """The hub answered: its epoch, and when it wants to hear from us again."""

    hub_epoch: str
    next_contact_s: float
    metadata: int = 0  # version of its newest TUF timestamp
    at: datetime | None = None  # by its clock


UplinkEvent: TypeAlias = Stored | BlobsMissing | Assigned | SegmentRefused | BlobLost | HubForgot | Heard


MaySend: TypeAlias = Callable[[int], Collection[str]]


def anything(_: int) -> Collection[str]:
    """Every class may go, whatever it takes."""
    return CLASSES


class Uplink:
    """What to send next, and what an answer means.

    Args:
        outbox: what waits.
        device: the name under which the key is enrolled.
        policy: asked before each segment is sealed (invariant 4).
        may_seal: False while records wait that are about to be forgotten; what is sealed already goes on.
    """

    def __init__(
        self,
        outbox: Outbox,
        device: str,
        policy: DataPolicy,
        *,
        may_seal: Callable[[datetime], bool] = lambda _: True,
    ) -> None:
        self._may_seal = may_seal
        self._outbox = outbox
        self.device = device
        self._policy = policy
        self._there: set[str] = set()  # blobs that the hub is known to hold, of the open segments only

    def seal(self, now: datetime, may: MaySend = anything) -> None:
        """Number what waits, as far as the bounds and the link allow. Raises NotNow as `Outbox.seal`."""
        if not self._may_seal(now):
            return
        try:
            self._outbox.seal(now, lambda header: check_segment(self._policy, header), may)
        except NotNow:
            if not self._outbox.open_segments():
                raise
            # On a full disk, what is sealed already makes room by leaving.

    def to_send(self, may: MaySend = anything) -> list[SegmentHeader]:
        """The open segments that go now: up to the last one that the link allows, because numbers have no gaps.

        What was sealed over another link and may not go over this one stays, unless something behind it may: a number
        that was given cannot be taken back.
        """
        segments, classes = self._outbox.open_segments(), may(0)
        if len(segments) >= SEGMENTS_MAX and any(name in classes for name in self._outbox.backlog().waiting):
            return segments
        last = max((place for place, one in enumerate(segments, 1) if one.record_class in classes), default=0)
        return segments[:last]

    def blobs_to_put(self, may: MaySend = anything) -> list[str]:
        """Blobs of the segments to send that the hub may lack, in the order of the segments."""
        self._there &= {blob for segment in self._outbox.open_segments() for blob in segment.blobs}
        named = dict.fromkeys(blob for segment in self.to_send(may) for blob in segment.blobs)
        return [blob for blob in named if blob not in self._there]

    def blob_is_there(self, blob: str) -> None:
        """The hub holds this blob."""
        self._there.add(blob)

    def request(self, report: Report, now: datetime, *, has_assignment: int = 0, may: MaySend = anything) -> bytes:
        """The body of the next exchange: the report, and every segment to send whose blobs are at the hub."""
        segments = []
        for segment in self.to_send(may):
            if not self._there.issuperset(segment.blobs):
                break  # numbers must follow one another, so what comes after has to wait as well
            segments.append(segment)
        header = UploadHeader(
            device=self.device,
            epoch=self._outbox.epoch,
            acked=self._outbox.acked,
            sent_at=now,
            report=report if self._may_report() else _bare(report),
            segments=tuple(segments),
            has_assignment=has_assignment,
        )
        return pack_upload(header, [self._outbox.payload(segment.number) for segment in segments])

    def receive(self, reply: bytes) -> list[UplinkEvent]:
        """What the hub's answer means; what it acknowledges is let go before this comes back.

        Raises:
            NotValid: not a receipt, or one for another epoch. NotNow: the disk fails; the hub will acknowledge again.
        """
        receipt = decode(Receipt, reply)
        if receipt.epoch != self._outbox.epoch:
            raise NotValid(
                f"the receipt is for epoch {receipt.epoch}, this outbox is {self._outbox.epoch}; it is not used",
                code="receipt_wrong",
            )
        events: list[UplinkEvent] = [Heard(receipt.hub_epoch, receipt.next_contact_s, receipt.metadata, receipt.at)]
        refused = {item.number for item in receipt.refused if item.number <= receipt.watermark}
        # A segment refused earlier and acknowledged since is refused again in the hub's answer; it is told once.
        events += [
            SegmentRefused(item.number, item.code, item.text)
            for item in receipt.refused
            if item.number > self._outbox.acked
        ]
        records = self._outbox.ack(receipt.watermark, refused)
        if records:
            events.append(Stored(receipt.watermark, records))
        if receipt.missing_blobs:
            self._there -= set(receipt.missing_blobs)
            events.append(BlobsMissing(receipt.missing_blobs))
        if receipt.assignment is not None:
            events.append(Assigned(receipt.assignment))
        return events

    def refused(self, error: Refused) -> list[UplinkEvent]:
        """What it means that the hub refused an exchange as a whole.

        Raises:
            Refused: nothing can be done here; a person has to look.
        """
        if error.code != "gap":
            raise error
        # Numbers are sent from the lowest open one on, so a gap means that the hub has forgotten what it acknowledged.
        # What is open here cannot be stored there, and goes out under a new epoch without a gap.
        self._outbox.renew_epoch()
        return [HubForgot(str(error))]

    def give_up(self, blob: str, now: datetime) -> BlobLost:
        """The device cannot read this blob any more; its samples are counted as lost, the rest goes on."""
        return BlobLost(blob, self._outbox.give_up_blob(blob, now))

    def _may_report(self) -> bool:
        try:
            may_leave(self._policy, "report")
        except NotValid:
            return False
        return True


def _bare(report: Report) -> Report:
    """What the hub must know to steer the device at all, where the policy lets no report leave."""
    fields = (
        "at",
        "phase",
        "release",
        "bundle",
        "previous",
        "assignment",
        "known_bad",
        "failed_rollout",
        "metadata",
        "erased",
        "erased_of",
    )
    return Report(**{name: getattr(report, name) for name in fields})


def contact(
    link: Link,
    uplink: Uplink,
    outbox: Outbox,
    report: Callable[[], Report],
    now: datetime,
    *,
    has_assignment: Callable[[], int] = lambda: 0,
    rounds_max: int = ROUNDS_MAX,
    may: MaySend = anything,
) -> Iterator[UplinkEvent]:
    """One contact: blobs first, then segments, again while there is progress. Events come as they happen.

    Args:
        report: the device's state, asked again for every exchange.
        has_assignment: number of the newest assignment accepted.
        may: which classes may go over this link, after so many bytes more.
    Raises:
        LinkDown: the link broke; what was acknowledged before is done. Refused, NotTrusted: the hub says no.
        NotNow: the disk fails.
    """
    for _ in range(rounds_max):
        uplink.seal(now, may)
        yield from _put_blobs(link, uplink, outbox, now, may)
        try:
            request = uplink.request(report(), now, has_assignment=has_assignment(), may=may)
            events = uplink.receive(link.exchange(request))
        except Refused as error:
            events = uplink.refused(error)
        yield from events
        progress = any(isinstance(event, Stored | BlobsMissing | HubForgot) for event in events)
        if not progress or not outbox.backlog().records:
            return


def _put_blobs(link: Link, uplink: Uplink, outbox: Outbox, now: datetime, may: MaySend) -> Iterator[UplinkEvent]:
    for blob in uplink.blobs_to_put(may):
        offset = link.blob_offset(blob)
        if offset is not None:
            try:
                data = outbox.blobs.get(blob)
            except (NotValid, NotTrusted):
                yield uplink.give_up(blob, now)
                continue
            _put_blob(link, blob, data, offset)
        uplink.blob_is_there(blob)


def _put_blob(link: Link, blob: str, data: bytes, offset: int | None) -> None:
    """Give the hub the rest of a blob; over a link that breaks as long as tries get further, up to a bound."""
    stalls = 0
    for tries_left in reversed(range(BREAKS_MAX)):
        if offset is None:
            return
        try:
            return link.put_blob(blob, data, offset=offset)
        except (LinkDown, Refused) as error:
            if not tries_left or (isinstance(error, Refused) and error.code != "offset_wrong"):
                raise
            before, offset = offset, link.blob_offset(blob)
            stalls = stalls + 1 if offset is not None and offset <= before else 0
            if stalls >= STALLS_MAX:
                raise  # the hub answers, but nothing comes through: the next contact asks again
