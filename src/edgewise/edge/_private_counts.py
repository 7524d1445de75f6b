"""Telemetry under a policy with ``counts_min``: no count of a window stands for fewer frames than that."""

from __future__ import annotations

from edgewise.edge._counts import Counts, Windows
from edgewise.measure import merge_small, tells_of_few
from edgewise.wire import Telemetry


def told_and_left(windows: Windows, minimum: int) -> tuple[Windows, Windows]:
    """The counts that may be told now, and those that wait until they stand for enough; counts are additive.

    Overrides come one by one, days after their decisions, so they wait by themselves and hold up nothing else.
    """
    told, left = Windows(), Windows()
    for key, counts in windows.by_key.items():
        few = 0 < counts.decisions < minimum or max(counts.decisions, counts.paired, counts.overrides) < minimum
        if few and minimum > 1:
            left.by_key[key] = counts
            continue
        told.by_key[key] = counts
        if counts.overrides and _tells_of_few_overrides(counts, minimum):
            told.by_key[key], left.by_key[key] = counts.without_overrides()
    return told, left


def _tells_of_few_overrides(counts: Counts, minimum: int) -> bool:
    return counts.overrides < minimum or 0 < counts.decisions - counts.overrides < minimum


def private_counts(record: Telemetry, minimum: int) -> Telemetry:
    """The record without small counts.

    ``alarms`` becomes 0 where it would tell of few, and ``withheld`` names it: a 0 there says nothing. ``paired`` and
    ``disagreed`` compare two bundles and stay.
    """
    if minimum <= 1:
        return record
    change: dict[str, object] = {"labels": merge_small(record.labels, minimum)}
    if record.decisions and tells_of_few(record.alarms, record.decisions, minimum):
        change |= {"alarms": 0, "withheld": ("alarms",)}
    return record.model_copy(update=change)
