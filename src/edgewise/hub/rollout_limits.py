"""How many devices may be told now: rates, disruption budgets of groups, and bytes over links that cost money."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from math import log

from edgewise.hub.rollout_look import Look, is_told
from edgewise.hub.rollout_states import Device, Rollout
from edgewise.wire import Disruption, Rate

Group = tuple[str, ...]
RATE, BYTES = -1, -2  # beside the numbers of the disruption budgets
REASONS_MAX = 3  # of those for which devices are not told, shown in one sentence


def rate_now(rate: Rate, committed: int) -> tuple[int, float]:
    """So many devices may be told in any window of so many seconds.

    A rate below one a minute is one device in a longer window, so that no fraction of a device is ever told.

    Args:
        committed: devices that have committed the release so far.

    >>> rate_now(Rate(per_minute=10, growth=2, every=5), committed=5)
    (20, 60.0)
    >>> rate_now(Rate(per_minute=0.5), committed=0)
    (1, 120.0)
    """
    steps = committed // rate.every
    # In logarithms, since a power of a thousand steps is no number any more.
    full = steps * log(rate.growth) >= log(rate.per_minute_max / rate.per_minute)
    per_minute = rate.per_minute_max if full else rate.per_minute * rate.growth**steps
    count = max(1, int(per_minute + 1e-9))
    return count, count * 60 / per_minute


class Allowance:
    """What the limits of a rollout still allow at this moment. Each device that is let through is taken off.

    Args:
        shadow: for the shadow stage, in which what runs goes on, so that nothing is disrupted.
    """

    def __init__(self, look: Look, *, shadow: bool = False) -> None:
        policy = look.rollout.policy
        self._rollout = look.rollout
        self._bytes, self._bytes_max = look.rollout.metered_bytes, policy.metered_bytes_max
        self._left: int | None = None
        if policy.rate is not None:
            count, window_s = rate_now(policy.rate, sum(1 for _ in look.committed(look.everyone)))
            since = look.now - timedelta(seconds=window_s)
            # Those that a newer rollout has taken over meanwhile were told all the same.
            told = sum(1 for device in look.everyone if device.told_at is not None and device.told_at > since)
            self._left = max(0, count - told)
        self._groups = [] if shadow else _groups(look)
        self._refused: Counter[tuple[int, Group]] = Counter()

    def admitted(self, devices: Iterable[Device], most: int) -> Iterator[Device]:
        """Those of the devices that can be told now, in their order; each of them counts from then on."""
        found = 0
        for device in devices:
            if self._left == 0:
                self._refused[RATE, ()] += 1
                return  # nobody who comes later is let through either
            if found == most:
                return
            if self._admits(device):
                found += 1
                yield device

    def _admits(self, device: Device) -> bool:
        wanted = metered_bytes(device)
        if wanted and self._bytes_max is not None and self._bytes + wanted > self._bytes_max:
            return self._refuse(BYTES)
        if self._groups and not is_unavailable(self._rollout, device):
            keys: list[Group] = []
            for index, group in enumerate(self._groups):
                keys.append(key := group.key_of(device))
                if group.is_full(key):
                    return self._refuse(index, key)
            for group, key in zip(self._groups, keys, strict=True):
                group.unavailable[key] += 1
        self._bytes += wanted
        if self._left is not None:
            self._left -= 1
        return True

    def reasons(self) -> list[str]:
        """Why devices were refused, the most frequent first."""
        found = self._refused.most_common(REASONS_MAX)
        return [
            f"{count if index != RATE else 'some'} devices are not told: {self._why(index, key)}"
            for (index, key), count in found
        ]

    def _refuse(self, index: int, key: Group = ()) -> bool:
        self._refused[index, key] += 1
        return False

    def _why(self, index: int, key: Group) -> str:
        if index == RATE:
            return "the rate lets no more of them be told at this moment"
        if index == BYTES:
            return f"{self._bytes} bytes over metered links are predicted already, at most {self._bytes_max} may be"
        return self._groups[index].full(key)


def metered_bytes(device: Device) -> int:
    """What telling the device adds to the bytes over metered links: nothing where it was told in shadow already."""
    return device.predicted_bytes if device.metered and device.told_at is None else 0


def is_unavailable(rollout: Rollout, device: Device) -> bool:
    """True if the device is away or runs nothing, or was told to run something and has neither committed nor failed.

    Of another rollout's device only the report tells whether it runs what it was told.
    """
    if device.away or device.running is None:
        return True
    want = device.want
    if want is None or want.shadow or device.failed:
        return False
    if device.running != want.release:
        return True
    return device.committed_at is None and is_told(rollout, device)


def group_of(budget: Disruption, device: Device) -> Group:
    """The labels by which a device belongs to its group; one that it lacks is empty."""
    return tuple([device.site if name == "site" else device.labels.get(name, "") for name in budget.group_by])


class _Groups:
    """One disruption budget: how large its groups are, and how many of each are unavailable."""

    def __init__(self, budget: Disruption, everyone: Sequence[Device], unavailable: Sequence[Device]) -> None:
        self._budget = budget
        self.unavailable: Counter[Group] = Counter(map(self.key_of, unavailable))
        self._sizes: Counter[Group] = Counter()
        if budget.available_min is not None:
            # One label in a group is by far the most common; asking it without a loop is several times as fast.
            name = budget.group_by[0]
            alone = len(budget.group_by) == 1 and name != "site"
            keys = ((item.labels.get(name, ""),) for item in everyone) if alone else map(self.key_of, everyone)
            self._sizes.update(keys)

    def key_of(self, device: Device) -> Group:
        return group_of(self._budget, device)

    def is_full(self, key: Group) -> bool:
        return self.unavailable[key] >= most_unavailable(self._budget, self._sizes[key])

    def full(self, key: Group) -> str:
        listed = ", ".join(f"{label} {value}" for label, value in zip(self._budget.group_by, key, strict=True))
        most = most_unavailable(self._budget, self._sizes[key])
        return f"{self.unavailable[key]} of {listed} are away or changing, at most {most} may be"


def _groups(look: Look) -> list[_Groups]:
    budgets = look.rollout.policy.disruption
    if not budgets:
        return []
    # The same question as `is_unavailable`, but a call for each device of a large fleet would take most of the time.
    rollout, release = look.rollout.id, look.rollout.target.release
    unavailable = [
        device
        for device in look.everyone
        if device.away
        or device.running is None
        or (
            (want := device.want) is not None
            and not (want.shadow or device.failed)
            and (
                device.running != want.release
                or (device.committed_at is None and want.rollout == rollout and want.release == release)
            )
        )
    ]
    return [_Groups(budget, look.everyone, unavailable) for budget in budgets]


def most_unavailable(budget: Disruption, size: int) -> int:
    """How many devices of a group of this size may be unavailable at once."""
    if budget.unavailable_max is not None:
        return budget.unavailable_max
    return max(0, size - (budget.available_min or 0))
