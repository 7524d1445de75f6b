"""Canonical JSON of the usual values by the standard library's encoder, which is written in C.

RFC 8785 asks for three things: keys in the order of their UTF-16 units, the shortest escapes in strings, and numbers as
ECMAScript prints them. For ASCII keys, and for numbers that Python prints the same way, the standard library does all
three, some eight times faster than the reference implementation; for anything else this says that it cannot.
"""

from __future__ import annotations

import json
from typing import Any

INTEGER_MAX = 2**53 - 1
# From here on Python writes a fraction without an exponent; ECMAScript does from 1e-6 on (ECMA-262, Number::toString).
PLAIN_MIN = 1e-4
_ENCODE = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Unusual(Exception):
    """This value needs the whole algorithm."""


def usual(value: Any) -> bytes:
    """The canonical bytes of a value.

    Raises:
        Unusual: a value that is not told to be the same in both; nothing is said about whether it has a canonical form.

    >>> usual({"b": 1.0, "a": [True, None, 0.25]})
    b'{"a":[true,null,0.25],"b":1}'
    """
    try:
        return _ENCODE(_checked(value)).encode()
    except (RecursionError, UnicodeEncodeError) as error:
        raise Unusual from error


def _checked(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is dict:
        made = {}
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                raise Unusual
            made[key] = _checked(item)
        return made
    if kind is list or kind is tuple:
        return [_checked(item) for item in value]
    if kind is int and -INTEGER_MAX <= value <= INTEGER_MAX:
        return value
    if kind is float:
        size = abs(value)
        if value.is_integer():
            if size <= INTEGER_MAX:
                return int(value)
        elif PLAIN_MIN <= size < INTEGER_MAX:  # so neither infinite nor NaN
            return value
    raise Unusual
