"""Does a bundle fit a device, and what has to be fetched for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.plan import misfits, predicted_bytes, predicted_disk_bytes, predicted_latency_ms
from edgewise.wire import Blob, Golden, Graph, ImageSpec, Manifest, Needs, Provenance, digest

NEEDS = Needs(opset=18, ram_mb=120, latency_ms=8, ops=("Conv", "Relu", "Resize"), providers=("CUDAExecutionProvider",))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, []),
        ({"opset_max": 18, "ram_mb": 120, "speed_ratio": 1, "latency_ms_max": 8}, []),
        ({"opset_max": 17}, ["opset 18"]),
        ({"ram_mb": 119.5}, ["119.5 MB"]),
        ({"speed_ratio": 0.5, "latency_ms_max": 15}, ["16 ms"]),
        ({"speed_ratio": 0.5, "latency_ms_max": 16}, []),
        ({"speed_ratio": 0.1}, ["80 ms"]),  # the use case's deadline, 50 ms
        ({"speed_ratio": 0.1, "latency_ms_max": 100}, []),  # the device's own goes first
        ({"opset_max": 17, "ram_mb": 1, "speed_ratio": 0.01}, ["opset", "memory", "800 ms"]),
        ({"opset_max": "seventeen", "ram_mb": None, "speed_ratio": 0, "latency_ms_max": True}, []),
        ({"ram_total_mb": 100}, ["120 MB of memory"]),
        ({"ram_total_mb": 100, "ram_mb": 120}, []),  # what is free for the bundle is the better word
        ({"ops_missing": "Mish Resize com.microsoft.GroupNorm"}, ["uses Resize"]),
        ({"ops_missing": "Mish com.microsoft.GroupNorm"}, []),
        ({"ops_missing": 3, "providers": None, "disk_free_mb": "much"}, []),
        ({"providers": "CPUExecutionProvider"}, ["needs CUDAExecutionProvider"]),
        ({"providers": "CUDAExecutionProvider CPUExecutionProvider"}, []),
        ({"disk_free_mb": 2.9}, ["3 MB of disk"]),
        ({"disk_free_mb": 3}, []),
    ],
)
def test_each_misfit_is_named_and_what_is_not_reported_is_not_held_against_the_device(
    facts: dict[str, Any], words: list[str]
) -> None:
    reasons = misfits(NEEDS, facts, latency_ms_max=50, disk_bytes=3_000_000)
    assert len(reasons) == len(words)
    assert all(word in reason for word, reason in zip(words, reasons, strict=True))


def test_without_any_deadline_no_speed_is_too_low() -> None:
    assert misfits(NEEDS, {"speed_ratio": 0.001}) == []
    assert predicted_latency_ms(NEEDS, {}) is None
    assert predicted_latency_ms(NEEDS, {"speed_ratio": 4}) == 2


def manifest(blobs: dict[str, Blob]) -> Manifest:
    return Manifest(
        name="surface",
        task="image-classification",
        graphs=(Graph(blob="net", input="x", scores="y", pre=ImageSpec(width=8, height=8)),),
        labels=("none", "crack"),
        golden=Golden(seed=1, count=1, scores=((0.5, 0.5),)),
        needs=NEEDS,
        provenance=Provenance(trained_at=datetime(2026, 1, 1, tzinfo=UTC), trainer="vision", code_version="1"),
        blobs=blobs,
    )


@given(sizes=st.lists(st.integers(0, 1000), min_size=1, max_size=6), held=st.sets(st.integers(0, 5)))
def test_only_missing_blobs_are_fetched_each_once(sizes: list[int], held: set[int]) -> None:
    blobs = [Blob(sha256=digest(bytes([index])), size_bytes=size) for index, size in enumerate(sizes)]
    named = {
        name: blob for index, blob in enumerate(blobs) for name in (f"a{index}", f"b{index}")
    }  # each under two names
    have = {digest(bytes([index])) for index in held}
    needed = sum(size for index, size in enumerate(sizes) if index not in held)
    assert predicted_bytes(manifest(named), have) == needed
    assert predicted_bytes(manifest(named), {blob.sha256 for blob in blobs}) == 0
    whole = sum(sizes)
    assert predicted_disk_bytes(manifest(named), have) == whole + needed
