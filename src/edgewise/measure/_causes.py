"""What devices that drift have in common: attributes that are over-represented among them, with a bound on false names.

For each value of each attribute, how likely as many of the alarmed devices would have it by chance (hypergeometric
tail), corrected for all values looked at and all looks (Bonferroni): the chance of a false name is at most `alpha`,
whatever depends on what. What a named cause explains is taken out and the rest is looked at again, `CAUSES_MAX` looks
at most.

Sources: R. A. Fisher, The logic of inductive inference, 1935 (one-sided); one cause at a time as
Nazar (2023) mines them over the attributes of devices.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import comb

ALPHA = 0.01
CAUSES_MAX = 5
VALUES_MAX = 200  # of an attribute; one with more, such as a serial number, names no cause
MEMBERS_MIN = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """A value that devices in alarm share.

    Attributes:
        alarmed: of its members, before causes named earlier were taken out.
        lift: how many times as often its members are in alarm as all devices.
        p_value: after the correction for all values and looks.
    """

    attribute: str
    value: str
    members: int
    alarmed: int
    lift: float
    p_value: float


def find_causes(
    attributes: Mapping[str, Mapping[str, str]], alarmed: Collection[str], *, alpha: float = ALPHA
) -> list[Cause]:
    """The causes of alarms, the clearest first.

    Args:
        attributes: of every device of the fleet, alarmed or not.
        alarmed: those that have changed.

    >>> fleet = {f"cam-{n}": {"lens": "b" if n < 6 else "a", "serial": str(n)} for n in range(40)}
    >>> [(c.attribute, c.value, c.alarmed, c.members) for c in find_causes(fleet, [f"cam-{n}" for n in range(5)])]
    [('lens', 'b', 5, 6)]
    """
    devices, left, causes = dict(attributes), set(alarmed) & set(attributes), list[Cause]()
    while left and len(causes) < CAUSES_MAX:
        groups = _groups(devices)
        tested = [
            (_tail(len(devices), len(left), len(members), len(members & left)), -len(members & left), key)
            for key, members in groups.items()
        ]
        if not tested:
            break
        p_value, _, key = min(tested)
        corrected = min(p_value * len(tested) * CAUSES_MAX, 1.0)
        if corrected > alpha:
            break
        members = groups[key]
        rate = len(set(alarmed) & set(attributes)) / len(attributes)
        causes.append(
            Cause(
                attribute=key[0],
                value=key[1],
                members=len(members),
                alarmed=len(members & left),
                lift=len(members & left) / len(members) / rate,
                p_value=corrected,
            )
        )
        devices = {name: held for name, held in devices.items() if name not in members}
        left -= members
    return causes


def _groups(devices: Mapping[str, Mapping[str, str]]) -> dict[tuple[str, str], set[str]]:
    """Devices by attribute and value; neither what all share nor what only one has."""
    found: dict[tuple[str, str], set[str]] = {}
    for name, held in devices.items():
        for attribute, value in held.items():
            found.setdefault((attribute, value), set()).add(name)
    values: dict[str, int] = {}
    for attribute, _ in found:
        values[attribute] = values.get(attribute, 0) + 1
    return {
        key: members
        for key, members in found.items()
        if MEMBERS_MIN <= len(members) < len(devices) and values[key[0]] <= VALUES_MAX
    }


def _tail(total: int, hits: int, drawn: int, seen: int) -> float:
    """Chance of at least so many hits among the drawn."""
    ways = sum(comb(hits, one) * comb(total - hits, drawn - one) for one in range(seen, min(hits, drawn) + 1))
    return ways / comb(total, drawn)
