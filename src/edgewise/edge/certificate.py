"""When a device asks for its next certificate, and how it comes back after weeks without a link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from edgewise.edge._spans import is_over
from edgewise.ports import Chance, Credentials, next_certificate
from edgewise.wire import EdgewiseError


class Wish(Enum):
    """What the present certificate asks for."""

    KEEP = "keep"
    RENEW = "renew"  # it still holds: ask with it
    COME_BACK = "come back"  # it ended: the key alone must do, within the hub's grace


@dataclass(frozen=True, kw_only=True, slots=True)
class RenewalLimits:
    """Bounds of the renewal."""

    share: float = 2 / 3  # of a certificate's life, after which the next one is asked for
    pause_s: float = 60.0  # after a failure, doubled up to
    pause_s_max: float = 3600.0
    jitter: float = 0.2  # of a pause, either way, so that a fleet does not come back all at once


LIMITS = RenewalLimits()


def certificate_wish(start: datetime, end: datetime, now: datetime, *, share: float = LIMITS.share) -> Wish:
    """What to do about a certificate that holds from `start` to `end`.

    >>> from datetime import UTC, timedelta
    >>> t0 = datetime(2026, 1, 1, tzinfo=UTC)
    >>> [certificate_wish(t0, t0 + timedelta(days=9), t0 + timedelta(days=d)).name for d in (5, 6, 10)]
    ['KEEP', 'RENEW', 'COME_BACK']
    """
    if now >= end:
        return Wish.COME_BACK
    return Wish.RENEW if now >= start + (end - start) * share else Wish.KEEP


Ask = Callable[..., None]


class Renewal:
    """Keeps the certificate fresh, one question at a time; no failure of it ever reaches the decisions.

    Args:
        credentials: the device's files.
        url: the hub's address for devices.
        ask: `ports.next_certificate`, or what stands in for it in the simulator.
    """

    def __init__(
        self,
        credentials: Credentials,
        url: str,
        *,
        chance: Chance,
        limits: RenewalLimits = LIMITS,
        ask: Ask = next_certificate,
    ) -> None:
        self._credentials = credentials
        self._url = url
        self._chance = chance
        self._limits = limits
        self._ask = ask
        self._failures = 0
        self._waits: tuple[datetime, float] | None = None  # since when, and for how long
        self._stamp: tuple[int, ...] | None = None
        self._span: tuple[datetime, datetime] | None = None
        self.error: str | None = None

    def step(self, now: datetime, *, ended: bool = False) -> bool:
        """Ask for a new certificate if it is time; True when there is one.

        Args:
            ended: the hub said so at the last contact; its clock counts where this device's is behind.
        """
        if self._waits is not None and not is_over(*self._waits, now):
            return False
        try:
            wish = certificate_wish(*self._validity(), now, share=self._limits.share)
            wish = Wish.COME_BACK if ended else wish
            if wish is Wish.KEEP:
                self.error = None
                return False
            self._ask(self._credentials, self._url, with_certificate=wish is Wish.RENEW)
            start, end = self._validity()
        except EdgewiseError as error:
            self._failed(str(error), now)
            return False
        if certificate_wish(start, end, now, share=self._limits.share) is not Wish.KEEP:
            # Asking again at once would only give another one that this clock takes for an old one.
            self._failed(f"the hub's new certificate holds from {start} to {end}, this clock says {now}; set it", now)
            return True
        self._failures, self._waits, self.error = 0, None, None
        return True

    def _validity(self) -> tuple[datetime, datetime]:
        stamp = self._credentials.stamp()
        if self._span is None or stamp != self._stamp:
            self._span, self._stamp = self._credentials.validity(), stamp
        return self._span

    def _failed(self, error: str, now: datetime) -> None:
        self.error = error
        pause = min(self._limits.pause_s * 2.0 ** min(self._failures, 16), self._limits.pause_s_max)
        spread = 1 + self._limits.jitter * (2 * self._chance.random() - 1)
        self._waits = (now, pause * spread)
        self._failures += 1


def certificate_sentence(credentials: Credentials, now: datetime, *, share: float = LIMITS.share) -> str:
    """What the device's files say about its certificate, for people."""
    try:
        start, end = credentials.validity()
    except EdgewiseError as error:
        return str(error)
    ends = end.isoformat().replace("+00:00", "Z")
    match certificate_wish(start, end, now, share=share):
        case Wish.KEEP:
            fresh = (start + (end - start) * share).isoformat(timespec="seconds").replace("+00:00", "Z")
            return f"holds until {ends}; the next one is asked for from {fresh} on"
        case Wish.RENEW:
            return f"holds until {ends}; the next one is asked for at the next contact"
        case Wish.COME_BACK:
            return (
                f"ended at {ends}; the device asks for a new one with its key as soon as the hub answers, and needs a "
                "new token where it was away for longer than the hub's grace"
            )
