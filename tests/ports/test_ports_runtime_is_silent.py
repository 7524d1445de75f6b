"""ONNX Runtime tells its maker nothing and writes nothing of its own: not here, not in a vetting, not in a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faulty_networks import network

OPEN = "from edgewise.ports import OnnxRuntime; s = OnnxRuntime().open(data); s.run(np.zeros((1, 2), np.float32))"
VET = (
    "from edgewise.ports import OnnxRuntime, VetLimits; from edgewise.wire import Graph, Needs; "
    "from faulty_networks import SPEC; "
    "OnnxRuntime().vet(file, Graph(blob='net', input='input', scores='scores', embedding='embedding', pre=SPEC), "
    "Needs(opset=17, ram_mb=10, latency_ms=1), VetLimits())"
)
WORKER = (
    "from edgewise.edge.runtime import RuntimeConfig, open_runtime; "
    "s = open_runtime(RuntimeConfig(isolation='worker')).open(data); s.run(np.zeros((1, 2), np.float32))"
)


@pytest.mark.parametrize("what", [OPEN, VET], ids=["open", "vet"])
def test_nothing_is_told_to_the_maker_of_the_runtime(tmp_path, what):
    home, file = tmp_path / "home", tmp_path / "net.onnx"
    home.mkdir()
    file.write_bytes(network("none"))
    code = f"import sys, pathlib, numpy as np; file = pathlib.Path(sys.argv[1]); data = file.read_bytes(); {what}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    environment |= {"HOME": str(home), "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])}
    subprocess.run([sys.executable, "-c", code, str(file)], env=environment, check=True, timeout=60)
    assert [str(found) for found in home.rglob("*")] == []


def test_every_process_of_ours_has_it_off():
    code = "import os, edgewise, json; print(json.dumps(os.environ.get('ORT_DISABLE_TELEMETRY')))"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert json.loads(shown.stdout) == "1"
