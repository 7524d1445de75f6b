"""Slices: samples that are judged by themselves beside the sites, because a mean over a site can hide them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from edgewise.wire._record import Name, Place, Strict
from edgewise.wire.conditions import Condition, unmet
from edgewise.wire.terms import DAYS, zone_of

HOURS = range(24)
# Words that are known of a sample beside the facts of its frame, and what data.fields must list for them. The hub knows
# the site and the device of every upload whatever the fields are.
OWN_FACTS: Mapping[str, str | None] = {
    "site": None,
    "device": None,
    "group": "group",
    "hour": "taken_at",
    "weekday": "taken_at",
}
NO_FACTS = {"frame": "the name of one frame", "taken_at": "one moment; ask hour or weekday"}


class Slice(Strict):
    """Samples on which all conditions hold. A fact that is not known of a sample leaves it out."""

    name: Name = Field(max_length=100, description="shown as slice:<name> in scorecards and verdicts")
    conditions: tuple[Condition, ...] = Field(
        min_length=1,
        max_length=16,
        description="ask site, group, device, hour (0 to 23) and weekday (mon to sun) of taken_at by the site's clock, "
        "or any fact that data.fields lists",
    )


def slice_facts(
    slices: Iterable[Slice],
    fields: Collection[str],
    *,
    site: str | None,
    zone: str | None,
    group: str = "",
    device: str | None = None,
    taken_at: datetime | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What these slices ask of one sample, as far as it is known and may travel; nothing else.

    Args:
        fields: those of the data policy.
        zone: IANA name of the site's time zone; None or one that is not known here leaves hour and weekday unknown.
        group: empty where the sample has none.
        taken_at: with a zone.
        facts: those of the frame. One with the name of a word of our own, such as ``hour``, is not asked.

    >>> night = Slice(name="night", conditions=(Condition(fact="hour", op="in", value=[22, 23]),))
    >>> at = datetime.fromisoformat("2026-01-05T21:30:00+00:00")
    >>> slice_facts([night], ["taken_at"], site="a", zone="Europe/Berlin", taken_at=at, facts={"line": 4})
    {'hour': 22}
    """
    known = {name: value for name, value in (facts or {}).items() if name in fields and name not in OWN_FACTS}
    known |= {name: value for name, value in (("site", site), ("device", device)) if value is not None}
    if group and "group" in fields:
        known["group"] = group
    place = None if zone is None else zone_of(zone)
    if taken_at is not None and place is not None and "taken_at" in fields:
        here = taken_at.astimezone(place)
        known |= {"hour": here.hour, "weekday": DAYS[here.weekday()]}
    asked = {condition.fact for item in slices for condition in item.conditions}
    return {name: known[name] for name in sorted(asked & known.keys())}


def slices_of(slices: Iterable[Slice], facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the slices that a sample with these facts is in, in the order in which they were declared.

    >>> worn = Slice(name="worn-lamp", conditions=(Condition(fact="lamp_hours", op="ge", value=2000),))
    >>> slices_of([worn], {"lamp_hours": 2400}), slices_of([worn], {})
    (('worn-lamp',), ())
    """
    return tuple(item.name for item in slices if not unmet(item.conditions, facts))


def slice_faults(slices: Sequence[Slice], fields: Sequence[str], sites: Sequence[str]) -> list[tuple[Place, str]]:
    """Why a slice could never hold what it is meant for: the place of each mistake in the use case, and a sentence."""
    faults: list[tuple[Place, str]] = []
    names = [item.name for item in slices]
    for number, item in enumerate(slices):
        if item.name in names[:number]:
            faults.append((("slices", number, "name"), f"two slices share the name {item.name}"))
        if f"slice:{item.name}" in sites:
            faults.append((("slices", number, "name"), f"a site has the name slice:{item.name} already"))
        for place, condition in enumerate(item.conditions):
            where: Place = ("slices", number, "conditions", place)
            faults += [((*where, field), text) for field, text in _condition_faults(condition, fields, sites)]
    return faults


def _condition_faults(condition: Condition, fields: Sequence[str], sites: Sequence[str]) -> Iterator[tuple[str, str]]:
    fact = condition.fact
    if fact in NO_FACTS:
        yield "fact", f"{fact} is {NO_FACTS[fact]}, which makes no slice"
        return
    needed = OWN_FACTS.get(fact, fact)
    if needed is not None and needed not in fields:
        comes = "" if needed == fact else f" (it comes from {needed})"
        yield (
            "fact",
            f"{fact}{comes} may not travel with a sample, so the hub never knows it; data.fields lists "
            f"{', '.join(fields) or 'nothing'}; add {needed} there, or ask another fact",
        )
    allowed = {"hour": HOURS, "weekday": DAYS, "site": sites}.get(fact)
    values = condition.value if isinstance(condition.value, list) else [condition.value]
    if allowed is not None and (
        wrong := [value for value in values if isinstance(value, bool) or value not in allowed]
    ):
        shown = "a number from 0 to 23" if fact == "hour" else f"one of {', '.join(str(item) for item in allowed)}"
        yield "value", f"{wrong[0]!r} is never the {fact} of a sample; give {shown}"
