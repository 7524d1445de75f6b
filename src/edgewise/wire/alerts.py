"""What people are told of: a cause, in words and numbers, with nothing private in it."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from pydantic import Field

from edgewise.wire._record import Id, Name, Record, Time

# Signs of an attack, or of a fault that looks like one.
ThreatKind: TypeAlias = Literal[
    "failed_authentication",
    "refused_access",
    "replay",
    "version_regression",
    "clock",
    "unknown_device",
    "cloned_key",
    "refused_by_device",
    "refused_data",
]
THREAT_KINDS: tuple[ThreatKind, ...] = get_args(ThreatKind)
Cause: TypeAlias = Literal[
    "threat", "release_withdrawn", "rollout_reverted", "disk_low", "controllers_stuck", "devices_silent"
]


class Alert(Record):
    """One message to people. It names counts, releases and use cases; no address, person, frame or subject."""

    id: Id
    cause: Cause
    about: Name  # a kind of threat, a release, a use case, or the hub
    title: str = Field(max_length=160)
    text: str = Field(max_length=1000)
    count: int = Field(0, ge=0)
    at: Time
