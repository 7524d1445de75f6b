"""The agent as a process: over real HTTP, stopped and killed, and readable when it is off."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from edgewise.edge._data_key import device_safe
from edgewise.edge.agent import Agent, AgentConfig, enrol, load_config, locked, run, status
from edgewise.edge.outbox import Entry, Outbox
from edgewise.frames import golden_inputs
from edgewise.ports import Credentials, ListSource, OnnxRuntime, SeededChance, SystemClock
from edgewise.trust import fingerprint, open_request, pack_certificates
from edgewise.wire import (
    Blob,
    Event,
    Golden,
    Graph,
    Manifest,
    Needs,
    NotNow,
    NotTrusted,
    NotValid,
    Provenance,
    TableSpec,
    digest,
    encode,
    plain,
)
from field_servers import Broker, Hook, Listener, free_port, needs_broker
from tls_world import TlsWorld, device_of

SPEC = TableSpec(columns=("x", "y"), fill=(0, 0), mean=(0, 0), std=(1, 1))


def onnx_network(seed: int) -> bytes:
    """Two numbers in, three probabilities and an embedding out."""
    helper = pytest.importorskip("onnx.helper", reason="the extra `learn` brings onnx")
    weights = np.random.default_rng(seed).standard_normal((2, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["input", "weights"], ["embedding"]),
            helper.make_node("Softmax", ["embedding"], ["scores"], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("input", 1, ["n", 2])],
        [helper.make_tensor_value_info(name, 1, ["n", 3]) for name in ("scores", "embedding")],
        [helper.make_tensor("weights", 1, (2, 3), weights.ravel().tolist())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def onnx_bundle(fleet, seed: int) -> str:
    network = onnx_network(seed)
    scores = OnnxRuntime().open(network).run(golden_inputs(SPEC, seed, 4))["scores"]
    manifest = Manifest(
        name="parts-net",
        task="tabular-classification",
        graphs=(Graph(blob="net", input="input", scores="scores", embedding="embedding", pre=SPEC),),
        labels=("good", "crack", "pit"),
        good_label="good",
        golden=Golden(seed=seed, count=4, scores=tuple(tuple(float(v) for v in row) for row in scores)),
        needs=Needs(opset=17, ram_mb=10, latency_ms=1),
        provenance=Provenance(trained_at="2026-03-01T00:00:00Z", trainer="none", code_version="0"),
        blobs={"net": Blob(sha256=digest(network), size_bytes=len(network))},
    )
    data = encode(manifest)
    fleet.hub.blobs[digest(network)], fleet.manifests[digest(data)] = network, data
    return digest(data)


class HttpHub:
    """The tiny hub behind a real socket, over TLS, with an authority of its own."""

    def __init__(self, fleet, usecase, folder) -> None:
        hub, world = fleet.hub, TlsWorld(folder)
        self.world, self.age_days, self.renewals = world, 0.0, []
        this = self
        self.answer = answer = {
            "device": "d1", "site": "north", "use_case": "parts", "usecase": plain(usecase),
            "root": fleet.root, "hub_epoch": "a" * 32,
        }  # fmt: skip

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_values):
                pass

            def reply(self, code: int, body: bytes = b"") -> None:
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = self.path.removeprefix("/api/v1/").split("/")
                match [self.command, *parts]:
                    case ["GET", "", ".well-known", "est", "cacerts"]:
                        self.reply(200, base64.encodebytes(pack_certificates([world.root])))
                    case ["POST", "", ".well-known", "est", "simpleenroll"]:
                        if self.headers["Authorization"] == "Basic " + base64.b64encode(b"device:good").decode():
                            self.issue(body)
                        else:
                            self.reply(403, json.dumps({"detail": "unknown"}).encode())
                    case ["POST", "", ".well-known", "est", "simplereenroll"]:
                        this.renewals.append(device_of(self.connection))
                        self.issue(body)
                    case ["GET", "identity"]:
                        assert device_of(self.connection) == "d1"
                        self.reply(200, json.dumps(answer).encode())
                    case ["POST", "contact"]:
                        assert device_of(self.connection) == "d1"
                        self.reply(200, hub.exchange("d1", body))
                    case ["HEAD", "blobs", name]:
                        self.reply(200 if name in hub.blobs else 404)
                    case ["PATCH", "blobs", _]:
                        self.reply(405, b"{}")  # as a hub that is older than the device
                    case ["PUT", "blobs", name]:
                        hub.put_blob("d1", name, body)
                        self.reply(200)
                    case ["GET", "blobs", name]:
                        self.reply(200, hub.blobs[name])
                    case ["GET", "tuf", *names]:
                        try:
                            self.reply(200, hub.get_file("d1", "/".join(names)))
                        except NotValid as error:
                            self.reply(404, json.dumps({"detail": str(error), "code": error.code}).encode())
                    case _:
                        self.reply(404, b"{}")

            def issue(self, body: bytes) -> None:
                asked = open_request(base64.b64decode(body))
                chain = world.chain_for(asked.public, "d1", age_days=this.age_days)
                self.reply(200, base64.encodebytes(pack_certificates(chain)))

            do_GET = do_POST = do_PUT = do_HEAD = do_PATCH = serve  # noqa: N815 (names of the standard library)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = world.server().wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        self.token = f"good.{fingerprint(world.root)}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site(fleet, tmp_path, make_usecase):
    """An enrolled device's surroundings: hub, data folder, camera folder."""
    fleet.bundle = lambda seed, **_more: onnx_bundle(fleet, seed)
    fleet.hub.next_contact_s = 0.1
    upload = {"period_frames": 8, "period_s": 0.2, "share_of_bytes": 0.5}
    hub = HttpHub(fleet, make_usecase(upload=upload, connectivity={"contact_s": 0.2}), tmp_path)
    fleet.http_hub, fleet.token = hub, hub.token
    fleet.url, fleet.data, fleet.camera = hub.url, tmp_path / "data", tmp_path / "camera"
    fleet.camera.mkdir()
    yield fleet
    hub.close()


