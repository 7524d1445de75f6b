"""What an update's state means, in sentences a person can act on."""

from __future__ import annotations

from typing import Any

from edgewise.edge._update_state import Phase, UpdateState
from edgewise.wire import Wait

NEXT = {
    Phase.IDLE: "nothing until the hub assigns another release",
    Phase.FETCHING: "the bundle is downloaded into the spare slot, verified, then tried",
    Phase.STAGED: "it is switched to, and tried",
    Phase.SHADOW: "it decides beside the running bundle until the hub says otherwise",
    Phase.TRIAL: "it is committed when its trial ends well, else the former bundle comes back",
    Phase.COMMITTED: "nothing until the hub assigns another release, or this one stops working",
    Phase.REVERTING: "the former bundle comes back",
}


def explain(state: UpdateState, *, running: bool, not_now: Wait | None = None) -> dict[str, Any]:
    """Why the device is where it is, and what comes next."""
    assignment = state.assignment
    if assignment is None:
        because = "the hub has assigned nothing yet"
    else:
        because = f"assignment {assignment.number} ({assignment.kind} {assignment.release})"
        because += f": {assignment.reason}" if assignment.reason else ""
        if assignment.number == state.refused:
            because += f"; refused here: {state.last_failure}"
    then = NEXT[state.phase]
    if not_now is not None:
        then = f"not now: {'; '.join(not_now.reasons)}; then {then}"
    if assignment is not None and assignment.bake and state.phase is Phase.COMMITTED:
        then = f"the former bundle decides beside it while the hub watches; {then}"
    if not running:
        then = f"frames are not decided on until a first bundle is here; {then}"
    return {
        "phase": state.phase.value,
        "because": because,
        "next": then,
        "since": state.changed_at.isoformat() if state.changed_at else None,
        "not_now": list(not_now.reasons) if not_now else [],
        "not_now_until": not_now.until.isoformat() if not_now and not_now.until else None,
        "known_bad": dict(state.known_bad),
    }
