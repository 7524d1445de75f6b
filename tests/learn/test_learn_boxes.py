"""The trainer for small objects: it finds them, says so alike everywhere, and tells what it cannot learn from."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from PIL import Image

from box_pictures import LONG, SIDE, WIDE, samples
from edgewise.learn import TrainedBundle, TrainingSample, train
from edgewise.learn._box_goal import mirrored
from edgewise.learn._dataset import Dataset
from edgewise.learn._score import score_samples
from edgewise.learn._variants import make_variants
from edgewise.ports import OnnxRuntime, Pipeline, StoredBundle, open_pipeline
from edgewise.wire import Annotation, Box, NotValid, canonical, overlap, plain

torch = pytest.importorskip("torch")

NOW = datetime(2026, 5, 4, tzinfo=UTC)
CONFIG = {"size": SIDE, "width": 12, "steps": 150}


def _train(given: list[TrainingSample], **changes: Any) -> TrainedBundle:
    config = {**CONFIG, **changes.pop("config", {})}
    return train(given, now=NOW, trainer="boxes", good_labels=["none"], config=config, **changes)


def _stored(made: TrainedBundle) -> StoredBundle:
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)


def _open(bundle: StoredBundle) -> Pipeline:
    return open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())


def _found(pipeline: Pipeline, given: list[TrainingSample]) -> float:
    """Part of the true boxes that a found one of their class overlaps by half."""
    hits = []
    for sample in given:
        boxes = pipeline.judge(sample.read(), sample.media_type, None).decision.boxes
        assert boxes is not None
        for box in (sample.annotation.boxes if sample.annotation else None) or ():
            hits.append(any(one.label == box.label and overlap(one, box) > 0.5 for one in boxes))
    return sum(hits) / len(hits)


@pytest.fixture(scope="module")
def made() -> TrainedBundle:
    return _train(samples(90, site="plant"))


def test_what_was_never_seen_is_found_and_the_decision_follows_from_the_boxes(made: TrainedBundle) -> None:
    pipeline = _open(_stored(made))
    pipeline.check_golden()
    fresh = samples(45, seed=1000)
    assert made.manifest.task == "object-detection"
    assert _found(pipeline, fresh) >= 0.7
    for sample in fresh:
        decision = pipeline.judge(sample.read(), sample.media_type, None).decision
        assert decision.record() == pipeline.decide(pipeline.answer(sample.read(), sample.media_type), None)
        assert decision.boxes is not None
        # The decision is the class of the surest box; where there is none, nothing is there.
        assert decision.label == (decision.boxes[0].label if decision.boxes else "none")


def test_the_same_training_gives_the_same_bundle() -> None:
    few = samples(30)
    first, again = (_train(few, config={"steps": 6}) for _ in range(2))
    assert first.manifest.graphs == again.manifest.graphs
    assert set(first.blobs) == set(again.blobs)


def test_smaller_variants_find_the_same(made: TrainedBundle) -> None:
    variants = make_variants(_stored(made), ("fp16", "int8"), samples(60))
    assert not variants.left_out
    for variant in variants.made.values():
        pipeline = _open(_stored(variant))
        pipeline.check_golden()
        assert _found(pipeline, samples(30, seed=1000)) >= 0.7


def test_a_bundle_whose_maps_are_others_fails_its_golden_check(made: TrainedBundle) -> None:
    golden = made.manifest.golden
    assert golden.maps is not None
    wrong = tuple(tuple(value + 0.1 for value in row) for row in golden.maps)
    manifest = made.manifest.model_copy(update={"golden": golden.model_copy(update={"maps": wrong})})
    with pytest.raises(NotValid, match="off by"):
        open_pipeline(manifest, made.digest, _stored(made).read_blob, OnnxRuntime()).check_golden()


def test_a_warm_start_knows_what_its_base_found(made: TrainedBundle) -> None:
    again = _train(samples(30, seed=500), base=_stored(made), config={"steps": 3, "freeze_norm": True})
    assert again.manifest.provenance.parent == made.digest
    assert again.manifest.provenance.data["warm_start"] is True
    assert _found(_open(_stored(again)), samples(30, seed=1000)) >= 0.6


def test_a_new_class_gets_a_map_of_its_own_behind_the_base() -> None:
    base = _train(samples(30, kinds=(WIDE,)), config={"steps": 3})
    more = _train(samples(30), base=_stored(base), config={"steps": 3})
    told = more.manifest.graphs[0].detections
    assert told is not None
    assert told.labels == (WIDE, LONG)
    assert more.manifest.labels == ("none", WIDE, LONG)


def test_masks_teach_as_boxes_do() -> None:
    drawn = samples(20, kinds=(WIDE,))
    masked = [_with_mask(sample) for sample in drawn]
    from_boxes, from_masks = (_train(given, config={"steps": 3}) for given in (drawn, masked))
    assert from_boxes.blobs.keys() == from_masks.blobs.keys()


def test_the_score_of_boxes_stands_beside_that_of_labels(made: TrainedBundle) -> None:
    given = samples(45, seed=1000)
    found = score_samples(_stored(made), Dataset(source="fresh", samples=tuple(given), good_labels=("none",)))
    assert found["boxes"]["n"] == 30
    assert found["boxes"]["recall"]["low"] <= found["boxes"]["recall"]["value"] <= found["boxes"]["recall"]["high"]
    assert set(found["boxes_of"]) == {WIDE, LONG}


def test_mirrored_pictures_keep_their_boxes() -> None:
    from edgewise.learn._box_data import targets

    made = targets([Box(label=WIDE, x1=0.05, y1=0.1, x2=0.2, y2=0.4)], [WIDE], 16)[None].repeat(8, 1, 1, 1)
    _, moved = mirrored(torch.zeros(8, 1, 64, 64), made, np.random.default_rng(0))
    places = set()
    for maps in moved:
        row, column = (int(one) for one in maps[-1].nonzero()[0])
        places.add(
            (
                round((column + float(maps[-3, row, column])) / 16, 3),
                round((row + float(maps[-2, row, column])) / 16, 3),
            )
        )
    assert places == {(0.125, 0.25), (0.875, 0.25), (0.125, 0.75), (0.875, 0.75)}


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_only_pictures_without_boxes_are_refused_in_one_sentence() -> None:
    bare = [replace(sample, annotation=None) for sample in samples(20)]
    with pytest.raises(NotValid, match="none of the 20 pictures has a box or a mask") as caught:
        _train(bare)
    assert caught.value.code == "boxes_missing"


def test_a_class_without_a_box_is_named() -> None:
    given = [replace(one, annotation=None) if one.label == LONG else one for one in samples(30)]
    with pytest.raises(NotValid, match="none of the 10 pictures labelled 'scratch' has a box"):
        _train(given)


def test_only_good_pictures_are_refused() -> None:
    with pytest.raises(NotValid, match="only one class, 'none'"):
        _train([one for one in samples(30) if one.label == "none"])


def test_pictures_whose_boxes_are_unknown_are_left_out_and_told() -> None:
    given = samples(30)
    given[1] = replace(given[1], annotation=None)
    given[2] = replace(given[2], annotation=Annotation(mask="0" * 64), mask=lambda: b"no picture")
    made = _train(given, config={"steps": 3})
    assert made.manifest.provenance.data["left_out"] == (
        "1 spot left out: labelled as something, with neither a box nor a mask of where it is; "
        "1 scratch left out: the mask cannot be read"
    )
    assert made.log[0].startswith("1 spot left out")


def test_boxes_of_a_label_that_no_picture_has_are_told() -> None:
    given = samples(30)
    odd = Box(label="dent", x1=0.5, y1=0.5, x2=0.6, y2=0.6)
    held = given[1].annotation
    assert held is not None
    given[1] = replace(given[1], annotation=Annotation(boxes=(*(held.boxes or ()), odd)))
    assert "boxes of 1 dent left out" in _train(given, config={"steps": 3}).log[0]


@pytest.mark.parametrize(
    "ends", [(0.5, 0.5, 0.5, 0.6), (-0.1, 0.2, 0.3, 0.4), (0.2, 0.2, 1.2, 0.4), (0.4, 0.4, 0.3, 0.5)]
)
def test_no_box_is_empty_or_outside_of_its_picture(ends: tuple[float, ...]) -> None:
    x1, y1, x2, y2 = ends
    with pytest.raises(ValueError, match=r"is empty|greater than or equal to 0|less than or equal to 1"):
        Box(label=WIDE, x1=x1, y1=y1, x2=x2, y2=y2)


@pytest.mark.parametrize(
    ("config", "says"), [({"size": 66}, "multiple of 4"), ({"threshold": 1.5}, "threshold is 1.5")]
)
def test_wrong_settings_are_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(NotValid, match=says):
        _train(samples(20), config=config)


def test_two_words_for_nothing_are_refused() -> None:
    given = [replace(one, label="free") if number == 0 else one for number, one in enumerate(samples(20))]
    with pytest.raises(NotValid, match="needs one such label"):
        train(given, now=NOW, trainer="boxes", good_labels=["none", "free"], config=CONFIG)


def test_decisions_without_boxes_stay_what_they_were_byte_for_byte() -> None:
    from edgewise.wire import Decision

    said = Decision(label="ok", confidence=0.9, margin=0.8, bundle="0" * 64)
    assert b"boxes" not in canonical(plain(said))


def _with_mask(sample: TrainingSample) -> TrainingSample:
    if sample.annotation is None or not sample.annotation.boxes:
        return replace(sample, annotation=None)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for box in sample.annotation.boxes:
        x1, y1, x2, y2 = (round(value * SIDE) for value in (box.x1, box.y1, box.x2, box.y2))
        mask[y1:y2, x1:x2] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    data = file.getvalue()
    return replace(sample, annotation=Annotation(mask="1" * 64), mask=lambda: data)
