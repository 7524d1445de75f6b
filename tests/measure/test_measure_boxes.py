"""How good found boxes are: matched one to one, with intervals over groups, by label."""

from __future__ import annotations

from edgewise.measure import score_sites
from edgewise.measure._boxes import score_boxes
from edgewise.wire import Box, FoundBox, Prediction

AT = {"x1": 0.1, "y1": 0.1, "x2": 0.3, "y2": 0.3}
FAR = {"x1": 0.6, "y1": 0.6, "x2": 0.8, "y2": 0.8}
WIDE = {"x1": 0.0, "y1": 0.0, "x2": 0.5, "y2": 0.5}


def _one(number: int, true: list[Box] | None, found: list[FoundBox], site: str = "a") -> Prediction:
    return Prediction(
        sample=f"{number:032x}",
        site=site,
        group=f"g{number // 2}",
        truth="pit",
        label="pit",
        boxes=tuple(found),
        true_boxes=None if true is None else tuple(true),
    )


def _true(**at: float) -> Box:
    return Box(label="pit", **at)


def _found(score: float, label: str = "pit", **at: float) -> FoundBox:
    return FoundBox(label=label, score=score, **at)


def test_a_second_box_on_one_thing_and_one_of_another_class_are_wrong() -> None:
    score = score_boxes([_one(0, [_true(**AT)], [_found(0.9, **AT), _found(0.8, **AT), _found(0.95, "dent", **AT)])])
    assert score is not None
    assert (score.n, score.found, score.recall.value, score.precision.value) == (1, 3, 1.0, 1 / 3)
    assert score.average_precision.value == 0.5  # the surest one is wrong
    assert score.recall.low is None  # one group says nothing of others


def test_a_box_of_the_wrong_size_counts_for_its_centre_alone() -> None:
    score = score_boxes([_one(0, [_true(**AT)], [_found(0.9, **WIDE)])])
    assert score is not None
    assert (score.recall.value, score.centre_recall.value) == (0.0, 1.0)


def test_what_is_found_on_a_good_picture_is_wrong_and_unknown_pictures_do_not_count() -> None:
    given = [_one(0, [_true(**AT)], [_found(0.9, **AT)]), _one(2, [], [_found(0.7, **FAR)]), _one(4, None, [])]
    score = score_boxes(given)
    assert score is not None
    assert (score.n, score.found, score.precision.value, score.average_precision.value) == (1, 2, 0.5, 1.0)
    assert score_boxes(given[2:]) is None


def test_sites_and_labels_have_scores_of_their_own_with_intervals() -> None:
    good = [_one(number, [_true(**AT)], [_found(0.9, **AT)]) for number in range(12)]
    bad = [_one(number, [_true(**AT)], [], site="b") for number in range(20, 32)]
    sites, overall = score_sites([*good, *bad], good_labels=["none"])
    assert [one.boxes.recall.value for one in sites if one.boxes] == [1.0, 0.0]
    assert overall.boxes is not None
    assert overall.boxes_of is not None
    assert overall.boxes.recall.low is not None
    assert overall.boxes.recall.low < 0.5 < (overall.boxes.recall.high or 0)
    assert overall.boxes_of["pit"] == overall.boxes


def test_bundles_without_boxes_have_no_such_score() -> None:
    plain = [Prediction(sample="0" * 32, site="a", group="", truth="pit", label="pit")]
    assert score_sites(plain, good_labels=[])[1].boxes is None
