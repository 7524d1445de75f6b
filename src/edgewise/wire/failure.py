"""What went wrong, so that a program can count it and a person can act on it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from edgewise.wire._record import Name, Record, Time

# link: bytes did not come. trust: not signed as it must be. compatibility: cannot run there. resource: disk, memory,
# time. quality: its answers. process: a crash or a hang. order: the assignment itself cannot be carried out.
Category: TypeAlias = Literal["link", "trust", "compatibility", "resource", "quality", "process", "order"]


class Failure(Record):
    """One failure of an update: when, in which phase, where, of which kind, under which code, in words."""

    at: Time  # by the device's clock
    phase: Name  # of the update, such as trial
    component: Name  # fetch, slots, trial, guard, shadow, runtime
    category: Category
    code: Name  # stable, such as latency_over_deadline
    text: str = Field(max_length=1000)
