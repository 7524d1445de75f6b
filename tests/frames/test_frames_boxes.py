"""Boxes from maps and from masks."""

from __future__ import annotations

import numpy as np
import pytest

from edgewise.frames import find_boxes, mask_boxes, true_boxes
from edgewise.wire import Annotation, Detections, NotValid

TOLD = Detections(centres="c", extents="e", labels=("pit", "crack"))


def _maps(side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    extents = np.zeros((4, side, side), np.float32)
    extents[2:] = 0.5
    return np.zeros((2, side, side), np.float32), extents


def test_the_surest_come_first_and_neighbours_of_a_centre_are_none() -> None:
    centres, extents = _maps()
    centres[0, 2, 2], centres[0, 2, 3], centres[1, 6, 6] = 0.8, 0.7, 0.9
    found = find_boxes(centres, extents, TOLD)
    assert [(box.label, box.score) for box in found] == [("crack", 0.9), ("pit", 0.8)]


def test_of_two_boxes_on_one_thing_the_surer_one_stays() -> None:
    centres, extents = _maps()
    extents[:2] = np.log(6)  # both span most of the picture
    centres[0, 3, 3], centres[0, 3, 5], centres[1, 3, 5] = 0.9, 0.8, 0.7
    tight = TOLD.model_copy(update={"overlap_max": 0.4})
    assert [(box.label, box.score) for box in find_boxes(centres, extents, tight)] == [("pit", 0.9), ("crack", 0.7)]
    assert len(find_boxes(centres, extents, TOLD.model_copy(update={"overlap_max": 1.0}))) == 3


def test_boxes_end_at_the_border_and_are_bounded_in_number() -> None:
    centres, extents = _maps()
    centres[0, ::2, ::2] = 0.9
    extents[:2] = 50.0  # beyond any picture
    found = find_boxes(centres, extents, TOLD.model_copy(update={"boxes_max": 3, "overlap_max": 1.0}))
    assert len(found) == 3
    assert {(box.x1, box.y1, box.x2, box.y2) for box in found} == {(0.0, 0.0, 1.0, 1.0)}


@pytest.mark.parametrize("spoil", ["nan", "infinite", "above", "shape"])
def test_maps_that_are_none_are_refused(spoil: str) -> None:
    centres, extents = _maps()
    if spoil == "nan":
        centres[0, 0, 0] = np.nan
    elif spoil == "infinite":
        extents[0, 0, 0] = np.inf
    elif spoil == "above":
        centres[0, 0, 0] = 1.5
    else:
        extents = extents[:3]
    with pytest.raises(NotValid):
        find_boxes(centres, extents, TOLD)


def test_parts_of_a_mask_that_touch_are_one_box_and_specks_are_none() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:6, 2:4], mask[6:8, 4:9] = 1, 255  # joined at a corner
    mask[15:18, 12:14] = 1
    mask[0, 19] = 1
    found = [(box.x1, box.y1, box.x2, box.y2) for box in mask_boxes(mask, "pit")]
    assert found == [(0.1, 0.1, 0.45, 0.4), (0.6, 0.75, 0.7, 0.9)]


def test_a_ring_is_one_part() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[4:16, 4:16], mask[6:14, 6:14] = 1, 0
    assert len(mask_boxes(mask, "pit")) == 1


def test_nobody_said_where_is_not_nothing_is_there() -> None:
    assert true_boxes(Annotation(boxes=()), "pit", is_good=False) is None
    assert true_boxes(None, "none", is_good=True) == ()
