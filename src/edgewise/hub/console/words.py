"""How the console writes numbers, times and names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

UNITS = ("B", "kB", "MB", "GB", "TB")


def size(value: float | None) -> str:
    """Bytes for people.

    >>> size(0), size(1536), size(12_300_000), size(None)
    ('0 B', '1.5 kB', '12.3 MB', '–')
    """
    if value is None:
        return "–"
    amount, unit = float(value), 0
    while amount >= 1000 and unit < len(UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {UNITS[unit]}" if unit == 0 or amount >= 100 else f"{amount:.1f} {UNITS[unit]}"


def count(value: int | None) -> str:
    """A whole number with thin gaps.

    >>> count(1234567) == "1\\u202f234\\u202f567", count(None)
    (True, '–')
    """
    return "–" if value is None else f"{value:,}".replace(",", "\u202f")


def share(value: float | None) -> str:
    """A share as per cent.

    >>> share(0.153), share(None)
    ('15.3 %', '–')
    """
    return "–" if value is None else f"{100 * value:.1f} %"


def number(value: float | None, digits: int = 3) -> str:
    """A measure with its digits.

    >>> number(0.98765), number(None)
    ('0.988', '–')
    """
    return "–" if value is None else f"{value:.{digits}f}"


def evidence(value: float) -> str:
    """An e-value, short at any size.

    >>> evidence(1.0), evidence(186.34), evidence(2e9)
    ('1.00', '186', '2.0e+09')
    """
    return f"{value:.2f}" if value < 100 else f"{value:.0f}" if value < 1e6 else f"{value:.1e}"


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago, roughly.

    >>> from datetime import UTC, timedelta
    >>> now = datetime(2026, 5, 4, tzinfo=UTC)
    >>> ago(now - timedelta(seconds=5), now), ago(now - timedelta(minutes=3), now), ago(None, now)
    ('5 s ago', '3 min ago', 'never')
    """
    if moment is None:
        return "never"
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (seconds >= length and unit == "min"):
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def clock(moment: datetime | None) -> str:
    """A moment, UTC.

    >>> clock(None)
    '–'
    """
    return "–" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def short(digest: str | None) -> str:
    """The first characters of a digest.

    >>> short("0123456789abcdef")
    '0123456789'
    """
    return (digest or "–")[:10]


def lasting(seconds: float | None) -> str:
    """A length of time.

    >>> lasting(90), lasting(7200), lasting(200_000), lasting(None)
    ('90 s', '2.0 hours', '2.3 days', '–')
    """
    if seconds is None:
        return "–"
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def word(state: str) -> str:
    """The name of a state as people read it.

    >>> word("conflict_paused"), word("not_now")
    ('conflict paused', 'not now')
    """
    return state.replace("_", " ")


FILTERS: dict[str, Callable[..., Any]] = {
    "size": size,
    "count": count,
    "share": share,
    "number": number,
    "evidence": evidence,
    "ago": ago,
    "clock": clock,
    "short": short,
    "lasting": lasting,
    "word": word,
}
