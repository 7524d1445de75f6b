"""When to talk to the hub, and what its answers lead to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from edgewise.edge._keeper import Keeper
from edgewise.edge._spans import is_over
from edgewise.edge.outbox import Outbox
from edgewise.edge.update import Updater
from edgewise.edge.uplink import (
    Assigned,
    BlobLost,
    Heard,
    HubForgot,
    SegmentRefused,
    Stored,
    Uplink,
    UplinkEvent,
    contact,
)
from edgewise.ports import Chance, Link
from edgewise.wire import CLASSES, EdgewiseError, NotNow, NotTrusted, Report

BACKOFF_MAX = 8  # times the usual pause between contacts; jitter keeps a fleet from coming back all at once


class Contacts:
    """The device's contacts, one at a time, planned by the hub and by what waits.

    Args:
        contact_s: pause between contacts while all is quiet, until the hub names another.
        report: the device's state.
        may: which classes may go over the link now, after so many bytes more.
    """

    def __init__(
        self,
        uplink: Uplink,
        outbox: Outbox,
        updater: Updater,
        keeper: Keeper,
        *,
        chance: Chance,
        contact_s: float,
        report: Callable[[datetime], Report],
        may: Callable[[datetime, int], Collection[str]] = lambda _now, _more: CLASSES,
    ) -> None:
        self._uplink = uplink
        self._outbox = outbox
        self._updater = updater
        self._keeper = keeper
        self._chance = chance
        self._contact_s = contact_s
        self._report = report
        self._may = may
        self.next_at: datetime | None = None  # at once
        self._planned_at: datetime | None = None  # when that was decided
        self.last_at: datetime | None = None  # of the last one that came through
        self.hub_at: datetime | None = None  # by the hub's clock, in that one
        self.failures = 0  # in a row
        self.error: str | None = None
        self.error_code: str | None = None
        self.hub_epoch: str | None = None
        self.stored = 0

    def hurry(self, now: datetime) -> None:
        """Something should be told soon. After a failure the pause is kept all the same."""
        if not self.failures:
            self._plan(now, 0)

    def is_due(self, now: datetime) -> bool:
        if self._keeper.urgent_waits:
            self.hurry(now)
        if self.next_at is None or self._planned_at is None:
            return True
        return is_over(self._planned_at, (self.next_at - self._planned_at).total_seconds(), now)

    def left_s(self, now: datetime) -> float:
        """Seconds until the next contact is planned; 0 where it is due."""
        if self.next_at is None or self.is_due(now):
            return 0.0
        return max(0.0, (self.next_at - now).total_seconds())

    def _plan(self, now: datetime, pause_s: float) -> None:
        self._planned_at, self.next_at = now, now + timedelta(seconds=pause_s)

    def step(self, link: Link, now: datetime) -> bool:
        """Make contact if it is time; True when the hub answered."""
        if not self.is_due(now):
            return False
        self._keeper.urgent_waits = False
        self._plan(now, self._contact_s)
        try:
            for event in contact(
                link,
                self._uplink,
                self._outbox,
                lambda: self._report(now),
                now,
                has_assignment=lambda: self._updater.number,
                may=lambda more: self._may(now, more),
            ):
                self._take(event, link, now)
        except NotNow as error:
            self._failed(str(error), error.code, now, least_s=error.retry_s or 0)
            return False
        except EdgewiseError as error:
            # The hub says no to the whole device. It goes on deciding and asks again, seldom; a person has to look.
            self._failed(f"the hub refuses this device: {error}", error.code, now)
            return False
        self.failures, self.error, self.error_code, self.last_at = 0, None, None, now
        return True

    def take_reply(self, reply: bytes, link: Link, now: datetime) -> None:
        """Take an answer that came without a contact. Raises as `Uplink.receive`."""
        for event in self._uplink.receive(reply):
            self._take(event, link, now)

    def write_out(self, link: Link, now: datetime) -> None:
        """Give a link that only takes all that is open, once; what fails is raised, for somebody waits for it."""
        events = contact(
            link,
            self._uplink,
            self._outbox,
            lambda: self._report(now),
            now,
            has_assignment=lambda: self._updater.number,
        )
        for event in events:
            if not isinstance(event, Heard):
                self._take(event, link, now)

    def _failed(self, error: str, code: str, now: datetime, *, least_s: float = 0) -> None:
        """Plan the next try: later each time, and never before the hub wants to hear of us, nor all devices at once."""
        self.failures += 1
        self.error, self.error_code = error, code
        times = min(2.0 ** min(self.failures - 1, 10), BACKOFF_MAX)
        chance = self._chance.random()
        self._plan(now, max(self._contact_s * times * (0.8 + 0.4 * chance), least_s * (1 + 0.4 * chance)))

    def _take(self, event: UplinkEvent, link: Link, now: datetime) -> None:
        match event:
            case Heard():
                self.failures = 0  # the hub hears us: what fails after this is one loss, not the next of a row
                self.hub_epoch, self.hub_at = event.hub_epoch, event.at
                self._contact_s = event.next_contact_s
                self._plan(now, event.next_contact_s)
                # Before the assignment of the same answer: a new director may have signed that.
                self._updater.hear(link, event.metadata, now)
            case Stored():
                self.stored += event.records
            case Assigned():
                self._accept(event, now)
            case SegmentRefused():
                text = f"the hub refused segment {event.number}: {event.text}"
                self._keeper.note("segment_refused", text, now, {"number": event.number, "code": event.code})
            case BlobLost():
                text = f"{event.samples} samples lost: blob {event.blob[:12]}… cannot be read any more"
                self._keeper.note("samples_lost", text, now, {"blob": event.blob, "samples": event.samples})
            case HubForgot():
                self._keeper.note("hub_forgot", event.text, now, {"epoch": self._outbox.epoch})
            case _:
                pass

    def _accept(self, event: Assigned, now: datetime) -> None:
        try:
            self._updater.accept(event.envelope, now)
        except NotTrusted as error:
            if str(error) != self.refused_assignment:
                self._keeper.note("assignment_refused", str(error), now, {"code": error.code})
            self.refused_assignment = str(error)
        except NotNow:
            return  # the director is not known yet; the hub sends the assignment again

    refused_assignment: str | None = None
