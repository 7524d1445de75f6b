"""Log lines: JSON with stable keys for programs, a sentence for people at a terminal; each names its trace."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, TypeAlias

from edgewise.wire.trace import trace_id

Form: TypeAlias = Literal["auto", "json", "text"]
TEXT_MAX = 8000  # characters of one line's text
KEYS = ("at", "level", "part", "what", "text", "trace")  # of every line, in this order; trace where there is one


def log_line(
    part: str, what: str, text: str, *, level: str = "info", at: datetime, told: Mapping[str, Any] | None = None
) -> str:
    """One line of JSON.

    Args:
        part: hub, edge or worker.
        what: it is about: a logger, a route, an order.
        told: further keys; those of every line win over them.

    >>> log_line("hub", "contact", "press-4 brought 2 segments", at=datetime(2026, 3, 1, tzinfo=UTC), told={"n": 2})
    '{"at": "2026-03-01T00:00:00.000+00:00", "level": "info", "part": "hub", "what": "contact",
      "text": "press-4 brought 2 segments", "n": 2}'
    """
    line: dict[str, Any] = {
        "at": at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "part": part,
        "what": what,
        "text": text[:TEXT_MAX],
    }
    trace = trace_id()
    if trace is not None:
        line["trace"] = trace
    more = {name: value for name, value in (told or {}).items() if name not in KEYS}
    return json.dumps(line | more, ensure_ascii=False, default=str)


class LineFormatter(logging.Formatter):
    """Records of the library's loggers as lines; what a record has under ``told`` becomes keys."""

    def __init__(self, part: str, *, as_json: bool) -> None:
        super().__init__()
        self._part = part
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        at, level = datetime.fromtimestamp(record.created, UTC), record.levelname.lower()
        if not self._as_json:
            return f"{at:%H:%M:%S} {level}: {text}"
        what = record.name.removeprefix("edgewise.")
        return log_line(self._part, what, text, level=level, at=at, told=getattr(record, "told", None))


def wants_json(form: Form, stream: TextIO) -> bool:
    """Whether lines for this stream are JSON: ``auto`` means wherever no person reads along."""
    return form == "json" or (form == "auto" and not stream.isatty())


def log_to(part: str, *, form: Form = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Send what this process logs to a stream, the error stream where none is given."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(part, as_json=wants_json(form, stream)))
    root = logging.getLogger("edgewise")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(level.upper())
