"""Routes for rollouts: start, watch, stop, take back."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from edgewise.hub import rollouts, scope
from edgewise.hub.access import Action, Person
from edgewise.hub.api.auth import Approver, Operator, Reader, ThisHub
from edgewise.hub.api.models import Reason
from edgewise.hub.api.problems import responses
from edgewise.hub.rollout import Event
from edgewise.hub.rollout_status import RolloutStatus, statuses
from edgewise.hub.store import releases
from edgewise.hub.store import rollouts as rows
from edgewise.wire import RolloutPolicy
from edgewise.wire._record import Name

router = APIRouter()


class RolloutIn(RolloutPolicy):
    """A release, and what of the use case's rollout policy is different this time; what is left out stays as it is."""

    release: Name
    why: str = Field("by hand", max_length=500)

    model_config = ConfigDict(
        defer_build=False,
        json_schema_extra={
            "example": {
                "release": "parts@7",
                "waves": [{"devices": 10}, {"percent": 10, "growth": 3}],
                "shadow": {"percent": 20},
                "bake_s": 86400,
                "why": "the autumn data",
            }
        },
    )

    def overrides(self) -> dict[str, Any]:
        """The fields of the policy that are different this time."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"release", "why"})


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
    return _operate(hub, rollout, Event.REVERT, who, said(Event.REVERT, who, why.reason))


@router.post("/rollouts/{rollout}/pause", tags=["rollouts"], responses=responses(404, 409))
def pause(rollout: str, hub: ThisHub, who: Operator) -> RolloutStatus:
    """Open no further wave until `resume`. The watch for a worse release goes on."""
    return _operate(hub, rollout, Event.PAUSE, who, said(Event.PAUSE, who))


@router.post("/rollouts/{rollout}/resume", tags=["rollouts"], responses=responses(404, 409))
def resume(rollout: str, hub: ThisHub, who: Operator) -> RolloutStatus:
    """Go on with a paused rollout; one that asks waits as long again, without the devices that have failed so far."""
    return _operate(hub, rollout, Event.RESUME, who, said(Event.RESUME, who))


@router.post("/rollouts/{rollout}/approve", tags=["rollouts"], responses=responses(403, 404, 409))
def approve(rollout: str, hub: ThisHub, who: Approver) -> RolloutStatus:
    """Let a rollout begin that somebody else made; or, where one asks, let its open stage count as passed."""
    return _operate(hub, rollout, Event.APPROVE, who, said(Event.APPROVE, who))


@router.post("/rollouts/{rollout}/deny", tags=["rollouts"], responses=responses(404, 409))
def deny(rollout: str, why: Reason, hub: ThisHub, who: Approver) -> RolloutStatus:
    """Do not let a rollout begin; no device was touched, and the release may be rolled out again."""
    return _operate(hub, rollout, Event.DENY, who, said(Event.DENY, who, why.reason))


@router.post("/rollouts/{rollout}/abort", tags=["rollouts"], responses=responses(404, 409))
def abort(rollout: str, why: Reason, hub: ThisHub, who: Operator) -> RolloutStatus:
    """Give a rollout up: no further device gets the release, and those that have it keep it until something newer."""
    return _operate(hub, rollout, Event.ABORT, who, said(Event.ABORT, who, why.reason))


def said(event: Event, who: Person, reason: str = "") -> str:
    """The reason that is stored with what a person does; a revert has theirs alone, because every device gets it."""
    if event is Event.REVERT:
        return reason
    done = {
        Event.APPROVE: "approved",
        Event.DENY: "denied",
        Event.PAUSE: "paused",
        Event.RESUME: "resumed",
        Event.ABORT: "aborted",
    }[event]
    return f"{done} by {who.name}" + (f": {reason}" if reason else "")


def operate(hub: ThisHub, rollout: str, event: Event, who: Person, reason: str) -> None:
    """What a person does to a rollout: at all of its sites, and what needs an approver only by one."""
    with hub.store.read() as connection:
        row = rollouts.need(connection, rollout)
        scope.check_whole(connection, who, row.use_case, f"rollout {rollout}")
    if event in (Event.APPROVE, Event.DENY):
        who.check(Action.APPROVE)
    rollouts.operate(hub.store, rollout, event, who=who.name, reason=reason, now=hub.now())


def _operate(hub: ThisHub, rollout: str, event: Event, who: Person, reason: str) -> RolloutStatus:
    operate(hub, rollout, event, who, reason)
    return _status(hub, rollout)


def _status(hub: ThisHub, rollout: str) -> RolloutStatus:
    with hub.store.read() as connection:
        row = rollouts.need(connection, rollout)
        return statuses(connection, [row], now=hub.now())[0]
