"""One line of the doctor's report, and what all its looks are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from edgewise.edge._update_state import UpdateState
from edgewise.edge.device import Identity
from edgewise.ports import Clock
from edgewise.wire import SourceSpec

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What was looked at, what was seen, and – where it is not well – what to do."""

    name: str
    verdict: Verdict
    text: str
    do: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patient:
    """The device that is looked at."""

    folder: Path
    now: datetime
    clock: Clock
    identity: Identity | None
    state: UpdateState
    hub_url: str
    http_port: int
    sources: Sequence[SourceSpec]
    agent_runs: bool
    facts: Mapping[str, Any] = field(default_factory=dict)  # true now
    card: Mapping[str, Any] = field(default_factory=dict)  # the capability card


def ok(name: str, text: str) -> Check:
    return Check(name=name, verdict="ok", text=text)


def warn(name: str, text: str, do: str) -> Check:
    return Check(name=name, verdict="warn", text=text, do=do)


def fail(name: str, text: str, do: str) -> Check:
    return Check(name=name, verdict="fail", text=text, do=do)
