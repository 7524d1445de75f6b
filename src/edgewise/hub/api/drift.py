"""Routes about drift: which devices and cohorts see something else than at first, and what they have in common."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import Field

from edgewise.hub import drift, scope
from edgewise.hub.access import Person
from edgewise.hub.api.auth import Reader, ThisHub
from edgewise.hub.api.models import Out
from edgewise.hub.api.problems import responses

router = APIRouter()


class StateOut(Out):
    """What the newest look says of one device or cohort."""

    subject: str
    pipeline: str
    bundle: str
    day: str = Field(description="the newest day that was looked at")
    data: dict[str, Any] = Field(
        description="word (learning, quiet, unusual, changed), evidence and its threshold, the distance of each day "
        "and its limit; of a device also accuracy, or why_no_accuracy"
    )


class AlarmOut(Out):
    id: str
    kind: str = Field(description="device or cohort")
    subject: str
    pipeline: str
    bundle: str
    began: str = Field(description="the day on which it most likely began")
    opened_at: datetime
    closed_at: datetime | None
    closed_why: str | None
    data: dict[str, Any]


class CauseOut(Out):
    attribute: str
    value: str
    members: int
    alarmed: int
    lift: float
    p_value: float = Field(description="corrected for all values and looks")


class DriftOut(Out):
    """The drift of a use case."""

    use_case: str
    text: str
    day: str | None
    alarms: list[AlarmOut] = Field(description="newest first, closed ones too")
    causes: list[CauseOut]


def overview(hub: ThisHub, who: Person, name: str) -> drift.Overview:
    """The newest look at a use case, for somebody who may see all its sites."""
    with hub.store.read() as connection:
        found = drift.overview(connection, name, limit=hub.limits.page_max)
        scope.check_whole(connection, who, name, f"the drift of {name}")
    return found


@router.get("/usecases/{name}/drift", tags=["drift"], responses=responses(404))
def status(name: str, hub: ThisHub, who: Reader) -> DriftOut:
    """Alarms and what the devices in alarm have in common."""
    return DriftOut.model_validate(overview(hub, who, name))


@router.get("/usecases/{name}/drift/devices", tags=["drift"], responses=responses(404))
def devices(name: str, hub: ThisHub, who: Reader) -> list[StateOut]:
    """Every device that is looked at."""
    return [StateOut.model_validate(one) for one in overview(hub, who, name).devices]


@router.get("/usecases/{name}/drift/cohorts", tags=["drift"], responses=responses(404))
def cohorts(name: str, hub: ThisHub, who: Reader) -> list[StateOut]:
    """Every group of devices that share a value of a label, and is looked at as one."""
    return [StateOut.model_validate(one) for one in overview(hub, who, name).cohorts]


@router.get("/usecases/{name}/drift/causes", tags=["drift"], responses=responses(404))
def causes(name: str, hub: ThisHub, who: Reader) -> list[CauseOut]:
    """Values of attributes that devices in alarm share more often than chance allows."""
    return [CauseOut.model_validate(one) for one in overview(hub, who, name).causes]
