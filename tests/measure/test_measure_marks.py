"""Marks of two people: the same, or not; the same answer whoever is asked first."""

from __future__ import annotations

import pytest

from edgewise.measure import marks_differ
from edgewise.measure._marks import box_share, span_share
from edgewise.wire import Annotation, Box, Span

PIT = Box(label="pit", x1=0.0, y1=0.0, x2=0.4, y2=0.4)


def moved(by: float, label: str = "pit") -> Box:
    return PIT.model_copy(update={"x1": by, "x2": 0.4 + by, "label": label})


def spans(*ends: tuple[int, int], label: str = "pit") -> Annotation:
    return Annotation(spans=tuple(Span(label=label, start=start, end=end) for start, end in ends))


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        (None, Annotation(boxes=(PIT,)), False),
        (Annotation(), Annotation(boxes=(PIT,)), False),
        (Annotation(boxes=()), Annotation(boxes=()), False),
        (Annotation(boxes=()), Annotation(boxes=(PIT,)), True),
        (Annotation(boxes=(PIT,)), Annotation(boxes=(moved(0.13),)), False),
        (Annotation(boxes=(PIT,)), Annotation(boxes=(moved(0.14),)), True),
        (Annotation(boxes=(PIT,)), Annotation(boxes=(moved(0, "dent"),)), True),
        (Annotation(boxes=(PIT, moved(0.1))), Annotation(boxes=(moved(0.1), PIT)), False),
        (Annotation(boxes=(PIT, moved(0.5))), Annotation(boxes=(PIT, PIT)), True),
        (spans((0, 10)), spans((2, 12)), False),
        (spans((0, 10)), spans((5, 15)), True),
        (spans((0, 10)), spans((0, 10), label="dent"), True),
        (spans((0, 10)), Annotation(boxes=(PIT,)), False),
    ],
)
def test_marks_differ_where_one_has_no_partner(one, other, differ):
    assert marks_differ(one, other) == differ
    assert marks_differ(other, one) == differ


def test_shares_are_intersections_over_unions():
    assert box_share(PIT, moved(0.2)) == pytest.approx(1 / 3)
    assert box_share(PIT, moved(0.5)) == 0
    assert span_share(Span(label="a", start=0, end=10), Span(label="a", start=5, end=15)) == pytest.approx(1 / 3)
