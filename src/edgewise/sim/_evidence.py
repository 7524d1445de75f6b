"""What a simulated run leaves behind, as plain values, and what must hold of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

SHOWN_MAX = 3  # examples named in one sentence
GONE_WITH_A_WORD = ("shed", "refused", "lost")  # fates that the device accounts for


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceEvidence:
    """What was seen of one device from outside.

    Attributes:
        made: every record id seen in its ledger after some step, when it was durable, with its last fate.
        acked: those of them that the device let go because the hub had acknowledged them.
        shed: records shed by the device's own count.
        numbers: assignment numbers in the order in which the device held them.
        bundle: digest that runs at the end, None for nothing.
        release: the release under which it runs.
        whole: why the bundle in its slot is not whole and verified; empty when it is.
        torn: what was wrong when it came back from a power cut, each with its time.
        offered_offline, decided_offline: frames that came while its link was down, and decisions on such frames.
        waiting: records that it still holds.
    """

    name: str
    made: Mapping[str, str]
    acked: frozenset[str]
    shed: int
    numbers: tuple[int, ...]
    bundle: str | None
    release: str | None
    whole: str = ""
    torn: tuple[str, ...] = ()
    offered_offline: int = 0
    decided_offline: int = 0
    waiting: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentEvidence:
    """One segment as the hub stored it."""

    device: str
    number: int
    transform: str
    needed: str  # the transform that the policy asks of it
    ids: tuple[str, ...]
    facts: frozenset[str] = frozenset()  # names of the facts that its samples carry


@dataclass(frozen=True, kw_only=True, slots=True)
class Return:
    """A device went from a release to another while the first was being taken back."""

    device: str
    was_on: str
    went_to: str
    named: str  # the release that the rollout named to return to


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Everything that the checks look at."""

    devices: tuple[DeviceEvidence, ...]
    segments: tuple[SegmentEvidence, ...]
    rows: Mapping[str, int]  # record id -> rows of it in the hub's tables
    fields: frozenset[str]  # facts that may travel
    released: frozenset[str]  # digests of bundles that some valid release names
    reverted: frozenset[str]  # releases that were taken back and have one to return to
    returns: tuple[Return, ...] = ()
    audit_broken: int | None = None
    audit_entries: int = 1
    bad_release: str = ""
    bad_stopped_by: str = ""  # what ended the bad release's rollout
    not_quiet: tuple[str, ...] = field(default=())


def broken(evidence: Evidence) -> list[str]:
    """A sentence for each invariant that does not hold; empty when all do.

    The checks trust neither side: what a device made was noted while it ran, and what the hub stored is counted in
    the segments as received and in its tables.
    """
    return [sentence for check in CHECKS for sentence in check(evidence)]


def stored_once(evidence: Evidence) -> list[str]:
    """Invariant 3: a record made is stored exactly once, or accounted for by id."""
    copies: dict[str, int] = {}
    for segment in evidence.segments:
        for name in segment.ids:
            copies[name] = copies.get(name, 0) + 1
    made = {name: fate for device in evidence.devices for name, fate in device.made.items()}
    accounted = {name for name, fate in made.items() if fate in GONE_WITH_A_WORD}
    missing = [name for name in made if name not in copies and name not in accounted]
    twice = [name for name, count in copies.items() if count > 1]
    twice += [name for name, count in evidence.rows.items() if count > 1]
    unlike = sorted(set(copies) ^ set(evidence.rows))
    strangers = [name for name in copies if name not in made]
    both = [name for name in accounted if name in copies]
    return [
        *_some("records were made, not shed, and are not stored at the hub", missing),
        *_some("records are stored more than once", twice),
        *_some("records are in the hub's segments or in its tables, not in both", unlike),
        *_some("stored records were never made by a device", strangers),
        *_some("records are both stored and counted as shed, refused or lost", both),
    ]


def acked_is_durable(evidence: Evidence) -> list[str]:
    """Invariant 2: what a device let go, the hub has."""
    held = {name for segment in evidence.segments for name in segment.ids}
    return [
        sentence
        for device in evidence.devices
        for sentence in _some(
            f"records of {device.name} were acknowledged and are not at the hub", sorted(device.acked - held)
        )
    ]


