"""Telemetry under a policy with ``counts_min``: no count of a window stands for fewer frames than that."""

from __future__ import annotations

from edgewise.measure import merge_small, tells_of_few
from edgewise.wire import Telemetry


def private_counts(record: Telemetry, minimum: int) -> Telemetry | None:
    """The record without small counts; None while the whole window is too small, which then waits for the next one.

    ``alarms`` becomes 0 where it would tell of few, and ``withheld`` names it: a 0 there says nothing. ``paired`` and
    ``disagreed`` compare two bundles and stay.
    """
    if minimum <= 1:
        return record
    if record.decisions < minimum:
        return None
    change: dict[str, object] = {"labels": merge_small(record.labels, minimum)}
    if tells_of_few(record.alarms, record.decisions, minimum):
        change |= {"alarms": 0, "withheld": ("alarms",)}
    return record.model_copy(update=change)
