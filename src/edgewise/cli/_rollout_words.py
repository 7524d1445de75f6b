"""Previews of rollouts as people read them, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from textwrap import wrap
from typing import Any

WIDTH = 80
SHOWN_MAX = 3  # examples


def preview_lines(seen: Mapping[str, Any]) -> Iterator[str]:
    """What a rollout will do, line by line.

    Args:
        seen: the answer of POST /rollouts/preview.
    """
    back = f"back to {seen['previous']}" if seen["previous"] else "nothing to go back to"
    yield from text(
        f"{seen['release']} for {seen['selected']} of {seen['fleet']} devices of {seen['use_case']}, {back}."
    )
    variants = {name: count for name, count in seen["variants"].items() if name != "the only one"}
    if variants:
        yield from text(f"Variants: {_counts(variants)}.")
    yield ""
    yield from _stages(seen)
    yield ""
    yield from text(f"{amount(seen)}.")
    yield from text(_time(seen))
    if seen["supersedes"]:
        yield from text(f"Ends rollout {', '.join(seen['supersedes'])} where it touches its devices.")
    for name, title in (
        ("outside", "Not selected"),
        ("never", "Cannot take it"),
        ("waiting", "Does not take it as things stand"),
    ):
        if seen[name]["total"]:
            yield from _apart(title, seen[name])
    yield from text(f"Assumed: {'; '.join(seen['assumed'])}.")


def amount(seen: Mapping[str, Any]) -> str:
    """What is fetched, and what that costs.

    >>> amount({"fetched_bytes": 2_400_000_000, "metered_bytes": 600_000_000, "cost": 3.0, "currency": "EUR"})
    '2.4 GB are fetched, 600 MB of it over metered links: 3.00 EUR'
    """
    fetched = f"{size(seen['fetched_bytes'])} are fetched"
    if not seen["metered_bytes"]:
        return f"{fetched}, none of it over metered links"
    cost = "" if seen["cost"] is None else f": {seen['cost']:.2f} {seen['currency'] or 'in the price of the use case'}"
    return f"{fetched}, {size(seen['metered_bytes'])} of it over metered links{cost}"


def size(count: float) -> str:
    """Bytes in a short form.

    >>> size(0), size(1234), size(20_000_000), size(2_400_000_000)
    ('0 bytes', '1.23 kB', '20 MB', '2.4 GB')
    """
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= length:
            return f"{count / length:.3g} {unit}"
    return f"{count:.0f} bytes"


def span(seconds: float) -> str:
    """A length of time in a short form.

    >>> span(45), span(5400), span(200_000)
    ('45 s', '1.5 hours', '2.3 days')
    """
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length or (unit == "hours" and seconds >= length):
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.0f} s"


def clock(moment: str, *, short: bool = False) -> str:
    """A moment as the hub writes it, in UTC to the minute.

    >>> clock("2026-05-05T22:00:00+02:00"), clock("2026-05-05T20:00:31.5Z", short=True)
    ('2026-05-05 20:00', '05-05 20:00')
    """
    at = datetime.fromisoformat(moment).astimezone(UTC)
    return f"{at:%m-%d %H:%M}" if short else f"{at:%Y-%m-%d %H:%M}"


def text(sentence: str, *, indent: str = "") -> list[str]:
    """A sentence as lines of a terminal."""
    return wrap(sentence, WIDTH, subsequent_indent=indent or "  ", break_long_words=True, break_on_hyphens=False)


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows in columns; the last one takes what is left of the line and is cut there."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]) - 1)]
    left = WIDTH - sum(widths) - 2 * len(widths)
    for row in rows:
        last = row[-1] if len(row[-1]) <= left else row[-1][: max(1, left - 1)] + "…"
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), last]).rstrip()


def _stages(seen: Mapping[str, Any]) -> Iterator[str]:
    stages = [("shadow", seen["shadow"])] if seen["shadow"] else []
    stages += [(f"wave {index}", wave) for index, wave in enumerate(seen["waves"], 1)]
    rows = [["stage", "devices", "opens", "passes", "fetched", "where"]]
    for name, stage in stages:
        passes = clock(stage["passes_at"], short=True) if stage["passes_at"] else "does not"
        rows.append(
            [
                name,
                str(stage["total"]),
                clock(stage["opens_at"]),
                passes,
                size(stage["fetched_bytes"]),
                ", ".join(stage["devices"]) if stage["total"] <= SHOWN_MAX else _counts(stage["by_site"]),
            ]
        )
    yield from columns(rows) if len(rows) > 1 else ["No stage opens."]


def _time(seen: Mapping[str, Any]) -> str:
    if seen["ends_at"] is None:
        return f"It does not finish by itself: {seen['text']}."
    ends = f"Finished {clock(seen['ends_at'])} UTC, {span(seen['duration_s'])} after it begins"
    if seen["last_at"] and seen["last_at"] > seen["ends_at"]:
        return f"{ends}; the last device has it {clock(seen['last_at'])}."
    return f"{ends}."


def _apart(title: str, apart: Mapping[str, Any]) -> Iterator[str]:
    yield from text(f"{title}: {apart['total']}")
    for reason, count in list(apart["reasons"].items())[:SHOWN_MAX]:
        names = [item["device"] for item in apart["devices"] if reason in item["reasons"]]
        shown = ", ".join(names[:SHOWN_MAX]) + (", …" if count > SHOWN_MAX else "")
        yield from text(f"  {count}: {reason} ({shown})", indent="    ")
    if len(apart["reasons"]) > SHOWN_MAX:
        yield f"  and {len(apart['reasons']) - SHOWN_MAX} other reasons; -o json has them"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
