"""Whole files of rows made private: JSON of any shape, JSON lines, CSV. Numbers stay; text only in listed fields."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from edgewise.frames._cannot import CannotMakePrivate
from edgewise.frames._hide import Hider, is_instead
from edgewise.frames._private import Made
from edgewise.wire import PrivateSettings

DocumentKind: TypeAlias = Literal["json", "jsonl", "csv"]
DOCUMENT_BYTES_MAX = 32_000_000  # read whole: a value takes many times its bytes in memory
DELIMITERS = (",", ";", "\t", "|")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_PLAIN_WORDS = frozenset({"", "true", "false", "null", "nan", "na", "n/a", "none", "yes", "no"})


def private_document(data: bytes, kind: DocumentKind, settings: PrivateSettings, *, key: bytes = b"") -> Made:
    """The document without identifiers and without text that no listed field holds.

    Args:
        data: at most ``DOCUMENT_BYTES_MAX`` bytes of UTF-8; a CSV begins with the names of its columns.
        settings: ``identifiers`` and ``text_fields``.
        key: of keyed hashes.
    Returns:
        a document of the same kind.
    Raises:
        CannotMakePrivate: too large, unreadable, ragged or without a header.

    >>> private_document(b"load,worker\\n3.5,Ada\\n", "csv", PrivateSettings()).data
    b'load\\r\\n3.5\\r\\n'
    """
    if len(data) > DOCUMENT_BYTES_MAX:
        raise CannotMakePrivate(
            f"this document has {len(data)} bytes, at most {DOCUMENT_BYTES_MAX} are read; split it", code="too_large"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CannotMakePrivate("this document is not UTF-8 text", code="unreadable") from error
    hider = Hider(action=settings.identifiers, key=key, listed=frozenset(settings.text_fields))
    make, media_type = _MAKERS[kind]
    made = make(text, hider)
    return Made(data=made.encode(), media_type=media_type, found=dict(hider.found))


def _json(text: str, hider: Hider) -> str:
    return _dumped(_hidden(_loaded(text), hider)) + "\n"


def _json_lines(text: str, hider: Hider) -> str:
    return "".join(_dumped(_hidden(_loaded(line), hider)) + "\n" for line in text.splitlines() if line.strip())


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CannotMakePrivate("this is not JSON", code="unreadable") from error


def _dumped(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise CannotMakePrivate("a number in it is not finite, which JSON does not have", code="unreadable") from error


def _hidden(value: Any, hider: Hider) -> Any:
    if isinstance(value, str):  # a document that is nothing but a text has no field that could be listed
        raise CannotMakePrivate("this is one text, and no field of it can be listed", code="only_text")
    return _without_text(hider.value(value), hider, listed=False)


def _without_text(value: Any, hider: Hider, *, listed: bool) -> Any:
    """Depth is bounded: the hider went over it before."""
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if _stays(item, hider, listed=name in hider.listed)}
        return {name: _without_text(item, hider, listed=name in hider.listed) for name, item in kept.items()}
    if isinstance(value, list):
        return [_without_text(item, hider, listed=listed) for item in value if _stays(item, hider, listed=listed)]
    return value


def _stays(value: Any, hider: Hider, *, listed: bool) -> bool:
    if isinstance(value, str) and not listed and not is_instead(value):
        hider.found["text"] += 1
        return False
    return True


# -- CSV ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Column:
    """What becomes of a column."""

    name: str | None  # None: the column goes
    kind: str | None  # what its values are by its name; None where the name says nothing
    listed: bool


def _csv(text: str, hider: Hider) -> str:
    delimiter = max(DELIMITERS, key=text.partition("\n")[0].count)
    rows = _rows(text, delimiter)
    header = next(rows, [])
    if not header or any(not name.strip() or _NUMBER.fullmatch(name.strip()) for name in header):
        raise CannotMakePrivate("the first line does not name the columns", code="no_header")
    columns = [_column(name, hider) for name in header]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(column.name for column in columns if column.name is not None)
    for row in rows:
        if len(row) != len(columns):
            raise CannotMakePrivate("a line has more or fewer cells than the header", code="ragged")
        cells = [_cell(cell, column, hider) for cell, column in zip(row, columns, strict=True)]
        writer.writerow(cell for cell, column in zip(cells, columns, strict=True) if column.name is not None)
    return out.getvalue()


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from (row for row in reader if row)
    except csv.Error as error:
        raise CannotMakePrivate("this is not CSV", code="unreadable") from error


def _column(name: str, hider: Hider) -> _Column:
    kind, shown = hider.condemned(name), hider.text(name)
    gone = kind is not None and hider.action == "drop"
    return _Column(name=None if gone else shown, kind=kind, listed=name in hider.listed)


def _cell(cell: str, column: _Column, hider: Hider) -> str:
    bare = cell.strip()
    if bare.lower() in _PLAIN_WORDS:
        return cell
    if column.kind is not None:
        hider.found[column.kind] += 1
        return "" if hider.action == "drop" else hider.instead(column.kind, bare)
    if _NUMBER.fullmatch(bare):
        kept = hider.value(int(bare)) if bare.isdigit() else bare
        return "" if kept is None else str(kept) if isinstance(kept, str) else cell
    if not column.listed:
        hider.found["text"] += 1
        return ""
    return hider.text(cell) or ""


_MAKERS: dict[DocumentKind, tuple[Callable[[str, Hider], str], str]] = {
    "json": (_json, "application/json"),
    "jsonl": (_json_lines, "application/jsonl"),
    "csv": (_csv, "text/csv"),
}
