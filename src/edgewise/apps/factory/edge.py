"""What the factory does with a decision: a pure function from a decision to what the line does with the part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgewise.wire import Decision, NotValid

APP = "factory"
USE_CASE = "surface-inspection"
INSPECT_MARGIN = 0.2  # best minus second-best probability under which a person looks; our choice, see README.md
REJECT_AT = 0.5  # probability of a defect from which a part is taken out; the bundle's own threshold wins over it


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """What happens to the part: it goes on, a person looks at it, or it is taken out."""

    do: Literal["pass", "inspect", "reject"]
    text: str


def act(decision: Decision, *, reject_at: float = REJECT_AT, inspect_margin: float = INSPECT_MARGIN) -> Action:
    """What the line does with the part of this decision.

    A part is only rejected by a decision that is sure enough; what is close goes to a person, in either direction. A
    part decided by a bundle that knows no good parts is always looked at, for there is nothing to pass it on.

    Args:
        reject_at: probability of a defect, 0 to 1, from which the part is bad.
        inspect_margin: best minus second-best probability, 0 to 1, under which a person looks.
    Raises:
        NotValid: a threshold outside 0 to 1.

    >>> sure = Decision(label="crack", confidence=0.9, defect=0.95, margin=0.85, bundle="0" * 64)
    >>> act(sure).do, act(sure.model_copy(update={"margin": 0.05})).do
    ('reject', 'inspect')
    """
    for name, value in (("reject_at", reject_at), ("inspect_margin", inspect_margin)):
        if not 0 <= value <= 1:
            raise NotValid(f"{name} is {value}, needs to be from 0 to 1", code="bad_threshold")
    if decision.defect is None:
        return Action(do="inspect", text=f"{decision.label}, by a network that knows no good parts")
    said = f"{decision.label}, defect {decision.defect:.2f}, margin {decision.margin:.2f}"
    if decision.margin < inspect_margin:
        return Action(do="inspect", text=f"too close to call: {said}")
    return Action(do="reject" if decision.defect >= reject_at else "pass", text=said)
