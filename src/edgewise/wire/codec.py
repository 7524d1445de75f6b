"""Bytes of records: canonical JSON (RFC 8785) and its SHA-256. The only place where records become bytes."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

import rfc8785
from pydantic import BaseModel, ValidationError

from edgewise.wire._canonical import Unusual, usual
from edgewise.wire.errors import NotValid

EXPLAINED_MAX = 1000

Model = TypeVar("Model", bound=BaseModel)


def digest(data: bytes) -> str:
    """SHA-256 of the bytes, 64 lower-case hexadecimal characters.

    >>> digest(b"")[:16]
    'e3b0c44298fc1c14'
    """
    return hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    """Canonical JSON of plain values: the same value gives the same bytes everywhere.

    Source: RFC 8785. Integers outside ±(2^53 - 1) and NaN are refused.

    Raises:
        NotValid: the value has no canonical form.

    >>> canonical({"b": 1.0, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    try:
        return usual(value)
    except Unusual:
        return _by_the_book(value)


def _by_the_book(value: Any) -> bytes:
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, ValueError, TypeError, RecursionError) as error:
        raise NotValid(f"this value has no canonical JSON form: {error}", code="not_canonical") from error


def plain(record: BaseModel) -> dict[str, Any]:
    """The record as plain JSON values; fields that are None are left out."""
    return record.model_dump(mode="json", exclude_none=True)


def encode(record: BaseModel) -> bytes:
    """Canonical JSON bytes of a record, fields that are None left out."""
    return canonical(plain(record))


def record_digest(record: BaseModel) -> str:
    """SHA-256 of a record's canonical bytes: its content address."""
    return digest(encode(record))


def decode(kind: type[Model], data: bytes | str) -> Model:
    """The record in these JSON bytes.

    Raises:
        NotValid: not JSON, or not this record; the message names the field, the value seen and the value needed.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise NotValid(f"not a valid {kind.__name__}: {explain(error)}", code="record_invalid") from error


def explain(error: ValidationError) -> str:
    """One line for people: each wrong field with the value seen and what is needed."""
    if error.error_count() > EXPLAINED_MAX:  # as many dictionaries would take many times the document's memory
        return f"{error.error_count()} mistakes in it, at most {EXPLAINED_MAX} are explained"
    parts = []
    for item in error.errors(include_url=False, include_context=False)[:5]:
        where = ".".join(str(part) for part in item["loc"]) or "the whole document"
        seen = repr(item.get("input"))
        parts.append(f"{where}: {item['msg']} (seen {seen[:77] + '…' if len(seen) > 78 else seen})")
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


def loads(data: bytes | str) -> Any:
    """Plain JSON values from bytes.

    Raises:
        NotValid: not JSON.
    """
    try:
        return json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotValid(f"not JSON: {error}", code="not_json") from error
