"""The table of an order's states: every move that there is, and none beside it."""

from __future__ import annotations

from enum import StrEnum

from edgewise.hub.store.orders import CANCELLED, CLAIMED, FAILED, OPEN, RETURNED
from edgewise.wire import NotValid


class Event(StrEnum):
    """What moves an order from one state to another."""

    CLAIM = "claim"
    RETURN = "return"
    REOPEN = "reopen"  # the worker gave it back, or went silent, and may be tried again
    FAIL = "fail"
    CANCEL = "cancel"


# docs/learn.md draws them and a test compares the two.
MOVES: dict[tuple[str, Event], str] = {
    (OPEN, Event.CLAIM): CLAIMED,
    (OPEN, Event.RETURN): RETURNED,  # a lease that ran out while nobody else took it wastes no finished work
    (OPEN, Event.FAIL): FAILED,  # its samples were erased
    (OPEN, Event.CANCEL): CANCELLED,
    (CLAIMED, Event.RETURN): RETURNED,
    (CLAIMED, Event.REOPEN): OPEN,
    (CLAIMED, Event.FAIL): FAILED,
    (CLAIMED, Event.CANCEL): CANCELLED,
}
STATES = (OPEN, CLAIMED, RETURNED, FAILED, CANCELLED)


def after(order: str, state: str, event: Event) -> str:
    """The state that an order is in afterwards.

    Raises:
        NotValid: nothing of the kind can happen to it.

    >>> after("0" * 32, "open", Event.CLAIM)
    'claimed'
    """
    moved = MOVES.get((state, event))
    if moved is None:
        can = sorted(str(one) for was, one in MOVES if was == state) or ["nothing"]
        raise NotValid(
            f"order {order} is {state}, {event} is not possible any more; what still is: {', '.join(can)}",
            code="order_state",
        )
    return moved
