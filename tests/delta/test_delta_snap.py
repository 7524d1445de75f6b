from __future__ import annotations

import io

import numpy as np
import pytest
from onnx import load_from_string, numpy_helper

from edgewise.delta import decode, encode, snap
from edgewise.delta._container import Limits, read_header
from edgewise.delta._operations import Snapped
from edgewise.delta._snap import recover
from edgewise.wire import NotValid


def arrays(data: bytes) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in load_from_string(data).graph.initializer}


def operations(delta: bytes):
    return read_header(io.BytesIO(delta), Limits()).operations


@pytest.mark.parametrize("step_rms", [0.25, 0.5, 1.0, 2.0])
def test_a_snapped_model_is_found_again_and_comes_back_exactly(pair, step_rms):
    base, tuned = pair
    snapped = snap(base, tuned, step_rms)
    delta = encode(base, snapped)
    assert sum(isinstance(each, Snapped) for each in operations(delta)) == 3
    out = io.BytesIO()
    decode(base, io.BytesIO(delta), out)
    assert out.getvalue() == snapped


def test_snapping_makes_the_delta_several_times_smaller(pair):
    base, tuned = pair
    assert len(encode(base, snap(base, tuned))) < 0.3 * len(encode(base, tuned))


def test_no_weight_moves_by_more_than_half_a_step(pair):
    base, tuned = pair
    before, wanted, got = arrays(base), arrays(tuned), arrays(snap(base, tuned))
    for name in ("first", "second", "third"):
        update = wanted[name] - before[name]
        size = np.sqrt((update**2).mean(axis=(1, 2, 3), keepdims=True))
        assert (np.abs(got[name] - wanted[name]) < 0.4 * size).all()  # half of half the size, and rounding of the step
    assert np.array_equal(got["bias"], wanted["bias"])


def test_an_unchanged_model_stays_as_it_is(pair):
    base, _ = pair
    assert snap(base, base) == base


def test_snapping_twice_changes_nothing_more(pair):
    base, tuned = pair
    snapped = snap(base, tuned)
    again = arrays(snap(base, snapped))
    for name, array in arrays(snapped).items():
        assert np.abs(again[name] - array).max() < 1e-3


def test_a_tensor_with_infinite_weights_stays_exact(as_onnx, weights, tuned):
    broken = tuned | {"third": np.where(tuned["third"] > 0.1, np.float32(np.inf), tuned["third"])}
    base = as_onnx(weights)
    assert np.array_equal(arrays(snap(base, as_onnx(broken)))["third"], broken["third"])


def test_an_ordinary_update_is_not_taken_for_a_snapped_one(weights, tuned):
    for name in ("first", "second", "third"):
        old, new = (each[name].ravel().view(np.uint32) for each in (weights, tuned))
        assert recover(old, new, weights[name].shape[0]) is None


@pytest.mark.parametrize("step_rms", [0.0, -1.0, 1e-9, 100.0, float("nan")])
def test_a_step_out_of_range_is_refused(pair, step_rms):
    with pytest.raises(NotValid, match="step_rms"):
        snap(*pair, step_rms)


def test_files_without_common_tensors_are_refused(pair):
    with pytest.raises(NotValid, match="nothing to snap"):
        snap(b"no model", pair[1])
