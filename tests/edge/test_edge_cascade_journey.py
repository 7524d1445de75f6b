"""A cascade over a real link: an `edge serve` process, mutual TLS, and a proxy that cuts, stalls and slows it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from edgewise.edge import Device
from edgewise.edge.agent import Agent
from edgewise.edge.device import Identity
from edgewise.frames import golden_inputs
from edgewise.ports import (
    LinkDown,
    ListSource,
    MemoryRuntime,
    OnnxRuntime,
    Refused,
    SeededChance,
    SystemClock,
    V2Large,
    write_bundle,
)
from edgewise.sim import FaultProxy, Weather
from edgewise.trust import pem_of
from edgewise.wire import (
    Blob,
    Golden,
    Graph,
    Manifest,
    Needs,
    NotTrusted,
    Provenance,
    TableSpec,
    digest,
    encode,
)
from tls_world import TlsWorld

LABELS = ("good", "crack", "pit")
LEAVE = ("sample", "telemetry", "report", "feedback", "alarm", "disagreement", "audit", "deferral", "local-api")
SPEC = TableSpec(columns=("x", "y"), fill=(0, 0), mean=(0, 0), std=(1, 1))


def write_large(folder: Path) -> Path:
    """A real network that says pit to everything."""
    helper = pytest.importorskip("onnx.helper", reason="the extra `learn` brings onnx")
    nodes = [
        helper.make_node("MatMul", ["input", "weights"], ["zeros"]),
        helper.make_node("Add", ["zeros", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("input", 1, ["n", 2])],
        [helper.make_tensor_value_info("scores", 1, ["n", 3])],
        [
            helper.make_tensor("weights", 1, (2, 3), [0.0] * 6),
            helper.make_tensor("bias", 1, (3,), [0.0, 0.0, 3.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    network = bytes(model.SerializeToString())
    scores = OnnxRuntime().open(network).run(golden_inputs(SPEC, 1, 4))["scores"]
    manifest = Manifest(
        name="large",
        task="tabular-classification",
        graphs=(Graph(blob="net", input="input", scores="scores", pre=SPEC),),
        labels=LABELS,
        good_label="good",
        golden=Golden(seed=1, count=4, scores=tuple(tuple(float(v) for v in row) for row in scores)),
        needs=Needs(opset=17, ram_mb=10, latency_ms=1),
        provenance=Provenance(trained_at=datetime(2026, 3, 1, tzinfo=UTC), trainer="none", code_version="0"),
        blobs={"net": Blob(sha256=digest(network), size_bytes=len(network))},
    )
    write_bundle(folder, encode(manifest), {digest(network): network})
    return folder


@dataclass
class Cloud:
    world: TlsWorld
    process: subprocess.Popen[str]
    port: int


@pytest.fixture
def cloud(tmp_path) -> Iterator[Cloud]:
    world = TlsWorld(tmp_path)
    world.server()  # writes server.pem
    clients = tmp_path / "clients.pem"
    clients.write_bytes(pem_of(world.root, world.device_issuer))
    command = [sys.executable, "-m", "edgewise", "edge", "serve", str(write_large(tmp_path / "large"))]
    command += ["--http-port", "0", "--tls-cert", str(tmp_path / "server.pem")]
    command += ["--tls-key", str(tmp_path / "server.pem"), "--client-ca", str(clients)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    match = re.search(r"https://127\.0\.0\.1:(\d+)", process.stdout.readline())
    assert match, "the server did not start"
    yield Cloud(world, process, int(match[1]))
    process.kill()
    process.communicate()


def until(true, what: str, wait_s_max: float = 30.0) -> None:
    end = time.monotonic() + wait_s_max
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.005)


class Site:
    """A device whose agent runs in a thread, with the real clock and the real way to the large bundle."""

    def __init__(self, fleet, usecase, folder: Path, cloud: Cloud, port: int) -> None:
        self.fleet, self.corrected, self.fed = fleet, [], 0
        url = f"https://127.0.0.1:{port}"
        terms = {"url": url, "bundle": "large", "margin_max": 1.0, "share_max": 1.0, "latency_ms_max": 1000}
        case = usecase(
            data={"data_class": "measurement", "transforms": [], "leave": LEAVE},
            placement={"mode": "cascade", "cascade": terms, "latency_ms_max": 200},
        )
        identity = Identity(
            device="d1", site="north", use_case="parts", usecase=case, root=fleet.root, hub_epoch="a" * 32
        )
        self.source = ListSource()
        self.device = Device(
            fleet.folder, identity=identity, open_source=lambda _after: self.source, link=fleet.link(),
            runtime=MemoryRuntime(), clock=SystemClock(), chance=SeededChance(1), act=self.act,
            large=V2Large(url, "large", cloud.world.credentials(folder / "credentials")),
        )  # fmt: skip
        self.agent = Agent(self.device, clock=SystemClock())
        self.work = threading.Thread(target=self.agent.run)

    def act(self, frame, decision) -> None:
        if decision.deferred:
            self.corrected.append((frame.name, decision.label))

    def feed(self, count: int) -> None:
        """Frames, and the wait until each has its decision."""
        for number in range(self.fed, self.fed + count):
            self.source.add(self.fleet.frame(number))
        self.fed += count
        until(lambda: self.device.decisions == self.fed, "a decision is missing")

    def count(self, fate: str) -> int:
        return self.device.cascade.counts[fate]

    def __enter__(self) -> Site:
        self.work.start()
        self.fleet.assign(self.fleet.release(1))
        until(lambda: self.device.updater.running is not None, "no bundle")
        return self

    def __exit__(self, *_: object) -> None:
        self.agent.stop()
        self.work.join(20)
        assert not self.work.is_alive()


def test_cut_stalled_and_slow_links_to_the_large_bundle_hold_up_no_decision(fleet, make_usecase, tmp_path, cloud):
    """Invariant 1: the edge's answer is always there, whatever becomes of the way to the large bundle."""
    with FaultProxy(("127.0.0.1", cloud.port)) as proxy, Site(fleet, make_usecase, tmp_path, cloud, proxy.port) as site:
        site.feed(5)
        until(lambda: site.count("answered") == 5, "the large bundle does not answer")
        assert [label for _, label in site.corrected] == ["pit"] * 5
        for fate, weather in (
            ("failed", Weather(up=False)),
            ("late", Weather(delay_s=5.0)),
            ("late", Weather(bytes_per_s=20.0)),
        ):
            proxy.weather = weather
            before = site.count("failed") + site.count("late")
            for _ in range(20):
                site.feed(20)
                if site.count("failed") + site.count("late") > before:
                    break
                time.sleep(0.1)  # decisions go on while a call is stuck
            until(lambda before=before: site.count("failed") + site.count("late") > before, f"nothing {fate}")
            site.feed(200)
            proxy.weather = Weather()
            site.device.cascade._again_s = 0.0  # the pause after a failure is tested elsewhere
            answered = site.count("answered")
            site.feed(3)
            until(lambda answered=answered: site.count("answered") > answered, "it does not come back")
        assert site.count("late") > 0
        cloud.process.kill()
        cloud.process.wait()
        site.feed(300)
        p99_ms = site.device.pipelines.first.latency.quantile(0.99)
        assert p99_ms < 200
        until(lambda: not site.device.cascade._waiting, "the queue does not drain")
    counts = site.device.cascade.counts
    assert counts["sent"] == counts["answered"] + counts["late"] + counts["refused"] + counts["failed"]
    assert site.device.decisions == site.fed
    assert len(site.corrected) == counts["answered"] == counts["disagreed"]


def test_a_device_of_another_authority_gets_no_answer_and_a_bundle_that_is_not_there_is_named(cloud, tmp_path):
    stranger = TlsWorld(tmp_path, "stranger").credentials(tmp_path / "stranger")
    stranger.pin(cloud.world.root)  # it believes the server; the server does not believe it
    data, url = b'{"x": 1, "y": 2}', f"https://127.0.0.1:{cloud.port}"
    with closing(V2Large(url, "large", stranger)) as large, pytest.raises((NotTrusted, LinkDown)):
        large.decide(data, "application/json", timeout_s=5)
    known = cloud.world.credentials(tmp_path / "known")
    with (
        closing(V2Large(url, "larger", known)) as large,
        pytest.raises(Refused, match=r"no network 'larger\.decide' is served here"),
    ):
        large.decide(data, "application/json", timeout_s=5)
    with closing(V2Large(url, "large", known)) as large:
        decision = large.decide(data, "application/json", timeout_s=5)
        assert (decision.label, decision.deferred, decision.release) == ("pit", True, None)
        assert np.isclose(decision.confidence, np.exp(3) / (np.exp(3) + 2), atol=1e-4)
        with pytest.raises(Refused):
            large.decide(b"no row", "application/json", timeout_s=5)
