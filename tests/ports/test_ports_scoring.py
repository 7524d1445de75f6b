"""Scoring a bundle over labelled samples: the one computation that gate and signer share."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from edgewise.frames import golden_inputs
from edgewise.ports import MemoryBlobs, MemoryRuntime
from edgewise.ports.scoring import UNREADABLE, Answers, score_bundle
from edgewise.wire import (
    Blob,
    Golden,
    Graph,
    LabelledSample,
    Manifest,
    Needs,
    NotTrusted,
    NotValid,
    Provenance,
    Scorecard,
    TableSpec,
    decode,
    encode,
)

NOW = datetime(2026, 5, 4, tzinfo=UTC)
SPEC = TableSpec(columns=("x",), fill=(0.0,), mean=(0.0,), std=(1.0,))


def a_bundle(blobs: MemoryBlobs, *, golden_off: float = 0.0) -> bytes:
    model = json.dumps({"classes": 2, "seed": 3, "embedding": 2}).encode()
    scores = MemoryRuntime().open(model).run(golden_inputs(SPEC, 7, 2))["scores"] + golden_off
    manifest = Manifest(
        name="net",
        task="tabular-classification",
        graphs=(Graph(blob="net", input="input", scores="scores", pre=SPEC),),
        labels=("ok", "crack"),
        good_label="ok",
        golden=Golden(seed=7, count=2, scores=tuple(tuple(float(value) for value in row) for row in scores)),
        needs=Needs(opset=18, ram_mb=10, latency_ms=1),
        provenance=Provenance(trained_at=NOW, trainer="test", code_version="0"),
        blobs={"net": Blob(sha256=blobs.put(model), size_bytes=len(model))},
    )
    return encode(manifest)


def a_sample(blobs: MemoryBlobs, index: int, data: bytes, label: str = "ok") -> LabelledSample:
    return LabelledSample(
        sample=f"{index:032x}", blob=blobs.put(data), label=label, site="a", media_type="application/json"
    )


def test_the_same_bytes_give_the_same_scorecard_with_and_without_memory() -> None:
    blobs, answers = MemoryBlobs(), Answers()
    body = a_bundle(blobs)
    samples = [a_sample(blobs, i, json.dumps({"x": float(x)}).encode()) for i, x in enumerate(np.linspace(-2, 2, 9))]
    options = {"read_blob": blobs.get, "runtime": MemoryRuntime(), "good_labels": ["ok"], "now": NOW}
    cards = [score_bundle(body, samples, **options, answers=memory) for memory in (None, answers, answers)]
    assert cards[0] == cards[1] == cards[2]
    assert [item.sample for item in cards[0].predictions] == [item.sample for item in samples]
    assert decode(Scorecard, encode(cards[0])) == cards[0]


def test_a_frame_that_nobody_can_read_is_a_wrong_answer_and_no_error() -> None:
    blobs = MemoryBlobs()
    samples = [a_sample(blobs, 1, b'{"x": "text"}'), a_sample(blobs, 2, b'{"x": 1}')]
    card = score_bundle(
        a_bundle(blobs), samples, read_blob=blobs.get, runtime=MemoryRuntime(), good_labels=["ok"], now=NOW
    )
    assert [item.label == UNREADABLE for item in card.predictions] == [True, False]


def test_a_bundle_that_computes_something_else_here_is_not_scored() -> None:
    blobs = MemoryBlobs()
    body = a_bundle(blobs, golden_off=0.1)
    with pytest.raises(NotValid, match="golden"):
        score_bundle(body, [], read_blob=blobs.get, runtime=MemoryRuntime(), good_labels=[], now=NOW)


def test_a_manifest_that_was_touched_is_not_scored() -> None:
    blobs = MemoryBlobs()
    with pytest.raises(NotTrusted):
        score_bundle(a_bundle(blobs) + b" ", [], read_blob=blobs.get, runtime=MemoryRuntime(), good_labels=[], now=NOW)


def test_memory_is_bounded() -> None:
    answers = Answers(entries_max=2)
    for index in range(4):
        answers.put("b", str(index), ("ok", None, None))
    assert [answers.get("b", str(index)) is not None for index in range(4)] == [False, False, True, True]