def shoot(site, count: int) -> None:
    for number in range(site.fed, site.fed + count):
        frame = site.frame(number)
        part = site.camera / f"{frame.name}.row.part"
        part.write_bytes(frame.data)
        part.rename(site.camera / f"{frame.name}.row")
    site.fed += count


def until(true, what: str, wait_s_max: float = 20.0) -> None:
    end = time.monotonic() + wait_s_max
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def start(site) -> tuple[subprocess.Popen, str]:
    """The agent on the camera's folder."""
    code = "import sys; from pathlib import Path; from edgewise.edge.agent import run; "
    code += "run(Path(sys.argv[1]), Path(sys.argv[2]), http_port=0)"
    return begin([sys.executable, "-c", code, str(site.data), str(site.camera)])


def begin(command: list[str]) -> tuple[subprocess.Popen, str]:
    """A process that prints its local API's address in its first line."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert match, f"{line}{process.stderr.read() if process.poll() is not None else ''}"
    return process, match[0]


def finish(process: subprocess.Popen) -> str:
    _, errors = process.communicate(timeout=20)
    return str(errors)


def test_enrolment_makes_a_key_and_pins_the_root_once(site):
    with pytest.raises(NotTrusted):
        enrol(site.data, site.url, site.token.replace("good", "bad"))
    assert not (site.data / "device.json").exists()
    assert enrol(site.data, site.url, site.token) == "d1"
    assert (site.data / "keys" / "device.pem").stat().st_mode & 0o077 == 0
    with pytest.raises(NotValid, match="enrolled as d1 already"):
        enrol(site.data, site.url, site.token)


def test_a_folder_that_is_not_enrolled_says_what_to_do(tmp_path):
    with pytest.raises(NotValid, match="edgewise edge enroll"):
        run(tmp_path, tmp_path)
    with pytest.raises(NotValid, match="edgewise edge enroll"):
        status(tmp_path)


def test_a_missing_source_and_a_busy_folder_say_so(site, tmp_path):
    enrol(site.data, site.url, site.token)
    with pytest.raises(NotValid, match="is not a folder"):
        run(site.data, tmp_path / "nowhere")
    with locked(site.data), pytest.raises(NotNow, match="another agent runs"):
        run(site.data, site.camera)


def test_settings_come_from_file_and_environment_and_mistakes_are_named(tmp_path, monkeypatch):
    assert load_config(tmp_path).collect is False
    (tmp_path / "edge.yaml").write_text("collect: true\nring_bytes: 2000000\n")
    assert load_config(tmp_path).collect is True
    monkeypatch.setenv("EDGEWISE_EDGE_RING_BYTES", "3000000")
    assert load_config(tmp_path).ring_bytes == 3_000_000
    (tmp_path / "edge.yaml").write_text("colect: true\n")
    with pytest.raises(NotValid, match="colect"):
        load_config(tmp_path)


def test_once_decides_on_what_is_there_and_reports(site):
    enrol(site.data, site.url, site.token)
    site.assign(site.release(1))
    shoot(site, 20)
    run(site.data, site.camera, once=True)
    said = status(site.data)
    assert said["decisions"] == 20
    assert said["release"] == "parts@1"
    assert said["agent"] == "is off"
    assert site.stored("sample")
    run(site.data, site.camera, once=True)
    assert status(site.data)["decisions"] == 20  # nothing is decided twice


def test_the_source_may_stand_in_edge_yaml_and_a_replay_goes_on_where_it_was(site, tmp_path, monkeypatch):
    enrol(site.data, site.url, site.token)
    site.assign(site.release(1))
    rows = tmp_path / "rows.csv"
    rows.write_text("x,y\n" + "0.5,0.5\n" * 12)
    (site.data / "edge.yaml").write_text(f"source: {{kind: csv, path: {rows}, speed: 0}}\n")
    run(site.data, once=True)
    assert status(site.data)["decisions"] == 12
    with rows.open("a") as file:
        file.write("0.1,0.1\n" * 3)
    (site.data / "edge.yaml").unlink()
    monkeypatch.setenv("EDGEWISE_EDGE_SOURCE", f"csv:{rows}?speed=0")
    run(site.data, once=True)
    assert status(site.data)["decisions"] == 15, "no row is decided on twice"
    with pytest.raises(NotValid, match="is not there; name the CSV file"):
        run(site.data, f"csv:{tmp_path}/none.csv", once=True)


def test_the_pipelines_of_edge_yaml_are_all_decided_on_also_with_one_camera_missing(site):
    enrol(site.data, site.url, site.token)
    site.assign(site.release(1))
    shoot(site, 12)
    places = [("main", site.camera), ("again", site.camera), ("gone", site.camera / "nowhere")]
    config = {"pipelines": [{"name": name, "source": str(place)} for name, place in places]}
    (site.data / "edge.yaml").write_text(json.dumps(config))
    (site.camera / "f000000a.row").write_bytes(b"no row")  # not the last frame that is decided on
    run(site.data, once=True)
    assert status(site.data)["decisions"] == 24
    assert {record.get("pipeline") for record in site.stored("telemetry")} <= {None, "again"}
    assert any(record["frame"].startswith("again/") for record in site.stored("sample"))


def test_the_agent_decides_updates_and_answers_over_real_http(site):
    enrol(site.data, site.url, site.token)
    site.assign(site.release(1))
    process, url = start(site)
    try:
        with httpx.Client(base_url=url, timeout=10) as http:
            until(lambda: http.get("/readyz").status_code == 200, "no first bundle")
            shoot(site, 30)
            until(lambda: http.get("/status").json()["decisions"] == 30, "not all decided")
            until(lambda: http.get("/status").json()["backlog"] == 0, "not all sent")
            assert http.get("/livez").text == "ok\n"
            metrics = http.get("/metrics").text
            assert "edgewise_edge_decisions_total 30.0" in metrics
            assert 'edgewise_edge_pipeline_decisions_total{pipeline="main"} 30.0' in metrics
            page = http.get("/")
            assert "parts@1" in page.text
            assert page.headers["content-security-policy"] == "default-src 'none'"
            given = http.post("/feedback", json={"verdict": "missed", "frame": "f000003.row", "label": "crack"})
            assert (given.status_code, given.json()["kept"]) == (202, True)
            assert http.post("/feedback", json={"verdict": "maybe"}).status_code == 400
            assert http.post("/feedback", content=b'{"verdict": "wrong"}').status_code == 400  # a foreign page's form
            assert http.get("/status", headers={"Host": "evil.example"}).status_code == 403
            assert http.get("/nowhere").status_code == 404
            assert http.get("/v2/models/parts-net/ready").status_code == 200
            site.assign(site.release(2), bake=True, trial_s=0.2)
            until(lambda: http.get("/status").json()["release"] == "parts@2", "no second release")
            until(lambda: http.get("/status").json()["phase"] == "committed", "not committed")
            assert status(site.data)["agent"] == "runs"
            until(lambda: http.get("/status").json()["backlog"] == 0, "not all sent")
            made = set(http.get("/status").json()["made_ids"])
        process.send_signal(signal.SIGTERM)
        assert finish(process) == ""
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
    stored = [record["id"] for record in site.hub.records]
    assert len(stored) == len(set(stored))
    assert made <= set(stored)
    assert [record["verdict"] for record in site.stored("feedback")] == ["missed"]


def test_the_command_shows_the_card_and_measures_it_once(site):
    enrol(site.data, site.url, site.token)
    command = [sys.executable, "-m", "edgewise", "edge", "card", "--data-dir", str(site.data), "--seconds", "0.1"]
    first, second = (
        json.loads(subprocess.run([*command, "-o", "json"], capture_output=True, check=True).stdout) for _ in range(2)
    )
    assert first == second
    assert (first["device"], set(first["reference"])) == ("d1", {"window", "vision"})


def test_an_agent_outlives_its_networks_worker_and_leaves_no_orphan(site):
    enrol(site.data, site.url, site.token)
    (site.data / "edge.yaml").write_text("runtime: {isolate: always}\n")
    site.assign(site.release(1))
    process, url = start(site)
    try:
        with httpx.Client(base_url=url, timeout=10) as http:
            until(lambda: http.get("/readyz").status_code == 200, "no first bundle")
            shoot(site, 5)
            until(lambda: http.get("/status").json()["decisions"] == 5, "not all decided")
            (worker,) = psutil.Process(process.pid).children()
            worker.kill()
            shoot(site, 5)
            until(lambda: http.get("/status").json()["decisions"] == 10, "not all decided after the worker's end")
            assert http.get("/status").json()["runtime"]["workers"]["restarted"] == 1
            assert 'edgewise_edge_worker_events_total{event="worker_died"} 1.0' in http.get("/metrics").text
            until(lambda: any(upload.report.card for upload in site.hub.uploads), "no capability card was sent")
        (worker,) = psutil.Process(process.pid).children()
        process.kill()
        until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, "the worker is an orphan")
    finally:
        process.kill()
        process.communicate()


def test_a_killed_agent_comes_back_with_a_whole_bundle_and_loses_nothing(site):
    enrol(site.data, site.url, site.token)
    site.assign(site.release(1))
    process, url = start(site)
    try:
        with httpx.Client(timeout=10) as http:
            until(lambda: http.get(f"{url}/readyz").status_code == 200, "no first bundle")
            shoot(site, 20)
            site.assign(site.release(2), trial_s=30)
            until(lambda: http.get(f"{url}/status").json()["phase"] == "trial", "no trial", 30)
            process.kill()
            finish(process)
            shoot(site, 20)
            process, url = start(site)
            until(lambda: http.get(f"{url}/status").json()["decisions"] >= 40, "not all decided")
            said = http.get(f"{url}/status").json()
            assert said["release"] in ("parts@1", "parts@2")
            until(lambda: http.get(f"{url}/status").json()["period_frames"] == 0, "the period did not end")
            until(lambda: http.get(f"{url}/status").json()["backlog"] == 0, "not all sent")
        process.send_signal(signal.SIGTERM)
        finish(process)
    finally:
        process.kill()
        process.communicate()
    ids = [record["id"] for record in site.hub.records]
    assert len(ids) == len(set(ids))
    frames = [record["frame"] for record in site.stored("sample")]
    assert len(frames) == len(set(frames))


def test_the_cost_of_sending_is_told_by_command_while_the_agent_is_off(site):
    enrol(site.data, site.url, site.token)
    site.assign(site.release(1))
    (site.data / "edge.yaml").write_text("facts: {network_metered: true}\n")
    shoot(site, 20)
    run(site.data, site.camera, once=True)
    command = [sys.executable, "-m", "edgewise", "edge", "cost", "--data-dir", str(site.data), "-o", "json"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    assert told["network_metered"] is True
    assert told["today"]["bytes"] == told["this_month"]["bytes"] > 1000
    assert told["next_contact"]["bytes"] >= 1500
    assert status(site.data)["cost"]["today"] == told["today"]


def ready_s(site) -> float:
    """Seconds from the start of the process until it decides; it is killed when its bundle is committed."""
    began = time.monotonic()
    process, url = start(site)
    try:
        with httpx.Client(base_url=url, timeout=10) as http:
            until(lambda: http.get("/readyz").status_code == 200, "no bundle runs")
            took_s = time.monotonic() - began
            until(lambda: http.get("/status").json()["phase"] == "committed", "not committed")
            return took_s
    finally:
        process.kill()
        process.communicate()


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_a_start_with_a_hundred_thousand_waiting_records_is_as_fast_as_one_without(site):
    enrol(site.data, site.url, site.token)
    site.assign(site.release(1), trial_s=0.1)
    ready_s(site)
    site.http_hub.close()  # offline from now on
    empty = min(ready_s(site) for _ in range(3))
    box = Outbox(site.data / "outbox", chance=SeededChance(1), safe=device_safe(site.data).safe)
    now = datetime.now(UTC)
    for first in range(0, 100_000, 5000):
        texts = [Event(id=f"{number:032x}", at=now, what="x", text="t") for number in range(first, first + 5000)]
        box.add_many([Entry(record=text, record_class="telemetry", policy_version=1) for text in texts])
    blobs = box.blobs.path
    for number in range(100_000):  # as many files as samples would bring
        folder = blobs / f"{number % 256:02x}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number:064x}").touch()
    box.close()
    full = min(ready_s(site) for _ in range(3))
    sys.stdout.write(f"ready after {empty:.2f} s with nothing waiting, {full:.2f} s with 100,000 records and blobs\n")
    assert full < empty + 0.5
    assert full < 2 or full < 1.2 * empty  # a slow machine has slow starts, with or without a backlog


@pytest.mark.parametrize(
    ("leave", "said"), [((), "edgewise contact: RuntimeError at "), (("log",), "RuntimeError: a mistake about Ada")]
)
def test_an_error_in_another_thread_does_not_stop_decisions_and_is_said_as_the_policy_allows(
    fleet, capsys, leave, said
):
    device = fleet.device(data={"data_class": "measurement", "transforms": [], "leave": leave})
    fleet.assign(fleet.release(1))
    fleet.run(device, 3)
    agent = Agent(device, clock=SystemClock())

    def broken(_now):
        raise RuntimeError("a mistake about Ada")

    device.contact_step = broken
    thread = threading.Thread(target=agent.run)
    thread.start()
    fleet.feed(20)
    until(lambda: device.decisions == 20, "decisions stopped")
    heard = []
    until(lambda: heard.append(capsys.readouterr().err) or said in "".join(heard), "it was not said")
    assert ("Ada" in "".join(heard)) == ("log" in leave)
    assert agent.is_alive()
    agent.stop()
    thread.join(10)
    assert not thread.is_alive()


class Eager(ListSource):
    """Says at once that there is a frame, and has none."""

    asked = 0

    def wait(self, _seconds_max: float) -> bool:
        return True

    def next(self) -> None:
        self.asked += 1


def test_a_source_that_tells_of_frames_and_gives_none_does_not_keep_the_agent_busy(fleet):
    device = fleet.device()
    fleet.assign(fleet.release(1))
    fleet.run(device, 3)
    source = device.pipelines.first._source = Eager()
    agent = Agent(device, clock=SystemClock())
    thread = threading.Thread(target=agent.run)
    thread.start()
    time.sleep(1)
    agent.stop()
    thread.join(10)
    assert 5 < source.asked < 50


def test_a_quiet_agent_sends_an_operators_word_at_once(fleet):
    """Its threads rest for a second while nothing happens, and are woken by whoever has something for them."""
    device = fleet.device(connectivity={"contact_s": 3600}, data={"data_class": "measurement", "transforms": []})
    fleet.assign(fleet.release(1))
    fleet.hub.next_contact_s = 3600.0
    fleet.run(device, 3)
    agent = Agent(device, config=AgentConfig(quiet_s_max=10), clock=fleet.clock)
    thread = threading.Thread(target=agent.run)
    thread.start()
    fleet.feed(1)
    until(lambda: device.decisions == 1, "no decision")
    time.sleep(0.5)
    began = time.monotonic()
    device.feedback(fleet.clock.now(), verdict="wrong", label="pit")
    until(lambda: fleet.stored("feedback"), "it was not sent")
    assert time.monotonic() - began < 8
    agent.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_imports_of_the_edge_stay_light():
    """A device has no room for what only the hub or the trainer needs (design section 9)."""
    code = "import sys, edgewise.edge, edgewise.edge.agent; print(sorted(set(sys.modules) & set(sys.argv[1:])))"
    heavy = ["torch", "sqlalchemy", "fastapi", "pyarrow", "sklearn", "onnx", "pandas"]
    shown = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
    assert Path(sys.executable).exists()


def test_a_token_for_another_hub_is_never_sent(site):
    elsewhere = "good." + "0" * 64
    with pytest.raises(NotTrusted, match="is not the hub of this token") as caught:
        enrol(site.data, site.url, elsewhere)
    assert caught.value.code == "hub_wrong"
    assert not (site.data / "hub-root.pem").exists()
    for token in ("good", "", "good.xyz", f"good.{'0' * 63}"):
        with pytest.raises(NotValid, match="not an enrolment token"):
            enrol(site.data, site.url, token)
    with pytest.raises(NotValid, match="needs https://"):
        enrol(site.data, site.url.replace("https", "http"), site.token)


def test_an_old_certificate_is_renewed_while_the_agent_runs_and_decides(site):
    site.http_hub.age_days = 6  # past two thirds of its seven days
    enrol(site.data, site.url, site.token)
    site.http_hub.age_days = 0
    before = (site.data / "certificate.pem").read_bytes()
    site.assign(site.release(1))
    shoot(site, 5)
    run(site.data, site.camera, once=True)
    assert site.http_hub.renewals == ["d1"], "asked once, with the certificate that still held"
    assert (site.data / "certificate.pem").read_bytes() != before
    assert status(site.data)["decisions"] == 5
    assert status(site.data)["certificate"].startswith("holds until")


def test_after_weeks_away_the_key_alone_brings_the_device_back(site):
    site.http_hub.age_days = 30
    enrol_late(site)
    site.http_hub.age_days = 0
    assert status(site.data)["certificate"].startswith("ended at")
    site.assign(site.release(1))
    shoot(site, 5)
    run(site.data, site.camera, once=True)
    assert site.http_hub.renewals == [None], "asked without the certificate that had ended"
    assert status(site.data)["decisions"] == 5


def enrol_late(site) -> None:
    """Enrol, and let the certificate grow old afterwards."""
    age, site.http_hub.age_days = site.http_hub.age_days, 0
    enrol(site.data, site.url, site.token)
    credentials = Credentials(site.data)
    credentials.take(site.http_hub.world.chain(credentials, "d1", age_days=age))


FIELD = """
pipelines:
  - {{name: main, source: "csv:{rows}?speed=0&row.group=part"}}
  - {{name: camera, source: "camera:97"}}
  - {{name: stream, source: "rtsp://127.0.0.1:{closed}/live?x=1"}}
  - {{name: film, source: "video:{film}?retry_s_min=0.1&retry_s_max=0.1"}}
  - {{name: plc, source: {{kind: modbus, host: 127.0.0.1, port: {closed}, retry_s_min: 0.05, retry_s_max: 0.05,
      registers: [{{column: x, address: 1}}]}}}}
  - {{name: lines, source: "mqtt://127.0.0.1:{mqtt}/press/+?name=lines&retry_s_min=0.05&retry_s_max=0.05"}}
  - {{name: phone, source: "push:phone"}}
