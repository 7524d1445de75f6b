"""What an update does next: pure decisions on the stored state. The updater carries them out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from edgewise.edge._slots import Running, other_slot
from edgewise.edge._update_state import Event, Phase, UpdateLimits, UpdateState
from edgewise.wire import Assignment, Failure, Wait, wait_for


def target(assignment: Assignment) -> tuple[str | None, str | None]:
    """The release and the bundle that an assignment asks for."""
    return assignment.release, assignment.bundle


def superseded(state: UpdateState) -> tuple[Event, str] | None:
    """The event, and why, where a newer assignment asks for something else than what is worked on (invariant 8)."""
    working, newest = state.working, state.assignment
    if working is None or newest is None or state.phase in (Phase.IDLE, Phase.COMMITTED, Phase.REVERTING):
        return None
    if target(working) == target(newest):
        return None
    reason = f"assignment {newest.number} ({newest.release}) replaces {working.number} ({working.release})"
    back = state.slots.get(state.back_to or "")
    ordered = newest.kind == "revert" and back is not None and (back.release, back.bundle) == target(newest)
    return (Event.REVERT_ORDERED if state.phase is Phase.TRIAL and ordered else Event.SUPERSEDED), reason


def has_new_terms(state: UpdateState) -> bool:
    """Whether the newest assignment asks for what is worked on, under other conditions: bake, trial time, rollout."""
    working, newest = state.working, state.assignment
    at_work = state.phase not in (Phase.IDLE, Phase.COMMITTED, Phase.REVERTING)
    return at_work and working is not None and newest is not None and working != newest


def waits(state: UpdateState, facts: Mapping[str, Any], now: datetime, *, begun: bool = False) -> Wait | None:
    """What the work in hand waits for: its download or activation window, or their conditions.

    Args:
        facts: as reported; an unknown one means "not now" (invariant 8).
        begun: the download goes on already.
    """
    working = state.working
    if working is None:
        return None
    match state.phase:
        case Phase.FETCHING:
            return wait_for(working.download, facts, now, working.zone, begun=begun)
        case Phase.STAGED if not working.shadow:
            return wait_for(working.activation, facts, now, working.zone)
        case _:
            return None


def trial_slot(state: UpdateState) -> str:
    """The slot of the bundle on trial."""
    assert state.working is not None, "nothing is on trial"
    for name, slot in state.slots.items():
        if name != state.back_to and (slot.release, slot.bundle) == target(state.working):
            return name
    raise AssertionError(f"no slot holds {state.working.release}, which is on trial")


def good_slot(state: UpdateState, name: str | None) -> str | None:
    """The slot, if what lies there has passed its trial and did not fail since: something to return to."""
    slot = state.slots.get(name) if name is not None else None
    return name if slot is not None and slot.committed and slot.bundle not in state.known_bad else None


def slot_to_shadow(state: UpdateState, running: Running | None) -> str | None:
    """The slot whose bundle decides on the same frames while the newer one bakes: the former one."""
    assignment = state.assignment
    if state.phase is not Phase.COMMITTED or assignment is None or not assignment.bake or running is None:
        return None
    if target(assignment) != (running.release, running.bundle):
        return None
    return good_slot(state, other_slot(running.slot))


def after_success(state: UpdateState, limits: UpdateLimits) -> dict[str, Any]:
    """What is remembered of a bundle that passed its trial."""
    name = trial_slot(state)
    slot = state.slots[name]
    committed = tuple(dict.fromkeys((*state.committed_before, slot.bundle)))
    return {
        "slots": {**state.slots, name: slot.model_copy(update={"committed": True})},
        "committed_before": committed[-limits.remembered_max :],
        "failure": None,
        "failed_rollout": None,
    }


def crashes_in_a_row(state: UpdateState, *, boot: str, planned: bool) -> int:
    """Unplanned starts of the agent in a row, this one included, while the machine stayed up.

    A start after a reboot, or after a power cut, is no crash: the machine's boot id tells them apart.

    >>> crashes_in_a_row(UpdateState(crashes=1, boot="x"), boot="x", planned=False)
    2
    >>> crashes_in_a_row(UpdateState(crashes=1, boot="x"), boot="y", planned=False)
    0
    """
    return state.crashes + 1 if boot and boot == state.boot and not planned else 0


def with_bad(state: UpdateState, bundle: str, reason: str, limits: UpdateLimits) -> dict[str, str]:
    """The bundles that are bad here, with this one; the newest so many are remembered."""
    bad = {**state.known_bad, bundle: reason[:500]}
    return dict(list(bad.items())[-limits.remembered_max :])


def after_failure(
    state: UpdateState, failure: Failure, limits: UpdateLimits, *, remember: bool, running: str | None = None
) -> dict[str, Any]:
    """What is remembered of a bundle that failed: it is bad here, and its assignment is not tried again.

    Args:
        running: the bundle that decides. While another one is fetched it alone is to blame.
    """
    changes: dict[str, Any] = {"failure": failure}
    if state.phase is Phase.FETCHING and running is not None:
        return changes | {"known_bad": with_bad(state, running, failure.text, limits)}
    working = state.working
    if working is not None and working.bundle is not None and remember:
        changes["known_bad"] = with_bad(state, working.bundle, failure.text, limits)
        changes |= {"refused": working.number, "failed_rollout": working.rollout}
    return changes
