"""A model of a fleet for previews: how devices are expected to obey, under simulated time. Nothing fails in it.

Each device makes contact every so often, fetches what it was told inside its windows, waits for the windows in which
it may switch, tries the release for `trial_s`, and commits. What it reports is the engine's own `Device`.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32
from zoneinfo import ZoneInfo

from edgewise.hub.rollout_states import Assign, Device, Rollout, Want
from edgewise.wire import Terms, Window, openings, unmet, zone_of

DAYS_FIRST = 8  # windows are worked out for so many days, and twice as many where that is not enough
HORIZON = timedelta(days=400)  # what takes longer never happens, as far as a preview can say
AWAY_SALT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """How devices are expected to behave; everything that a preview assumes beside what is known.

    Attributes:
        contact_s: seconds between contacts.
        bytes_per_s: download speed of one device.
        decisions_per_s: of one device; paired decisions come as fast.
        away_share: of the devices in contact now, 0 to 1, that stay away from now on.
        zones: time zone by site; UTC for the others.
    """

    contact_s: float = 60.0
    bytes_per_s: float = 1e6
    decisions_per_s: float = 1 / 60
    away_share: float = 0.0
    zones: Mapping[str, str] = field(default_factory=dict)


class Openings:
    """When windows allow something, from one moment on.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    >>> night = Openings((Window(opens="22:00", closes="05:00"),), ZoneInfo("UTC"), noon)
    >>> pauses, done = night.spend(noon, 8 * 3600)
    >>> [f"{start:%d %H} to {end:%d %H}" for start, end in pauses], f"{done:%d %H}"
    (['05 12 to 05 22', '06 05 to 06 22'], '06 23')
    """

    def __init__(self, windows: Sequence[Window], place: ZoneInfo | None, since: datetime) -> None:
        self._windows, self._place, self._since = windows, place, since
        self._known: list[tuple[datetime, datetime, datetime]] = []
        self._days = DAYS_FIRST

    def first(self, at: datetime) -> datetime | None:
        """The first moment from this one on at which it is open; None where that is too far away to say."""
        if not self._windows:
            return at
        turn = self._turn(at)
        return None if turn is None else max(at, turn[0])

    def spend(self, at: datetime, seconds: float) -> tuple[list[tuple[datetime, datetime]], datetime] | None:
        """The pauses in something that takes so long and only goes on while it is open, and when it ends."""
        if not self._windows:
            return [], at + timedelta(seconds=min(seconds, HORIZON.total_seconds()))
        pauses: list[tuple[datetime, datetime]] = []
        stopped, left_s = at, seconds
        while (start := self.first(stopped)) is not None:
            if start > stopped:
                pauses.append((stopped, start))
            turn = self._turn(start)
            assert turn is not None, "it is open at its first moment"
            # Grace is for what has begun, and so has whatever is open now.
            if left_s <= (turn[2] - start).total_seconds():
                return pauses, start + timedelta(seconds=left_s)
            left_s -= (turn[2] - start).total_seconds()
            stopped = turn[2]
        return None

    def _turn(self, at: datetime) -> tuple[datetime, datetime, datetime] | None:
        """The time of opening that goes on at this moment or comes next."""
        while self._place is not None:
            index = bisect_right(self._known, at, key=lambda turn: turn[1])
            # The last one that is known may yet grow by a window of the next days.
            if index < len(self._known) - 1:
                return self._known[index]
            if self._days > HORIZON.days:
                return None
            self._days *= 2
            self._known = openings(self._windows, self._since, self._days, self._place)
        return None


class Moving:
    """The devices of one rollout on their way, from what they are now.

    Args:
        fleet: as the rollout sees it.
        now: when it begins.
    """

    def __init__(self, rollout: Rollout, fleet: Sequence[Device], expected: Expected, now: datetime) -> None:
        self._rollout, self._expected, self._began = rollout, expected, now
        self.devices = [self._may_be_away(device) for device in fleet]
        self.place = {device.id: index for index, device in enumerate(fleet)}
        self.shadows: dict[str, datetime] = {}  # since when devices decide beside what they run
        self.told: deque[datetime] = deque()  # when devices were told to take the release
        self.commits: list[tuple[str, datetime]] = []  # of the release, as they happen
        self._queue: list[tuple[datetime, int, int, int, dict[str, Any]]] = []  # when, order, place, turn, what changes
        self._turns = [0] * len(fleet)  # what an older assignment would have changed does not happen any more
        self._order = 0
        self._openings: dict[tuple[str, str], Openings] = {}

    @property
    def next_at(self) -> datetime | None:
        """When something changes on a device."""
        return self._queue[0][0] if self._queue else None

    def device(self, name: str) -> Device:
        return self.devices[self.place[name]]

    def advance(self, now: datetime) -> None:
        """Let everything happen that is due."""
        while self._queue and self._queue[0][0] <= now:
            _, _, place, turn, changes = heapq.heappop(self._queue)
            if turn == self._turns[place] and changes:
                self.devices[place] = device = replace(self.devices[place], **changes)
                if "committed_at" in changes:
                    self.commits.append((device.id, changes["committed_at"]))

    def obey(self, steps: Iterable[Assign], now: datetime, *, over_s: float = 0.0) -> None:
        """Take these assignments as made, one after the other within so many seconds."""
        told = list(steps)
        for position, step in enumerate(told):
            self._told(step, now, now + timedelta(seconds=over_s * position / len(told)))

    def _may_be_away(self, device: Device) -> Device:
        share = crc32(device.id.encode(), AWAY_SALT) / 2**32
        return replace(device, away=True) if share < self._expected.away_share else device

    def _told(self, step: Assign, now: datetime, told_at: datetime) -> None:
        place = self.place[step.device]
        device, want = self.devices[place], step.want
        if step.tells:
            self.told.append(now)
        self.devices[place] = replace(device, want=want, told_at=now if step.tells else device.told_at)
        if device.away or (device.want is not None and replace(want, bake=device.want.bake) == device.want):
            return  # it hears of it later, or is at work on it already
        self._turns[place] += 1
        limit_s = self._rollout.policy.stuck_s
        if limit_s is not None:
            self._later(place, now + timedelta(seconds=limit_s), {})
        at = self._contact(device, told_at)
        if device.running == want.release and not want.shadow:
            if want.rollout == self._rollout.id and device.committed_at is None:
                self._later(place, at, {"committed_at": at})
            return
        self._work(place, device, want, at)

    def _work(self, place: int, device: Device, want: Want, at: datetime) -> None:
        """What the device does from the contact at which it hears of its assignment."""
        policy, facts = self._rollout.policy, device.facts
        # Told in shadow before: what it would fetch is there.
        speed = min(self._expected.bytes_per_s, policy.bytes_per_s_max or self._expected.bytes_per_s)
        seconds = 0.0 if device.told_at is not None else device.predicted_bytes / speed
        fetched = self._until_done(
            place, device, policy.download, at, seconds, unmet(policy.download.conditions, facts)
        )
        if fetched is None:
            return
        if want.shadow:
            self.shadows[device.id] = fetched
            self._later(place, fetched, {})
            return
        wanting = unmet(policy.activation.conditions, facts)
        switched = self._until_done(place, device, policy.activation, fetched, 0.0, wanting)
        if switched is None:
            return
        done = switched + timedelta(seconds=policy.trial_s)
        changes: dict[str, Any] = {"running": want.release, "known": device.known | {want.bundle}}
        if want.release == self._rollout.target.release:
            changes["committed_at"] = done
        self._later(place, done, changes)

    def _until_done(
        self, place: int, device: Device, terms: Terms, at: datetime, seconds: float, wanting: list[str]
    ) -> datetime | None:
        """When the device is through with something that takes so long; None where that never happens."""
        if wanting:
            self._later(place, at, {"not_now": tuple(wanting)})
            return None
        spent = self._opening(device, terms).spend(at, seconds)
        if spent is None:
            self._later(place, at, {"not_now": ("its windows leave too little time",)})
            return None
        pauses, done = spent
        for start, end in pauses:
            self._later(place, start, {"not_now": (f"the window opens at {end:%Y-%m-%d %H:%M}Z",)})
            self._later(place, end, {"not_now": (), "waited_until": end})
        return done

    def _opening(self, device: Device, terms: Terms) -> Openings:
        zone = self._expected.zones.get(device.site, "UTC")
        key = (zone, "download" if terms is self._rollout.policy.download else "activation")
        if key not in self._openings:
            self._openings[key] = Openings(terms.windows, zone_of(zone), self._began)
        return self._openings[key]

    def _contact(self, device: Device, at: datetime) -> datetime:
        """The device's first contact from this moment on; all devices together are spread evenly."""
        every_s = self._expected.contact_s
        first_s = every_s * crc32(device.id.encode()) / 2**32
        passed = (at - self._began).total_seconds() - first_s
        return at + timedelta(seconds=-passed % every_s)

    def _later(self, place: int, at: datetime, changes: dict[str, Any]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (at, self._order, place, self._turns[place], changes))
