"""What one rollout sees of the fleet at one moment, and the plain questions about one device that all rules share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from datetime import datetime, timedelta
from functools import cached_property

from edgewise.hub.rollout_states import Device, Evidence, Rollout, State


class Look:
    """One rollout, the devices that exist for it, the evidence and the time.

    A device exists for a rollout if no newer one has taken it over, and if it is selected, or in the rollout already:
    in its shadow stage, in one of its waves, or told by it. While it is taken back, whoever has the release counts too;
    once it has finished, only whom it selects: a device that left its selection is an older one's again.

    Args:
        everyone: all devices of the use case. Groups of a disruption budget count those of other rollouts, too.
        taken: devices that a newer rollout has taken over.
    """

    def __init__(
        self, rollout: Rollout, everyone: Sequence[Device], evidence: Evidence, now: datetime, taken: Set[str]
    ) -> None:
        self.rollout = rollout
        self.everyone = everyone
        self.evidence = evidence
        self.now = now
        self.wave_of: dict[str, int] = {}
        for index, wave in enumerate(rollout.waves):
            self.wave_of |= dict.fromkeys((*wave.devices, *wave.joined), index)
        self.shadowed = shadow_set(rollout)
        self.mine = [
            device
            for device in everyone
            if device.id not in taken and (not device.outside or self._is_in(device))
        ]  # fmt: skip

    @cached_property
    def fit(self) -> list[Device]:
        """Devices that could ever take part: a variant fits, and no operator or conflict keeps it."""
        return [device for device in self.mine if not (device.misfits or device.pinned or device.conflict)]

    def is_involved(self, device: Device) -> bool:
        """True for a device of the shadow stage or of a wave."""
        return device.id in self.wave_of or device.id in self.shadowed

    def committed(self, devices: Iterable[Device]) -> Iterator[Device]:
        """Those of the devices that run the release now, and were seen to have committed it."""
        release = self.rollout.target.release
        return (
            device
            for device in devices
            if device.committed_at is not None and device.running == release and not device.failed
        )

    def _is_in(self, device: Device) -> bool:
        rollout = self.rollout
        return rollout.state is not State.FINISHED and (
            device.id in self.wave_of
            or device.id in self.shadowed
            or (device.want is not None and device.want.rollout == rollout.id)
            or (rollout.state is State.REVERTING and device.running == rollout.target.release)
        )


def is_fit(device: Device) -> bool:
    """True if a variant fits the device, and neither an operator nor a conflict keeps it out."""
    return not (device.misfits or device.pinned or device.conflict)


def shadow_set(rollout: Rollout) -> frozenset[str]:
    """The devices of the shadow stage."""
    stage = rollout.shadow
    return frozenset() if stage is None else frozenset((*stage.devices, *stage.joined))


def is_told(rollout: Rollout, device: Device) -> bool:
    """True if this rollout told the device to take its release, in shadow or to run."""
    want = device.want
    return want is not None and want.rollout == rollout.id and want.release == rollout.target.release


def has_it(rollout: Rollout, device: Device) -> bool:
    """True if the device runs this rollout's release or was told to, be it beside another one."""
    return device.running == rollout.target.release or is_told(rollout, device)


def has_committed(rollout: Rollout, device: Device) -> bool:
    """True if the device runs the release now, and was seen to have committed it."""
    return device.committed_at is not None and device.running == rollout.target.release and not device.failed


def is_stuck(rollout: Rollout, device: Device, now: datetime) -> bool:
    """True if it was told to run the release `stuck_s` ago, is in contact, says no "not now", and has not committed."""
    limit_s, told_at = rollout.policy.stuck_s, device.told_at
    if limit_s is None or told_at is None or device.waits or device.failed or device.committed_at is not None:
        return False
    if not is_told(rollout, device) or (device.want is not None and device.want.shadow):
        return False
    return now - max(told_at, device.waited_until or told_at) >= timedelta(seconds=limit_s)


def can_return(rollout: Rollout, device: Device) -> bool:
    """A device takes part only if it could be taken back: a revert goes to what once committed there (invariant 5)."""
    return rollout.previous is None or back_bundle(rollout, device) in device.known


def back_bundle(rollout: Rollout, device: Device) -> str:
    """The bundle of the release to return to that this device would get."""
    assert rollout.previous is not None, "a first release has nothing to return to"
    return device.previous_bundle or rollout.previous.bundle


def bundle_for(rollout: Rollout, device: Device) -> str:
    """The variant of the release that this device gets."""
    return device.bundle or rollout.target.bundle


def names(devices: Collection[Device]) -> str:
    """The first few of them by name, for a sentence.

    >>> names([Device(id=f"d{index}", site="a") for index in range(7)])
    'd0, d1, d2, d3, d4 and 2 more'
    """
    shown = sorted(device.id for device in devices)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
