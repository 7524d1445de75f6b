"""Identifiers of persons in text: mail, phone, accounts, cards, addresses of machines, national numbers, birth dates.

Patterns find what looks like one; where a number has check digits they decide. It is a net with holes, not a proof:
docs/privacy.md names what it cannot see (names of persons above all).
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgewise.frames import _check_digits as check

TEXT_MAX = 200_000  # characters of one text; a longer one is refused, for it could hide anything and costs much


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Where an identifier of which kind is in a text."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Pattern:
    kind: str
    regex: re.Pattern[str]
    holds: Callable[[str], bool]


def _any(_: str) -> bool:
    return True


def _pattern(kind: str, regex: str, holds: Callable[[str], bool] = _any) -> _Pattern:
    # ASCII: what \d and \w take must be what the checks compute with.
    return _Pattern(kind, re.compile(regex, re.IGNORECASE | re.ASCII), holds)


def _number(kind: str, regex: str, holds: Callable[[str], bool] = _any) -> _Pattern:
    """A number or code that stands by itself; the check sees its letters and digits alone."""
    whole = rf"(?<![A-Za-z0-9]){regex}(?![A-Za-z0-9])"
    return _pattern(kind, whole, lambda text: holds("".join(filter(str.isalnum, text)).upper()))


def _after(kind: str, words: str, regex: str, holds: Callable[[str], bool] = _any) -> _Pattern:
    """Something that is an identifier because of the words before it; only itself is taken, not the words."""
    return _pattern(kind, rf"(?:{words})(?P<it>{regex})(?![A-Za-z0-9])", holds)


def _address(version: int) -> Callable[[str], bool]:
    def holds(text: str) -> bool:
        try:
            return ipaddress.ip_address(text.partition("%")[0]).version == version
        except ValueError:
            return False

    return holds


_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:1[89]|20)\d\d"
_DATES = (
    rf"{_YEAR}[-/.]?{_MONTH}[-/.]?{_DAY}",
    rf"{_DAY}[-/. ]{_MONTH}[-/. ](?:{_YEAR}|\d\d)",
    rf"{_MONTH}[-/]{_DAY}[-/](?:{_YEAR}|\d\d)",
)
_SEPARATOR = r"[ .:#=]{1,4}"
_RECORD_WORDS = (
    r"(?:mrn|medical record|patient|pat|case|chart|accession|insurance|policy|member)"
    rf"[ _-]?(?:id|no|nr|num|number|#)?{_SEPARATOR}"
)
_PHONE_WORDS = r"(?:phone|tel|fax|mobile|mobil|cell|call|handy|telefon|ruf)[a-z. ]{0,10}[:#= ]{1,3}"
_CARD_WORDS = r"(?:passport|reisepass|id card|ausweis|licen[cs]e)[a-z ]{0,12}"
_UK_NEVER = r"(?!BG|GB|NK|KN|TN|NT|ZZ)"  # prefixes of national insurance numbers that are not given out


@functools.cache  # when the first text is searched: most devices never do, and must start fast
def patterns() -> tuple[_Pattern, ...]:
    """All of them. Earlier ones win where two would take the same characters: check digits and clear shapes first."""
    return (
        _pattern("email", r"[a-z0-9._%+'-]{1,64}(?:@|\(at\)|\[at\]|%40)[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,8}"),
        _pattern("user", r"(?<=://)[^\s/@]{1,128}(?=@)"),
        _number("iban", r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}", check.iban),
        _number("mac", r"[0-9a-f]{2}(?:([:-])[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}"),
        _number("mac", r"[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}"),
        _pattern(
            "ipv6",
            r"(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{0,4}|\d{1,3}(?:\.\d{1,3}){3})(?![\w:])",
            _address(6),
        ),
        _pattern("ipv4", r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)", _address(4)),
        _number("card", r"[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}", check.luhn),
        _number("card", r"3[47]\d\d[ -]?\d{6}[ -]?\d{5}", check.luhn),
        _number("vehicle", r"[A-HJ-NPR-Z0-9]{17}", check.vehicle_number),
        _number("national-it", r"[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]", check.italian_code),
        _number("national-es", r"[XYZ\d]\d{7}-?[A-Z]", check.spanish_number),
        _number("national-fr", r"[12] ?\d\d ?\d\d ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", check.french_number),
        _number("national-us", r"\d{3}-\d{2}-\d{4}", check.american_number),
        _after("national-us", r"(?:ssn|social security)\D{0,20}", r"\d{3}[- ]?\d{2}[- ]?\d{4}"),
        _number("national-br", r"\d{3}\.?\d{3}\.?\d{3}-?\d\d", check.brazilian_number),
        _number("national-de", r"\d\d ?\d{3} ?\d{3} ?\d{3}", check.german_tax_number),
        _number("national-pl", r"\d{11}", check.polish_number),
        _number("national-in", r"\d{4}[ -]?\d{4}[ -]?\d{4}", check.indian_number),
        _number("national-se", r"(?:\d\d)?\d{6}[-+]\d{4}", check.swedish_number),
        _number("national-gb", r"\d{3}[ -]?\d{3}[ -]?\d{4}", check.nhs_number),
        _number("national-gb", _UK_NEVER + r"[A-CEGHJ-PR-TW-Z]{2} ?\d\d ?\d\d ?\d\d ?[A-D]"),
        _after("national-nl", r"(?:bsn|burgerservice)\D{0,20}", r"\d{9}", check.dutch_number),
        _after("record", _RECORD_WORDS, r"(?=[A-Z-]{0,8}\d)[A-Z0-9-]{4,20}"),
        _after("birth", r"(?:birth|born|dob|d\.o\.b|geboren|geb)\D{0,16}", "|".join(_DATES)),
        _after("passport", _CARD_WORDS + _SEPARATOR, r"(?=[A-Z]{0,3}\d)[A-Z0-9]{6,14}"),
        _pattern("position", r"(?<![\d.])-?\d{1,2}\.\d{4,12}°?\s?[NS]?[,; ]\s?-?1?\d{1,2}\.\d{4,12}(?!\d)"),
        _after("phone", _PHONE_WORDS, r"\+?\(?\d[\d ()/.-]{4,18}\d"),
        _pattern("phone", r"(?<![\w+])(?:\+|00)[1-9]\d{0,2}(?:[ ()/.-]{0,2}\d){6,12}(?!\w)"),
        _pattern("phone", r"(?<![\w.-])\(?[2-9]\d{2}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])"),
        _pattern("phone", r"(?<![\w.-])\(?0\d{2,5}\)?[ /-]\d{3,4}[ -]?\d{2,6}(?![\w-])"),
    )


def find_identifiers(text: str) -> list[Found]:
    """Identifiers in a text, in order, none over another.

    Args:
        text: at most ``TEXT_MAX`` characters.

    >>> [found.kind for found in find_identifiers("ask ada@example.com or +41 44 668 18 00, card 4111 1111 1111 1111")]
    ['email', 'phone', 'card']
    """
    assert len(text) <= TEXT_MAX, "the caller refuses longer texts"
    taken, found = bytearray(len(text)), []
    for pattern in patterns():
        for one in _matches(pattern, text):
            if not any(taken[one.start : one.end]):
                taken[one.start : one.end] = b"\x01" * (one.end - one.start)
                found.append(one)
    return sorted(found, key=lambda one: one.start)


def _matches(pattern: _Pattern, text: str) -> Iterator[Found]:
    group: int | str = "it" if "it" in pattern.regex.groupindex else 0
    place = 0
    while (match := pattern.regex.search(text, place)) is not None:
        kept = _that_holds(pattern, match, group)
        if kept is None:
            place = match.start() + 1  # what fails its check may have begun too early
        else:
            yield Found(kind=pattern.kind, start=kept.start(group), end=kept.end(group))
            place = max(kept.end(), place + 1)


def _that_holds(pattern: _Pattern, match: re.Match[str], group: int | str) -> re.Match[str] | None:
    """The match, or the longest beginning of it that holds: an account number may be followed by other digits."""
    if pattern.holds(match[group]):
        return match
    text = match.string
    for end in range(match.end() - 1, match.start() + 8, -1):
        if text[end - 1].isalnum() and not text[end].isalnum():
            shorter = pattern.regex.fullmatch(text, match.start(), end)
            if shorter is not None and pattern.holds(shorter[group]):
                return shorter
    return None
