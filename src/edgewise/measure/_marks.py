"""Do two people mark the same? Boxes and spans are the same where their labels are, and most of both is shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from edgewise.wire import Annotation, Box, Span

SHARED_MIN = 0.5  # intersection over union, as PASCAL VOC counts a box as found (Everingham and others, 2010)
Mark = TypeVar("Mark", Box, Span)


def marks_differ(one: Annotation | None, other: Annotation | None) -> bool:
    """Whether two annotations mark different things. What one of them was not asked for is not compared.

    >>> pit = Box(label="pit", x1=0.1, y1=0.1, x2=0.3, y2=0.3)
    >>> beside = pit.model_copy(update={"x1": 0.12})
    >>> marks_differ(Annotation(boxes=(pit,)), Annotation(boxes=(beside,)))
    False
    >>> marks_differ(Annotation(boxes=(pit,)), Annotation(boxes=()))
    True
    """
    if one is None or other is None:
        return False
    boxes = one.boxes is not None and other.boxes is not None and _apart(one.boxes, other.boxes, box_share)
    spans = one.spans is not None and other.spans is not None and _apart(one.spans, other.spans, span_share)
    return boxes or spans


def box_share(one: Box, other: Box) -> float:
    """Intersection over union, 0 to 1."""
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    shared = max(0.0, width) * max(0.0, height)
    both = (one.x2 - one.x1) * (one.y2 - one.y1) + (other.x2 - other.x1) * (other.y2 - other.y1)
    return shared / (both - shared)


def span_share(one: Span, other: Span) -> float:
    """Intersection over union of steps, 0 to 1."""
    shared = max(0, min(one.end, other.end) - max(one.start, other.start))
    return shared / (one.end - one.start + other.end - other.start - shared)


def _apart(ours: Sequence[Mark], theirs: Sequence[Mark], share: Callable[[Mark, Mark], float]) -> bool:
    """Whether a mark of one of them has no partner, the best pairs joined first."""
    if len(ours) != len(theirs):
        return True
    pairs = [
        (share(one, other), at, to)
        for at, one in enumerate(ours)
        for to, other in enumerate(theirs)
        if one.label == other.label
    ]
    free_ours, free_theirs = set(range(len(ours))), set(range(len(theirs)))
    for shared, at, to in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        if shared >= SHARED_MIN and at in free_ours and to in free_theirs:
            free_ours.remove(at)
            free_theirs.remove(to)
    return bool(free_ours)
