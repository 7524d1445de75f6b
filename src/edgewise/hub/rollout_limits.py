"""How many devices may be told now: rates, disruption budgets of groups, and bytes over links that cost money."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from math import exp, log

from edgewise.hub.rollout_look import Look, has_committed, is_told
from edgewise.hub.rollout_states import Device, Rollout
from edgewise.wire import Disruption, Rate

Group = tuple[str, ...]


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
    # In logarithms, since a power of a thousand steps is no number any more.
    grown = log(rate.per_minute) + committed // rate.every * log(rate.growth)
    per_minute = rate.per_minute_max if grown >= log(rate.per_minute_max) else exp(grown)
    count = max(1, int(per_minute + 1e-9))
    return count, count * 60 / per_minute


class Allowance:
    """What the limits of a rollout still allow at this moment. Each device that is let through is taken off."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._policy = look.rollout.policy
        self._left = self._by_rate()
        self._groups = [_Groups(look, budget) for budget in self._policy.disruption]
        self._bytes = look.rollout.metered_bytes

    def refuses(self, device: Device, *, shadow: bool = False) -> str | None:
        """Why the device cannot be told now, None if it can; then it counts from here on.

        Args:
            shadow: what runs there goes on, so that nothing is disrupted.
        """
        if self._left is not None and self._left <= 0:
            return "the rate allows no more devices at this moment"
        wanted = metered_bytes(device)
        most = self._policy.metered_bytes_max
        if most is not None and wanted and self._bytes + wanted > most:
            return (
                f"{self._bytes + wanted} bytes over metered links would be over metered_bytes_max of {most}; "
                f"raise it, or let {device.id} fetch over another link"
            )
        groups = () if shadow else self._groups
        for group in groups:
            if (full := group.is_full(device)) is not None:
                return full
        for group in groups:
            group.take(device)
        self._bytes += wanted
        if self._left is not None:
            self._left -= 1
        return None

    def _by_rate(self) -> int | None:
        look, rate = self._look, self._policy.rate
        if rate is None:
            return None
        committed = sum(has_committed(look.rollout, device) for device in look.mine)
        count, window_s = rate_now(rate, committed)
        since = look.now - timedelta(seconds=window_s)
        return count - sum(device.told_at is not None and device.told_at > since for device in look.mine)


def metered_bytes(device: Device) -> int:
    """What telling the device adds to the bytes over metered links: nothing where it was told in shadow already."""
    return device.predicted_bytes if device.metered and device.told_at is None else 0


def is_unavailable(rollout: Rollout, device: Device) -> bool:
    """True if the device is away, or was told to run something and has neither committed it nor failed.

    Of another rollout's device only the report tells whether it runs what it was told.
    """
    if device.away:
        return True
    want = device.want
    if want is None or want.shadow or device.failed:
        return False
    if device.running != want.release:
        return True
    return device.committed_at is None and is_told(rollout, device)


def group_of(budget: Disruption, device: Device) -> Group:
    """The labels by which a device belongs to its group; one that it lacks is empty."""
    return tuple(device.site if name == "site" else device.labels.get(name, "") for name in budget.group_by)


class _Groups:
    """One disruption budget: the devices of each group, those that are unavailable, and how many may be."""

    def __init__(self, look: Look, budget: Disruption) -> None:
        self._rollout = look.rollout
        self._budget = budget
        sizes: Counter[Group] = Counter()
        self._unavailable: Counter[Group] = Counter()
        for device in look.everyone:
            key = group_of(budget, device)
            sizes[key] += 1
            if is_unavailable(look.rollout, device):
                self._unavailable[key] += 1
        self._sizes = sizes

    def is_full(self, device: Device) -> str | None:
        key = group_of(self._budget, device)
        there, most = self._unavailable[key], most_unavailable(self._budget, self._sizes[key])
        if there + (not is_unavailable(self._rollout, device)) <= most:
            return None
        name = ", ".join(f"{label} {value}" for label, value in zip(self._budget.group_by, key, strict=True))
        return f"{there} of {self._sizes[key]} devices of {name} are away or changing, at most {most} may be"

    def take(self, device: Device) -> None:
        if not is_unavailable(self._rollout, device):
            self._unavailable[group_of(self._budget, device)] += 1


def most_unavailable(budget: Disruption, size: int) -> int:
    """How many devices of a group of this size may be unavailable at once."""
    if budget.unavailable_max is not None:
        return budget.unavailable_max
    return max(0, size - (budget.available_min or 0))
