"""Identifiers out of rows: in texts and in names of fields, at every depth; dropped, masked or hashed."""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from edgewise.frames._cannot import CannotMakePrivate
from edgewise.frames._check_digits import luhn
from edgewise.frames._field_names import THEIRS, WORDS, field_kind
from edgewise.frames._identifiers import TEXT_MAX, find_identifiers, patterns
from edgewise.wire import NotValid

DEPTH_MAX = 32
VALUES_MAX = 500_000  # of one row or document
KEY_BYTES_MIN = 16
HASH_CHARACTERS = 16  # 64 bits: two of a billion values share one with a chance of 3 %
_GONE: Any = object()


@dataclass(kw_only=True, slots=True)
class Hider:
    """Takes identifiers out of texts and rows, and counts what it found by kind.

    Args:
        action: ``drop`` leaves out the field or list item; ``mask`` writes the kind in its place; ``hash`` writes the
            kind and a keyed hash, so that the same value is the same again under the same key.
        key: of the hashes; it stays where the data came from.
        listed: fields whose *names* do not condemn them; their values are searched all the same.

    >>> hider = Hider(action="mask")
    >>> hider.value({"load": 3, "note": "call ada@example.com", "patient_id": "P-77"})
    {'load': 3, 'note': 'call [email]', 'patient_id': '[record]'}
    >>> dict(hider.found)
    {'email': 1, 'record': 1}
    """

    action: Literal["drop", "mask", "hash"]
    key: bytes = b""
    listed: frozenset[str] = frozenset()
    found: Counter[str] = field(default_factory=Counter)
    _values: int = 0

    def __post_init__(self) -> None:
        if self.action == "hash" and len(self.key) < KEY_BYTES_MIN:
            raise NotValid(
                f"the key that hashes identifiers has {len(self.key)} bytes, needs at least {KEY_BYTES_MIN}",
                code="key_invalid",
            )

    def value(self, value: Any) -> Any:
        """A JSON value without identifiers; None where nothing is left of it.

        Raises:
            CannotMakePrivate: too deep, too many values, or a text too long.
        """
        hidden = self._value(value, 0)
        return None if hidden is _GONE else hidden

    def text(self, text: str) -> str | None:
        """A text without identifiers; None when it held one and the action is to drop."""
        if len(text) > TEXT_MAX:
            raise CannotMakePrivate(
                f"a text of {len(text)} characters, at most {TEXT_MAX} are searched", code="text_too_long"
            )
        found = find_identifiers(text)
        self.found.update(one.kind for one in found)
        if found and self.action == "drop":
            return None
        for one in reversed(found):
            text = text[: one.start] + self.instead(one.kind, text[one.start : one.end]) + text[one.end :]
        return text

    def _value(self, value: Any, depth: int) -> Any:
        self._values += 1
        if depth > DEPTH_MAX or self._values > VALUES_MAX:
            raise CannotMakePrivate(
                f"this holds over {VALUES_MAX} values or goes deeper than {DEPTH_MAX}; split it", code="row_too_large"
            )
        if isinstance(value, str):
            hidden = self.text(value)
            return _GONE if hidden is None else hidden
        if isinstance(value, dict):
            return self._fields(value, depth)
        if isinstance(value, list):
            items = [self._value(item, depth + 1) for item in value]
            return [item for item in items if item is not _GONE]
        return self._number(value)

    def _number(self, value: Any) -> Any:
        # Only cards: other check digits are met by every tenth or eleventh number, and clocks count in such numbers.
        digits = str(value) if isinstance(value, int) else ""
        if 13 <= len(digits) <= 19 and digits[0] in "23456" and luhn(digits):
            self.found["card"] += 1
            return _GONE if self.action == "drop" else self.instead("card", str(value))
        return value

    def _fields(self, fields: dict[str, Any], depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in fields.items():
            hidden_name = self.text(name)
            hidden = self._field(name, value, depth)
            if hidden_name is not None and hidden is not _GONE:
                result[_free(hidden_name, result)] = hidden
        return result

    def _field(self, name: str, value: Any, depth: int) -> Any:
        kind = None if value is None else self.condemned(name)
        if kind is None or isinstance(value, bool):
            return self._value(value, depth + 1)
        if isinstance(value, dict | list):
            # `patient: {age: 3, name: …}`: its fields say by themselves what they are; a bare list does not.
            return self._value(value, depth + 1) if isinstance(value, dict) else self._gone(kind, value)
        return self._gone(kind, value)

    def _gone(self, kind: str, value: Any) -> Any:
        self.found[kind] += 1
        return _GONE if self.action == "drop" else self.instead(kind, str(value))

    def condemned(self, name: str) -> str | None:
        """What kind of identifier a field holds by its name; None where it says nothing, or is listed."""
        return None if name in self.listed else field_kind(name)

    def instead(self, kind: str, text: str) -> str:
        """What stands in an identifier's place: its kind, and a keyed hash where the action is to hash."""
        if self.action == "mask":
            return f"[{kind}]"
        made = hmac.new(self.key, f"{kind}\n{text.strip().casefold()}".encode(), hashlib.sha256).hexdigest()
        return f"[{kind} {made[:HASH_CHARACTERS]}]"


def is_instead(text: str) -> bool:
    """Whether a text is nothing but what `Hider` writes in an identifier's place."""
    return _instead().fullmatch(text) is not None


@functools.cache
def _instead() -> re.Pattern[str]:
    kinds = {pattern.kind for pattern in patterns()} | {*WORDS.values(), *THEIRS.values()}
    return re.compile(rf"\[(?:{'|'.join(sorted(kinds))})(?: [0-9a-f]{{{HASH_CHARACTERS}}})?\]")


def masked(text: str) -> str:
    """A sentence of a person or a program with the kinds of identifiers in place of them.

    >>> masked("ask ada@example.com")
    'ask [email]'
    """
    return Hider(action="mask").text(text) or ""


def _free(name: str, taken: dict[str, Any]) -> str:
    """Two masked names may be alike; neither may take the other's place."""
    if name not in taken:
        return name
    return next(other for number in range(2, len(taken) + 3) if (other := f"{name} {number}") not in taken)
