"""Counts that name nobody: cells with few people in them are merged until no sum gives one of them away."""

from __future__ import annotations

from collections.abc import Mapping

OTHER = "(other)"


def merge_small(counts: Mapping[str, int], minimum: int) -> dict[str, int]:
    """The counts with every cell below the minimum merged into ``(other)``; the total stays what it was.

    The total is known to the reader, so a single hidden cell would be total minus the rest: the next smallest cells are
    merged as well until ``(other)`` itself reaches the minimum (complementary suppression). Nothing comes back when all
    of it together is below the minimum.

    Args:
        counts: at least 0 each, by label.
        minimum: k of k-anonymity; 1 hides nothing.

    >>> merge_small({"adult": 95, "child": 3, "pram": 2}, 10), merge_small({"a": 40, "b": 9, "c": 4}, 10)
    ({'(other)': 100}, {'a': 40, '(other)': 13})
    """
    left = {label: count for label, count in counts.items() if count > 0}
    hidden = left.pop(OTHER, 0)  # counts that were merged before and are merged again
    small = sorted(left, key=lambda label: (left[label], label))
    while small and (left[small[0]] < minimum or 0 < hidden < minimum):
        hidden += left.pop(small.pop(0))
    if 0 < hidden < minimum:
        return {}
    return left | ({OTHER: hidden} if hidden else {})


def tells_of_few(count: int, total: int, minimum: int) -> bool:
    """Whether a count, or what is left of the total beside it, stands for so few that it must not be told.

    >>> tells_of_few(3, 100, 10), tells_of_few(96, 100, 10), tells_of_few(50, 100, 10), tells_of_few(0, 100, 10)
    (True, True, False, False)
    """
    return 0 < count < minimum or 0 < total - count < minimum
