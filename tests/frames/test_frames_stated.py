"""From three quantiles to a decision on a value."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from edgewise.frames import BadScores, Decided, decide, is_alarm, scores_of
from edgewise.wire import (
    Blob,
    Decision,
    Golden,
    Graph,
    Manifest,
    Needs,
    Provenance,
    States,
    TableSpec,
    decode,
    encode,
)


def manifest(**states: Any) -> Manifest:
    return Manifest(
        name="net",
        task="value",
        graphs=(
            Graph(
                blob="net",
                input="input",
                scores="scores",
                pre=TableSpec(columns=("x",), fill=(0.0,), mean=(0.0,), std=(1.0,)),
            ),
        ),
        labels=(),
        states=States(**{"target": "power", "unit": "MW", "spread": 40, "mean": 12, **states}),
        golden=Golden(seed=1, count=1, scores=((1.0, 2.0, 3.0),)),
        needs=Needs(opset=15, ram_mb=1, latency_ms=1),
        provenance=Provenance(trained_at=datetime(2026, 1, 1, tzinfo=UTC), trainer="test", code_version="0"),
        blobs={"net": Blob(sha256="0" * 64, size_bytes=1)},
    )


def said(*values: float, **states: Any) -> Decided:
    return decide(np.array(values, np.float32), manifest(**states), bundle="0" * 64, release=None)


def test_the_decision_has_the_number_and_its_interval() -> None:
    found = said(10, 12.5, 20)
    assert found.stated == (10.0, 12.5, 20.0)
    assert (found.label, found.confidence, found.defect) == ("within", 0.9, None)
    assert decode(Decision, encode(found.record())) == found.record()
    assert Decided.of(found.record()) == found


@pytest.mark.parametrize(
    ("values", "margin"), [((12, 12, 12), 1.0), ((10, 12, 20), 0.75), ((0, 20, 40), 0.0), ((-50, 0, 50), 0.0)]
)
def test_a_wide_interval_is_worth_a_look_and_a_narrow_one_is_not(values: Any, margin: float) -> None:
    assert said(*values).margin == margin


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ((46, 50, 55), "above"),
        ((45, 50, 55), "within"),
        ((30, 44, 60), "within"),
        ((1, 2, 4.5), "below"),
        ((1, 2, 5), "within"),
    ],
)
def test_a_limit_is_crossed_where_the_whole_interval_is_beyond_it(values: Any, label: str) -> None:
    found = said(*values, above=45, below=5)
    assert found.label == label
    assert is_alarm(found, manifest()) == (label != "within")


@pytest.mark.parametrize("values", [(3, 2, 4), (1, 5, 4), (np.nan, 1, 2), (0, 1, np.inf)])
def test_numbers_that_do_not_rise_or_are_not_finite_are_refused(values: Any) -> None:
    with pytest.raises(BadScores, match="need to be finite and to rise"):
        said(*values)


def test_a_bundle_has_labels_or_states_values() -> None:
    told = manifest().model_dump(mode="json")
    assert scores_of(manifest()) == 3
    for change in ({"labels": ["hot"]}, {"states": None}, {"task": "tabular-classification"}):
        with pytest.raises(ValueError, match="value has `states` and no labels"):
            Manifest.model_validate(told | change)
    for quantiles in ((0.5, 0.5, 0.9), (0.9, 0.5, 0.1), (0.0, 0.5, 0.9)):
        with pytest.raises(ValueError, match="need to rise"):
            manifest(quantiles=quantiles)
