"""Routes for rollouts: start, watch, stop, take back."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from edgewise.hub import rollouts, scope
from edgewise.hub.access import Action, Person
from edgewise.hub.api.auth import Operator, Reader, ThisHub
from edgewise.hub.api.models import Reason
from edgewise.hub.api.problems import responses
from edgewise.hub.body import Body
from edgewise.hub.rollout import Event
from edgewise.hub.rollout_status import RolloutStatus, statuses
from edgewise.hub.store import releases
from edgewise.hub.store import rollouts as rows
from edgewise.wire import Condition, Wave
from edgewise.wire._record import Name, Share

router = APIRouter()


class RolloutIn(Body):
    """What is left out comes from the use case."""

    release: Name
    waves: tuple[Wave, ...] | None = Field(None, min_length=1, max_length=100)
    bake_s: float | None = Field(None, ge=0)
    bake_decisions_min: int | None = Field(None, ge=0)
    success_share: Share | None = None
    failures_max: int | None = Field(None, ge=0)
    revert_alpha: float | None = Field(None, gt=0, lt=1)
    conditions: tuple[Condition, ...] | None = Field(None, max_length=100)
    trial_s: float | None = Field(None, ge=0)
    why: str = Field("by hand", max_length=500)

    def overrides(self) -> dict[str, Any]:
        """The fields of the policy that are different this time."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"release", "why"})


@router.post("/rollouts", tags=["rollouts"], status_code=201, responses=responses(404))
def create_rollout(wish: RolloutIn, hub: ThisHub, who: Operator) -> RolloutStatus:
    """Roll a release out. It supersedes an unfinished rollout of the same use case."""
    with hub.store.read() as connection:
        release = releases.get(connection, wish.release)
        if release is not None:
            scope.check_whole(connection, who, release.use_case, f"a rollout of {wish.release}")
    row = rollouts.create(
        hub.store,
        wish.release,
        wish.overrides(),
        who=who.name,
        why=wish.why,
        now=hub.now(),
        chance=hub.chance,
    )
    return _status(hub, row.id)


@router.get("/rollouts", tags=["rollouts"], responses=responses())
def list_rollouts(
    hub: ThisHub, who: Reader, use_case: str | None = None, release: str | None = None
) -> list[RolloutStatus]:
    """Rollouts that touch only the caller's sites, newest first."""
    with hub.store.read() as connection:
        found = rows.find(connection, use_case=use_case, release=release)
        found = scope.visible(connection, who, found, whole=True)
        return statuses(connection, found, now=hub.now())


@router.get("/rollouts/{rollout}", tags=["rollouts"], responses=responses(404))
def get_rollout(rollout: str, hub: ThisHub, who: Reader) -> RolloutStatus:
    """One rollout with its waves, devices and evidence."""
    with hub.store.read() as connection:
        scope.check_whole(connection, who, rollouts.need(connection, rollout).use_case, f"rollout {rollout}")
    return _status(hub, rollout)


@router.post("/rollouts/{rollout}/revert", tags=["rollouts"], responses=responses(404, 409))
def revert(rollout: str, why: Reason, hub: ThisHub, who: Operator) -> RolloutStatus:
    """Take a rollout back: every device that has its release returns to the one named as `previous`."""
    return _operate(hub, rollout, Event.REVERT, who, why.reason)


@router.post("/rollouts/{rollout}/pause", tags=["rollouts"], responses=responses(404, 409))
def pause(rollout: str, hub: ThisHub, who: Operator) -> RolloutStatus:
    """Open no further wave until `resume`. The watch for a worse release goes on."""
    return _operate(hub, rollout, Event.PAUSE, who, f"paused by {who.name}")


@router.post("/rollouts/{rollout}/resume", tags=["rollouts"], responses=responses(404, 409))
def resume(rollout: str, hub: ThisHub, who: Operator) -> RolloutStatus:
    """Go on with a paused rollout, or approve one that waits for a person."""
    return _operate(hub, rollout, Event.RESUME, who, f"resumed by {who.name}")


def operate(hub: ThisHub, rollout: str, event: Event, who: Person, reason: str) -> None:
    """What a person does to a rollout: at all of its sites, and the approval that it waits for is an approver's."""
    with hub.store.read() as connection:
        row = rollouts.need(connection, rollout)
        scope.check_whole(connection, who, row.use_case, f"rollout {rollout}")
    if event is Event.RESUME and rollouts.waits_for_approval(row):
        who.check(Action.APPROVE)
    rollouts.operate(hub.store, rollout, event, who=who.name, reason=reason, now=hub.now())


def _operate(hub: ThisHub, rollout: str, event: Event, who: Person, reason: str) -> RolloutStatus:
    operate(hub, rollout, event, who, reason)
    return _status(hub, rollout)


def _status(hub: ThisHub, rollout: str) -> RolloutStatus:
    with hub.store.read() as connection:
        row = rollouts.need(connection, rollout)
        return statuses(connection, [row], now=hub.now())[0]
