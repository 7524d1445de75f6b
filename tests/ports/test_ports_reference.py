"""Reference networks without the `onnx` package, and what is measured with them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest

from edgewise.ports import MemoryRuntime, OnnxRuntime
from edgewise.ports.reference import REFERENCES, load_share, measure_reference, ops_missing, opset_max
from edgewise.wire import NotValid, digest


@pytest.mark.parametrize("name", REFERENCES)
def test_a_reference_network_is_valid_onnx_and_gives_probabilities(name):
    make, shape = REFERENCES[name]
    onnx.checker.check_model(onnx.load_model_from_string(make()), full_check=True)
    scores = OnnxRuntime().open(make()).run(np.random.default_rng(0).random(shape, np.float32))["scores"]
    assert scores.sum() == pytest.approx(1, abs=1e-5)
    assert scores.max() < 0.999, "the weights are so spread that nothing saturates"


@pytest.mark.parametrize(("name", "sha256"), [("window", "57a33ac052256d1e"), ("vision", "cd1965ef73ec9e17")])
def test_a_reference_network_is_the_same_everywhere(name, sha256):
    assert digest(REFERENCES[name][0]())[:16] == sha256


def test_a_run_is_measured_within_its_time():
    run = measure_reference(OnnxRuntime(), "window", seconds=0.1, runs_max=50)
    assert 0 < run.p50_ms <= run.p95_ms
    assert run.runs == 50


def test_the_newest_opset_is_one_that_opens_and_the_next_does_not():
    assert opset_max(OnnxRuntime()) >= 21


def test_a_runtime_that_opens_nothing_is_said_to_be_broken():
    with pytest.raises(NotValid, match="opens no network"):
        opset_max(MemoryRuntime())


def test_measuring_needs_no_onnx():
    code = (
        "import sys; sys.modules['onnx'] = None; from edgewise.ports.reference import *; print(len(window_network()))"
    )
    assert int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) > 1000


def test_load_is_a_share_of_the_cores():
    assert load_share() >= 0


def test_the_runtime_says_which_operators_it_has_no_code_for() -> None:
    missing = ops_missing()
    assert "com.microsoft.GroupNorm" in missing  # for graphics processors only
    assert not {"Conv", "QuantizeLinear", "Cast", "ai.onnx.ml.TreeEnsembleClassifier", "Constant"} & set(missing)
    assert list(missing) == sorted(missing)
