"""One id that follows a thing from the device through the hub to the worker: W3C Trace Context, level 1.

The trace in force is kept by `contextvars`, so no call in between has to carry it: who opens a connection puts it
into the header ``traceparent``, who writes a log line names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace

HEADER = "traceparent"
CHARACTERS_MAX = 128  # versions to come may be longer than ours; what is longer than this is none
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """A trace, and the span in it that speaks.

    Attributes:
        id: 32 hexadecimal digits, the same in all logs.
        span: 16 hexadecimal digits: who of them this is.
    """

    id: str
    span: str

    @property
    def header(self) -> str:
        """The value of ``traceparent``; recorded, because our logs always are."""
        return f"00-{self.id}-{self.span}-01"

    def child(self, *names: str) -> Trace:
        """The next span of this trace, which follows from these names."""
        return replace(self, span=_digest(self.span, *names)[:16])


def trace_of(*names: str) -> Trace:
    """A new trace that follows from these names: whoever is handed its time and its own name draws no lots for it.

    >>> trace_of("press-4", "2026-03-01") == trace_of("press-4", "2026-03-01") != trace_of("press-4", "2026-03-02")
    True
    """
    text = _digest(*names)
    return Trace(id=text[:32], span=text[32:48])


def read_trace(header: str | None) -> Trace | None:
    """The trace that a header names, None for none and for what is none (section 3.2.2: it is then ignored).

    >>> read_trace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").span
    'b7ad6b7169203331'
    >>> read_trace("00-" + "0" * 32 + "-b7ad6b7169203331-01"), read_trace("ff-x"), read_trace(None)
    (None, None, None)
    """
    found = _FORM.fullmatch(header) if header is not None and len(header) <= CHARACTERS_MAX else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    if set(found[2]) == {"0"} or set(found[3]) == {"0"}:
        return None
    return Trace(id=found[2], span=found[3])


_NOW: ContextVar[Trace | None] = ContextVar("edgewise_trace", default=None)


def trace_now() -> Trace | None:
    """The trace in force here."""
    return _NOW.get()


def trace_id() -> str | None:
    """Its id."""
    trace = _NOW.get()
    return None if trace is None else trace.id


@contextlib.contextmanager
def tracing(trace: Trace | None) -> Iterator[None]:
    """What is done inside belongs to this trace."""
    token = _NOW.set(trace)
    try:
        yield
    finally:
        _NOW.reset(token)


def _digest(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()