def shed_is_counted(evidence: Evidence) -> list[str]:
    """Invariant 11: the count of what was shed is the number of records with that fate."""
    found = []
    for device in evidence.devices:
        by_id = sum(fate == "shed" for fate in device.made.values())
        if by_id != device.shed:
            found.append(f"{device.name} counts {device.shed} records as shed, its ledger names {by_id}")
    return found


def bundles_are_whole(evidence: Evidence) -> list[str]:
    """Invariants 5 and 6: every device runs a whole bundle that a valid release names."""
    found = []
    for device in evidence.devices:
        found += [f"{device.name} came back from a power cut with {text}" for text in device.torn]
        if device.bundle is None:
            found += [f"{device.name} runs nothing"] if evidence.released else []
        elif device.whole:
            found.append(f"{device.name} runs a bundle that is not whole: {device.whole}")
        elif device.bundle not in evidence.released:
            found.append(f"{device.name} runs bundle {device.bundle[:12]}…, which no release names")
    return found


def reverted_runs_nowhere(evidence: Evidence) -> list[str]:
    """Invariant 10: a release that was taken back runs nowhere, and its devices went where the rollout said."""
    found = [
        f"{device.name} still runs {device.release}, which was taken back"
        for device in evidence.devices
        if device.release in evidence.reverted
    ]
    found += [
        f"{item.device} left {item.was_on} for {item.went_to}, its rollout named {item.named}"
        for item in evidence.returns
        if item.went_to != item.named
    ]
    if evidence.bad_release and evidence.bad_release not in evidence.reverted:
        found.append(f"the bad release {evidence.bad_release} was never taken back")
    elif evidence.bad_release and not any(word in evidence.bad_stopped_by for word in ("e-value", "trials failed")):
        # Those two carry an error bound; a bad release that only a person or a newer one ended was not found out.
        found.append(f"the bad release was not taken back by the rollout itself: {evidence.bad_stopped_by}")
    return found


def audit_holds(evidence: Evidence) -> list[str]:
    """The audit log is one unbroken chain."""
    if evidence.audit_broken is not None:
        return [f"the audit chain is broken at entry {evidence.audit_broken}"]
    return [] if evidence.audit_entries else ["the audit log is empty"]


def decides_offline(evidence: Evidence) -> list[str]:
    """Invariant 1: a decision never waits for the network."""
    return [
        f"{device.name} decided on {device.decided_offline} of {device.offered_offline} frames while its link was down"
        for device in evidence.devices
        if device.decided_offline < device.offered_offline
    ]


def numbers_grow(evidence: Evidence) -> list[str]:
    """Invariant 5: a device never goes back to an older assignment."""
    found = []
    for device in evidence.devices:
        for before, number in pairwise(device.numbers):
            if number < before:
                found.append(f"{device.name} went from assignment {before} back to {number}")
                break
    return found


def private_leaves_nothing(evidence: Evidence) -> list[str]:
    """Invariant 4: every segment went through its policy's transform, with no fact that is not listed."""
    found = [
        f"segment {segment.number} of {segment.device} went through {segment.transform!r}, needed {segment.needed!r}"
        for segment in evidence.segments
        if segment.transform != segment.needed
    ]
    found += [
        f"segment {segment.number} of {segment.device} carries {', '.join(sorted(segment.facts - evidence.fields))}"
        for segment in evidence.segments
        if segment.facts - evidence.fields
    ]
    return found[:SHOWN_MAX]


def comes_to_rest(evidence: Evidence) -> list[str]:
    """With healed links everything comes to an end: queues empty, every device on what it was told to run."""
    waiting = [f"{device.name} still holds {device.waiting} records" for device in evidence.devices if device.waiting]
    return [*evidence.not_quiet, *waiting]


CHECKS: tuple[Callable[[Evidence], list[str]], ...] = (
    stored_once,
    acked_is_durable,
    shed_is_counted,
    bundles_are_whole,
    reverted_runs_nowhere,
    audit_holds,
    decides_offline,
    numbers_grow,
    private_leaves_nothing,
    comes_to_rest,
)


def _some(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:SHOWN_MAX]) + (", …" if len(names) > SHOWN_MAX else "")
    return [f"{len(names)} {what}: {shown}"]