"""


def test_whatever_goes_wrong_around_it_the_agent_decides_on_what_works_and_says_so_once(site, tmp_path, make_usecase):
    """Bad input: a camera that vanishes, half a film, machines that are off, a sensor that sends text, a sink down."""
    needs_broker()
    closed, broker, hook = free_port(), Broker(tmp_path), Hook()
    rows = [f"p{number},{number / 50 - 1},0.5" for number in range(40)]
    rows[10:10] = ["p,hot,0.5", "p,1", "p,,inf"]
    (tmp_path / "rows.csv").write_text("part,x,y\n" + "\n".join(rows) + "\n")
    (tmp_path / "film.avi").write_bytes(b"RIFF half a film")
    sinks = [
        {"kind": "webhook", "name": "hook", "url": hook.url, "events": ["decision"]},
        {"kind": "mqtt", "name": "siren", "host": "127.0.0.1", "port": closed, "topic": "a", "events": ["decision"],
         "retry_s_min": 0.05, "retry_s_max": 0.05},
    ]  # fmt: skip
    leave = ["sample", "telemetry", "report", "alarm", "audit", "feedback", "local-api", "log", "sink"]
    data = {"data_class": "measurement", "transforms": [], "leave": leave}
    site.http_hub.answer["usecase"] = plain(make_usecase(sinks=sinks, data=data, connectivity={"contact_s": 0.2}))
    enrol(site.data, site.url, site.token)
    config = FIELD.format(rows=tmp_path / "rows.csv", film=tmp_path / "film.avi", closed=closed, mqtt=broker.port)
    (site.data / "edge.yaml").write_text(config)
    site.assign(site.release(1))
    process, url = begin(
        [sys.executable, "-m", "edgewise", "edge", "run", "--data-dir", str(site.data), "--http-port", "0"]
    )
    try:
        with httpx.Client(base_url=url, timeout=10) as http:

            def metric(name: str, **labels: str) -> float:
                wanted = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
                found = re.search(rf"^edgewise_edge_{name}{{{wanted}}} (\S+)$", http.get("/metrics").text, re.M)
                return float(found[1]) if found else -1.0

            def decided(pipeline: str) -> int:
                return http.get("/status").json()["pipelines"][pipeline]["decisions"]

            until(lambda: decided("main") == 40, "what works is decided on")
            assert metric("source_skipped_total", pipeline="main") == 3
            assert metric("source_up", pipeline="main") == 1
            for dark in ("camera", "stream", "film", "plc", "lines"):
                until(lambda dark=dark: metric("source_up", pipeline=dark) == 0, f"{dark} is missed")
            until(lambda: len(hook.posts) == 40, "decisions reach the sink that works")
            until(lambda: metric("sink_events_total", sink="hook", event="decision", outcome="sent") == 40, "counted")
            assert metric("sink_events_total", sink="siren", event="decision", outcome="sent") == 0

            token = (site.data / "keys" / "push-phone").read_text().strip()
            allowed = {"authorization": f"Bearer {token}"}
            pushed = http.post("/push/phone?wait_s=5", json={"x": 0.5, "y": 0.5}, headers=allowed)
            assert pushed.status_code == 200, pushed.text
            assert pushed.json()["decision"]["label"] in ("good", "crack", "pit")

            broker.start()
            until(lambda: metric("source_up", pipeline="lines") == 1, "the broker is found")
            mouth = Listener(broker.port, "none")
            for _ in range(300):
                mouth.say("press/1", b"ERR overheated")
            mouth.say("press/1", {"x": 0.1, "y": 0.2})
            until(lambda: decided("lines") == 1, "the sensor's numbers are decided on")
            until(lambda: metric("source_skipped_total", pipeline="lines") == 300, "its texts are counted")
            mouth.close()
            assert http.get("/livez").status_code == 200
            assert any("camera" in reason for reason in http.get("/status").json()["waits_for"])
        process.send_signal(signal.SIGTERM)
        said = finish(process).splitlines()
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
        broker.stop()
        hook.close()
    for about in ("source camera", "source stream", "source film", "source plc"):
        assert len([line for line in said if line.startswith(f"edgewise {about} gives no frames")]) == 1, said
    assert len([line for line in said if "source lines passes over a frame" in line]) <= 3, said
    assert len([line for line in said if "sink siren" in line]) <= 5, said
    assert len(said) <= 20, said
