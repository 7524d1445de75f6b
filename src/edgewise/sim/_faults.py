"""What goes wrong, drawn from one seed: lost requests and replies, power cuts, spells without a link, late turns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from edgewise.ports import SeededChance
from edgewise.wire import NotValid, canonical, digest

SPELL_S = (300.0, 2400.0)  # how long a spell without a link lasts; our choice, from a coffee break to a works meeting
CLOCK_SET_S_MAX = 10 * 365.25 * 86_400  # ten years: an empty buffer battery, or a typing error
CALLS_MAX = 5  # a contact makes about so many; the link breaks at one of them
CHECKPOINTS_MAX = 6  # a busy step passes about so many; a cut comes at one of them, rather at an early one


class PowerCut(BaseException):
    """The power is gone. No handler of ours may catch it, because a cut runs no code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Faults:
    """How often things go wrong.

    Attributes:
        lose: chance a device's turn that the link breaks over a request, and apart from it over a reply.
        power_cut: chance of a power cut a device-step.
        delay_s_max: a device's turn is late by up to this much; one device of each fleet always is.
        offline: share of its time that a device spends in spells without a link.
        worker_dies: chance that the training worker goes silent with an order in its hands.
        clock_set: chance a device's turn that somebody sets its clock, up to ten years forward or back.
    """

    lose: float = 0.2
    power_cut: float = 0.01
    delay_s_max: float = 20.0
    offline: float = 0.15
    worker_dies: float = 0.1
    clock_set: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lose", "power_cut", "offline", "worker_dies", "clock_set"):
            value = getattr(self, name)
            if not 0 <= value <= 0.95:
                raise NotValid(f"faults: {name} is {value}, needs to be from 0 to 0.95", code="faults_invalid")
        if self.delay_s_max < 0:
            raise NotValid(f"faults: delay_s_max is {self.delay_s_max}, needs to be 0 or more", code="faults_invalid")


CALM = Faults(lose=0, power_cut=0, delay_s_max=0, offline=0, worker_dies=0)


def chance_of(seed: int, *names: str) -> SeededChance:
    """Draws of somebody's own: another actor in the fleet does not shift them.

    >>> chance_of(7, "d1").id() == chance_of(7, "d1").id(), chance_of(7, "d1").id() == chance_of(7, "d2").id()
    (True, False)
    """
    return SeededChance(int(digest(canonical([seed, *names]))[:16], 16))


class Trouble:
    """The faults of one device: asked by its link, its checkpoints and the event loop."""

    def __init__(self, faults: Faults, chance: SeededChance) -> None:
        self.faults = faults
        self.counts: Counter[str] = Counter()
        self.offline = False
        self.cut_at = ""  # the checkpoint at which the power was cut last
        self._chance = chance
        self._spell_ends_s = 0.0
        self._had_link = False
        self._checkpoints_left: int | None = None
        self._calls_left = {"request": 0, "reply": 0}

    def heal(self) -> None:
        """From now on nothing goes wrong any more."""
        self.faults, self.offline, self._checkpoints_left = CALM, False, None
        self._calls_left = {"request": 0, "reply": 0}

    def clock_change_s(self) -> float:
        """By how much the device's clock is set in this turn; 0 mostly."""
        # Nothing is drawn where it cannot happen, so that a seed without this fault replays as before.
        if not self.faults.clock_set or self._chance.random() >= self.faults.clock_set:
            return 0.0
        self.counts["clock_set"] += 1
        return round(CLOCK_SET_S_MAX * (2 * self._chance.random() - 1))

    def begin_turn(self, now_s: float) -> None:
        """Draw what goes wrong in this turn."""
        self._change_weather(now_s)
        for what in ("request", "reply"):
            armed = self._chance.random() < self.faults.lose
            # Early calls break more often than late ones, because a short contact has no late ones.
            self._calls_left[what] = 1 + int(CALLS_MAX * self._chance.random() ** 2) if armed else 0
        if self._checkpoints_left is None and self._chance.random() < self.faults.power_cut:
            self._checkpoints_left = 1 + int(self._chance.random() ** 2 * CHECKPOINTS_MAX)

    def lose(self, what: str) -> bool:
        """Whether this ``request`` or ``reply`` is lost."""
        if self.offline:
            self.counts["offline"] += 1
            return True
        self._calls_left[what] -= 1
        lost = self._calls_left[what] == 0
        self.counts[what] += lost
        return lost

    def checkpoint(self, name: str) -> None:
        """A point of the device's code at which a power cut would matter.

        Raises:
            PowerCut: now.
        """
        if self._checkpoints_left is None:
            return
        self._checkpoints_left -= 1
        if self._checkpoints_left <= 0:
            self._cut(name)

    def end_turn(self) -> None:
        """The turn is over; a cut that no checkpoint met comes now, at a quiet moment.

        Raises:
            PowerCut: now.
        """
        if self._checkpoints_left is not None:
            self._cut("quiet")

    def _cut(self, name: str) -> None:
        self._checkpoints_left = None
        self.cut_at = name
        self.counts["cut"] += 1
        raise PowerCut(name)

    def late_s(self, *, slow: bool) -> float:
        """By how much the next turn is late."""
        return self.faults.delay_s_max * (1.0 if slow else self._chance.random() ** 4)  # mostly nearly punctual

    def dark_s(self) -> float:
        """How long the power stays off."""
        return 2.0 + 118.0 * self._chance.random()

    def _change_weather(self, now_s: float) -> None:
        if now_s < self._spell_ends_s or not self.faults.offline:
            return
        # Spells on and off take turns, with mean lengths in the proportion that was asked for.
        shortest, longest = SPELL_S
        spell_s = shortest + (longest - shortest) * self._chance.random()
        self.offline = self._had_link and not self.offline
        if not self.offline:
            spell_s *= (1 - self.faults.offline) / self.faults.offline
        if not self._had_link:
            spell_s *= self._chance.random()  # the run begins somewhere within a spell with a link
        self._had_link = True
        self._spell_ends_s = now_s + spell_s
