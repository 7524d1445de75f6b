"""Rows, golden inputs and decisions."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.frames import (
    BadRow,
    BadScores,
    decide,
    golden_inputs,
    good_labels,
    is_alarm,
    prepare,
    prepare_many,
    prepare_row,
)
from edgewise.wire import (
    Blob,
    Golden,
    Graph,
    ImageSpec,
    Manifest,
    Needs,
    NotValid,
    Provenance,
    TableSpec,
    digest,
)

SPEC = TableSpec(columns=("load", "heat"), fill=(1.0, 20.0), mean=(0.0, 20.0), std=(2.0, 10.0))


GOLDEN_ROWS = [[0.040951114147901535, 1.560451865196228], [-1.2326674461364746, 1.5541671514511108]]
GOLDEN_PICTURE_SUM = -37.12164265313186


def manifest(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "name": "demo",
        "task": "image-classification",
        "graphs": (Graph(blob="main", input="input", scores="scores", pre=ImageSpec(width=8, height=8)),),
        "labels": ("none", "free", "crack"),
        "good_label": "none",
        "golden": Golden(seed=1, count=1, scores=((0.2, 0.3, 0.5),)),
        "needs": Needs(opset=17, ram_mb=10, latency_ms=1),
        "provenance": Provenance(trained_at=datetime(2026, 1, 1, tzinfo=UTC), trainer="test", code_version="1"),
        "blobs": {"main": Blob(sha256=digest(b""), size_bytes=0)},
    }
    return Manifest(**(fields | changes))


def scores(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"load": 4, "heat": 30}, [2, 1]),
        ({}, [0.5, 0]),
        ({"load": None, "heat": float("nan")}, [0.5, 0]),
        ({"load": True, "heat": 20.0, "worker": "Ada"}, [0.5, 0]),
    ],
)
def test_a_row_is_ordered_filled_and_scaled(row, wanted):
    prepared = prepare_row(row, SPEC)
    assert prepared.dtype == np.float32
    assert prepared.tolist() == wanted


@pytest.mark.parametrize("value", ["4", [1], {"x": 1}, float("inf"), 10**400])
def test_a_value_that_is_no_finite_number_is_refused_by_the_name_of_its_column(value):
    with pytest.raises(BadRow, match="column heat"):
        prepare_row({"heat": value}, SPEC)


def test_a_spec_whose_lists_differ_in_length_is_refused():
    with pytest.raises(BadRow):
        prepare_row({}, TableSpec(columns=("a", "b"), fill=(0.0,), mean=(0.0, 0.0), std=(1.0, 1.0)))


@pytest.mark.parametrize("data", [b"[1, 2]", b"3", b'"text"'])
def test_json_that_is_no_row_is_refused(data):
    with pytest.raises(BadRow):
        prepare(data, "application/json", SPEC)


@given(st.lists(st.fixed_dictionaries({}, optional={"load": st.floats(-1e6, 1e6), "heat": st.none()}), max_size=5))
def test_rows_give_the_same_bits_in_a_batch_and_alone(rows):
    frames = [(json.dumps(row).encode(), "application/json; charset=utf-8") for row in rows]
    batch = prepare_many(frames, SPEC)
    assert batch.shape == (len(rows), 2)
    for (data, media_type), prepared in zip(frames, batch, strict=True):
        assert np.array_equal(prepare(data, media_type, SPEC), prepared)


@pytest.mark.parametrize("spec", [SPEC, ImageSpec(width=20, height=9), ImageSpec(width=8, height=8, channels=3)])
def test_golden_inputs_follow_from_their_seed_and_look_like_prepared_frames(spec):
    first = golden_inputs(spec, seed=5, count=64)
    assert first.dtype == np.float32
    assert np.array_equal(first, golden_inputs(spec, seed=5, count=64))
    assert not np.array_equal(first, golden_inputs(spec, seed=6, count=64))
    assert abs(float(first.mean())) < 0.2
    assert 0.8 < float(first.std()) < 1.2


def test_golden_inputs_never_change_with_a_library():
    # Bundles in the field hold answers to exactly these numbers.
    seen = golden_inputs(SPEC, seed=1, count=2)
    assert digest(seen.tobytes()) == digest(np.array(GOLDEN_ROWS, np.float32).tobytes())
    picture = golden_inputs(ImageSpec(width=16, height=16), seed=1, count=1)
    assert float(picture.astype(np.float64).sum()) == pytest.approx(GOLDEN_PICTURE_SUM, abs=1e-4)


@pytest.mark.parametrize(("seed", "count"), [(-1, 1), (0, 0), (0, 64)])
def test_golden_inputs_are_bounded(seed, count):
    with pytest.raises(NotValid):
        golden_inputs(ImageSpec(width=4096, height=4096, channels=3), seed, count)


def test_a_decision_names_the_most_probable_label_and_how_sure_it_is():
    decision = decide(scores(0.25, 0.125, 0.625), manifest(), bundle=digest(b"x"), release="demo@1")
    assert (decision.label, decision.confidence, decision.margin) == ("crack", 0.625, 0.375)
    assert (decision.defect, decision.release) == (0.75, "demo@1")


def test_the_probability_of_a_defect_counts_every_good_label():
    both = manifest(good_labels=("free", "none"))
    assert good_labels(both) == ("none", "free")
    assert decide(scores(0.25, 0.125, 0.625), both, bundle=digest(b""), release=None).defect == 0.625


def test_without_a_good_label_there_is_neither_defect_nor_alarm():
    about = manifest(good_label=None)
    decision = decide(scores(0, 0, 1), about, bundle=digest(b""), release=None)
    assert decision.defect is None
    assert not is_alarm(decision, about)


@pytest.mark.parametrize(("threshold", "alarm"), [(0.3, True), (0.4, True), (0.41, False)])
def test_an_alarm_follows_the_threshold_and_not_the_label(threshold, alarm):
    about = manifest(defect_threshold=threshold)
    decision = decide(scores(0.6, 0.2, 0.2), about, bundle=digest(b""), release=None)
    assert decision.label == "none"
    assert is_alarm(decision, about) is alarm


def test_of_equal_scores_the_first_label_wins():
    assert decide(scores(0.5, 0.5, 0), manifest(), bundle=digest(b""), release=None).label == "none"


def test_a_single_label_is_certain():
    decision = decide(scores(1), manifest(labels=("crack",), good_label=None), bundle=digest(b""), release=None)
    assert (decision.confidence, decision.margin) == (1, 1)


@pytest.mark.parametrize("bad", [scores(1, 0), scores(float("nan"), 0, 1), scores(-3, 2, 2), scores(2, 0, 0)])
def test_scores_that_are_no_probabilities_are_refused(bad):
    with pytest.raises(BadScores):
        decide(bad, manifest(), bundle=digest(b""), release=None)


@given(st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=3))
def test_every_softmax_gives_a_decision_inside_its_bounds(logits):
    powers = np.exp(np.array(logits, np.float32) - max(logits))
    decision = decide((powers / powers.sum()).astype(np.float32), manifest(), bundle=digest(b""), release=None)
    assert 0 <= decision.margin <= decision.confidence <= 1
    assert decision.defect is not None
    assert 0 <= decision.defect <= 1


@pytest.mark.parametrize("classes", [32, 33, 1000])
def test_many_classes_are_decided_on_as_few_are(classes):
    labels = tuple(f"c{index}" for index in range(classes))
    about = manifest(labels=labels, good_label="c7")
    said = np.random.default_rng(classes).dirichlet(np.ones(classes)).astype(np.float32)
    before = said.copy()
    decision = decide(said, about, bundle=digest(b""), release=None)
    first, second = sorted(said.tolist())[:-3:-1]
    assert decision.label == labels[int(said.argmax())]
    assert decision.confidence == round(first, 6)
    assert decision.margin == round(first - second, 6)
    assert decision.defect == round(1 - said.tolist()[7], 6)
    assert np.array_equal(said, before)
    for bad in (np.nan, np.inf, -1.0, 2.0):
        said[3] = bad
        with pytest.raises(BadScores):
            decide(said, about, bundle=digest(b""), release=None)
