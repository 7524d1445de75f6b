from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.delta import RegionKind, scan


def covers(data: bytes) -> bool:
    regions = scan(data)
    stops = [0, *(region.stop for region in regions)]
    return [region.start for region in regions] == stops[:-1] and stops[-1] == len(data)


def test_every_initializer_is_found_with_its_type_and_channels(as_onnx, weights):
    data = as_onnx(weights | {"half": np.zeros((8, 16), np.float16), "whole": np.zeros((8, 16), np.int8)})
    found = {region.name: region for region in scan(data) if region.kind is RegionKind.TENSOR}
    assert {name: (each.number_type.name, each.channels) for name, each in found.items()} == {
        "first": ("float32", 16),
        "second": ("float32", 32),
        "third": ("float32", 64),
        "bias": ("float32", 1),
        "half": ("float16", 8),
        "whole": ("int8", 8),
    }
    third = found["third"]
    assert data[third.start : third.stop] == weights["third"].tobytes()
    assert covers(data)


def test_long_attribute_arrays_of_trees_are_found(as_onnx):
    trees = {"nodes_values": [0.5 * index for index in range(100)], "nodes_featureids": list(range(300))}
    data = as_onnx({}, trees)
    kinds = {region.name: region.kind for region in scan(data) if region.kind is not RegionKind.LITERAL}
    assert kinds == {
        "trees/nodes_values": RegionKind.TAGGED_FLOATS,
        "trees/nodes_featureids": RegionKind.TAGGED_INTEGERS,
    }


def test_tensors_of_a_safetensors_file_are_found():
    arrays = {"a": np.arange(32, dtype=np.float32).reshape(4, 8), "b": np.arange(20, dtype=np.int8)}
    header, payload = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        span = [len(payload), len(payload) + array.nbytes]
        kind = {"float32": "F32", "int8": "I8"}[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": span}
        payload += array.tobytes()
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + payload
    found = [(each.name, each.channels) for each in scan(data) if each.kind is RegionKind.TENSOR]
    assert found == [("a", 4), ("b", 1)]
    assert covers(data)


@pytest.mark.parametrize("data", [b"", b"x", b"{}", bytes(100), b"\xff" * 100, struct.pack("<Q", 2**63) + b"{}"])
def test_anything_else_is_one_literal_region(data):
    assert [(each.start, each.stop, each.kind) for each in scan(data)] == (
        [(0, len(data), RegionKind.LITERAL)] if data else []
    )


def test_a_cut_or_damaged_model_is_scanned_without_failing(pair):
    base, _ = pair
    rng = np.random.default_rng(3)
    for _ in range(100):
        data = bytearray(base[: rng.integers(1, len(base))])
        for place in rng.integers(0, len(data), 5):
            data[place] = rng.integers(0, 256)
        assert covers(bytes(data))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_covered_once(data):
    assert covers(data)
