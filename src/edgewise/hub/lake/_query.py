"""A question to the lake in SQL, answered by a process of its own.

DuckDB's own bound on memory does not hold for every function (`repeat` took 5.8 GB under a bound of 512 MB), and a
question that does not end must be ended: so it runs in a process with limits, which can be killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from edgewise.hub.lake._committer import Lake
from edgewise.hub.lake._tables import TABLES
from edgewise.ports.limited import ENVIRONMENT
from edgewise.wire import EdgewiseError, NotNow, NotValid, canonical

MODULE = "edgewise.hub.lake._query_child"
CLOUD = re.compile(r"(AWS|GOOGLE|AZURE)_\w+|SSL_CERT_FILE|SSL_CERT_DIR")
START_S = 20  # for the process to import its libraries, and to stop after its time
PIECE_BYTES = 1 << 18
Form = Literal["json", "arrow"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One question.

    Attributes:
        at: a moment (RFC 3339), or the number of a version where the question is of one table.
        sites: whose rows may be seen; None for all.
        rows_max: of the answer; None for the hub's own bound.
    """

    sql: str
    at: str | None = None
    sites: Collection[str] | None = None
    rows_max: int | None = None
    form: Form = "json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        body: a JSON object with ``columns`` and ``rows``, or an Arrow IPC stream.
        truncated: whether the bound on rows or bytes cut it.
        versions: of the tables that it read.
    """

    body: bytes
    rows: int
    truncated: bool
    versions: dict[str, int] = field(default_factory=dict)


def ask(lake: Lake, asked: Asked, *, gone: threading.Event | None = None) -> Answer:
    """The answer to a question.

    Args:
        gone: set when nobody waits for the answer any more.
    Raises:
        NotValid: code ``sql_invalid`` with what is wrong and where, or ``lake_version``.
        NotNow: too many at once, out of time or memory, cancelled, or the lake cannot be read.
    """
    limits = lake.limits
    if not asked.sql.strip() or len(asked.sql) > limits.sql_chars_max:
        raise NotValid(
            f"the SQL has {len(asked.sql)} characters, needs 1 to {limits.sql_chars_max}", code="sql_invalid"
        )
    if not lake.queries.acquire(blocking=False):
        raise NotNow(f"{limits.queries_max} questions are under way; ask again when one is done", code="lake_busy")
    try:
        rows_max = min(asked.rows_max or limits.query_rows_max, limits.query_rows_max)
        order = {
            "sql": asked.sql,
            "at": _at(asked.at),
            "sites": None if asked.sites is None else sorted(asked.sites),
            "rows_max": rows_max,
            "bytes_max": limits.query_bytes_max,
            "memory_bytes": limits.query_memory_bytes,
            "seconds": limits.query_s_max,
            "form": asked.form,
            "tables": {name: lake.place.table(name) for name in TABLES},
            "options": dict(lake.place.options),
        }
        with _child() as child:
            output = _talk(child, canonical(order), lake, gone or threading.Event())
    finally:
        lake.queries.release()
    return _answer(output, limits.query_s_max)


def _at(text: str | None) -> int | str | None:
    if text is None or text == "":
        return None
    if text.isdecimal() and len(text) <= 18:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise NotValid(
            f"{text[:60]!r} is neither a version's number nor a moment such as 2026-03-01T06:00:00Z",
            code="lake_version",
        )
    return moment.isoformat()


@contextlib.contextmanager
def _child() -> Iterator[subprocess.Popen[bytes]]:
    """The process; it is gone behind this, however it went."""
    names = [name for name in os.environ if name in ENVIRONMENT or CLOUD.fullmatch(name)]
    environment = {name: os.environ[name] for name in names} | {"OMP_NUM_THREADS": "1"}
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
    except OSError as error:
        raise NotNow(f"no process can be started for the question ({error}); ask again", code="lake_busy") from error
    with child:
        try:
            yield child
        finally:
            child.kill()


def _talk(child: subprocess.Popen[bytes], order: bytes, lake: Lake, gone: threading.Event) -> bytes:
    """What the process writes, as long as somebody waits for it and its time lasts."""
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it ended before it listened: what it wrote, or did not, says why
        child.stdin.write(order)
        child.stdin.close()
    output, end = bytearray(), time.monotonic() + lake.limits.query_s_max + START_S
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if gone.is_set():
                raise NotNow("the question was cancelled: nobody waits for the answer any more", code="query_cancelled")
            if time.monotonic() > end:
                raise _too_slow(lake.limits.query_s_max)
            if selector.select(0.1):
                piece = os.read(child.stdout.fileno(), PIECE_BYTES)
                if not piece:
                    return bytes(output)
                output += piece


def _answer(output: bytes, seconds: float) -> Answer:
    line, ended, body = output.partition(b"\n")
    if not ended:
        raise NotNow(
            "the process that answers the question died, most likely of too little memory; ask for fewer rows or "
            "columns at once",
            code="query_memory",
        )
    head: dict[str, Any] = json.loads(line)
    if "code" in head:
        raise _error(head["code"], head["text"], seconds)
    return Answer(body=body, rows=head["rows"], truncated=head["truncated"], versions=head["versions"])


def _error(code: str, text: str, seconds: float) -> EdgewiseError:
    if code == "query_slow":
        return _too_slow(seconds)
    family = NotNow if code in ("query_memory", "query_failed", "lake_failed") else NotValid
    return family(text, code=code)


def _too_slow(seconds: float) -> NotNow:
    return NotNow(
        f"the question took over {seconds:.0f} s and was ended; ask for a shorter time, fewer sites or fewer columns",
        code="query_slow",
    )
