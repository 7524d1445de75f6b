"""The whole agent, its worker process included: memory idle and after requests, the processor while idle, its start.

The hub, the keys and the camera's folder are those of the tests; the process is ``edgewise edge run`` as a device has
it, with a contact a minute.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from edge_parts.inprocess import manifest_of
from edge_parts.load import one_by_one
from edge_parts.measure import cpu_ns, middle, pss_mb, say
from edge_parts.models import example
from edge_parts.servers import ask_binary
from edge_parts.table import Row

from edgewise.edge.agent import enrol
from edgewise.frames import golden_inputs
from edgewise.ports import OnnxRuntime
from edgewise.wire import Golden, digest, encode

TESTS = Path(__file__).parents[2] / "tests"
REQUESTS = 10_000
IDLE_S = 30.0
SETTLE_S = 5.0  # the first contact, and the measuring of the device's card, are over
STARTS = 5
COMMIT_S_MAX = 120.0


def rows(file: Path, name: str, folder: Path) -> list[Row]:
    """As the agent runs it by itself, and with the small network in a worker's process too, where it would not be."""
    found: list[Row] = []
    for isolate in ("auto", "always") if name == "small" else ("auto",):
        site = _site(file, name, folder / f"{name}-{isolate}")
        label = "agent" if isolate == "auto" else "agent + worker"
        found += _of(site, name, label, {"EDGEWISE_EDGE_RUNTIME": f"isolate: {isolate}"}, goals=name == "small")
        site.http_hub.close()
    return found


def _of(site: Any, name: str, label: str, environment: dict[str, str], *, goals: bool) -> list[Row]:
    part, starts, cpus = f"resident, {name}", [], []
    for _ in range(STARTS):
        with _agent(site, environment) as (port, pid, began):
            _until(lambda p=port: _ready(p))
            starts.append(time.monotonic() - began)
            cpus.append(cpu_ns(pid) / 1e9)
    request = ask_binary(name, example(name)).replace(b"Host: bench", b"Host: 127.0.0.1")
    with _agent(site, environment) as (port, pid, _):
        one_by_one(port, request, 200)
        time.sleep(SETTLE_S)
        before_mb, before = pss_mb(pid), cpu_ns(pid)
        time.sleep(IDLE_S)
        idle = (cpu_ns(pid) - before) / IDLE_S / 1e7
        one_by_one(port, request, REQUESTS if name == "small" else 300)
        grown_mb = pss_mb(pid) - before_mb
    say(f"  {label}: load {os.getloadavg()[0]:.1f}")
    return [
        Row(part, f"{label} PSS idle", before_mb, before_mb, before_mb, "MB", 110 if goals else None),
        Row(part, f"{label} growth", grown_mb, grown_mb, grown_mb, "MB", 5 if goals else None),
        Row(part, f"{label} idle CPU", idle, idle, idle, "%", 0.2 if goals else None),
        Row(part, f"{label} start to ready", *middle(starts), "s"),
        Row(part, f"{label} start, own CPU", *middle(cpus), "s"),
    ]


def _site(file: Path, name: str, folder: Path) -> Any:
    """An enrolled device that has committed the network's bundle, its hub, and the folder of its camera."""
    folder.mkdir()
    parts = _tests("edge/conftest.py")
    data = {"data_class": "measurement", "transforms": [], "leave": ["telemetry", "audit", "local-api"]}
    site = parts.Fleet(folder / "bench")
    site.http_hub = _tests("edge/test_edge_agent.py").HttpHub(site, parts.usecase(data=data), folder)
    site.hub.next_contact_s = 0.1
    site.data, site.camera = folder / "data", folder / "camera"
    site.camera.mkdir()
    enrol(site.data, site.http_hub.url, site.http_hub.token)
    site.assign(site.sign(_bundle(site, file, name)))
    with _agent(site, {}) as (port, _, _):
        _until(lambda: _told(port)["phase"] == "committed")
    site.hub.next_contact_s = 60.0
    with _agent(site, {}) as (port, _, _):
        _until(lambda: _told(port)["contact"]["last_at"] is not None)
    return site


def _bundle(site: Any, file: Path, name: str) -> str:
    """The network's bundle with its golden outputs, in the hub's hands."""
    network, manifest = file.read_bytes(), manifest_of(file, name)
    graph = manifest.graphs[0]
    scores = OnnxRuntime().open(network).run(golden_inputs(graph.pre, 1, 1))[graph.scores]
    golden = Golden(seed=1, count=1, scores=tuple(tuple(float(value) for value in row) for row in scores))
    data = encode(manifest.model_copy(update={"golden": golden}))
    site.hub.blobs[digest(network)], site.manifests[digest(data)] = network, data
    return digest(data)


@contextmanager
def _agent(site: Any, environment: dict[str, str]) -> Iterator[tuple[int, int, float]]:
    """Port, process, and when it was started."""
    words = [sys.executable, "-m", "edgewise", "edge", "run", "--data-dir", str(site.data)]
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}  # as installed
    began = time.monotonic()
    process = subprocess.Popen(
        [*words, "--source", str(site.camera), "--http-port", "0"],
        stdout=subprocess.PIPE, text=True, env={**kept, "PYTHONUNBUFFERED": "1", **environment},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "http://" not in line:
            raise RuntimeError(f"the agent did not start: {line}")
        yield int(line.rsplit(":", 1)[1]), process.pid, began
    finally:
        process.terminate()
        process.wait(30)


def _told(port: int) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
        return json.loads(answer.read())


def _ready(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
        return bool(answer.status == 200)


def _until(true: Any) -> None:
    end = time.monotonic() + COMMIT_S_MAX
    while not true():
        if time.monotonic() > end:
            raise RuntimeError("the agent did not get ready")
        time.sleep(0.01)


def _tests(path: str) -> ModuleType:
    name = f"bench_{Path(path).stem}"
    if name in sys.modules:
        return sys.modules[name]
    sys.path.insert(0, str(TESTS))
    spec = importlib.util.spec_from_file_location(name, TESTS / path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
