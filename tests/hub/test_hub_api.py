"""The HTTP interface for people and their programs: who may do what, blobs by range, problems instead of tracebacks."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from datetime import timedelta
from html.parser import HTMLParser

import httpx
import numpy as np
import pytest
import uvicorn

from edgewise.delta import Column, encode_series
from edgewise.hub import create_app, labels
from edgewise.hub.api.auth import COOKIE
from edgewise.hub.store import tables
from edgewise.ports import listen
from edgewise.wire import Readings

API = "/api/v1"


@pytest.fixture
def client(yard):
    """A client of the hub over real HTTP on a loopback port."""
    with served(yard) as held:
        yield held


@pytest.fixture
def serve_app():
    return served


@contextlib.contextmanager
def served(yard):
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(yard.hub), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as held:
        yield held
    server.should_exit = True
    thread.join()
    listener.close()


def bearer(yard, role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {yard.hub.tokens.text(role)}"}


def test_blobs_are_read_by_range_and_only_as_what_they_are(yard, client):
    content = bytes(range(256)) * 4
    name = yard.hub.store.blobs.put(content)
    path, who = f"{API}/blobs/{name}", bearer(yard, "worker")
    whole = client.get(path, headers=who)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (
        200,
        content,
        "application/octet-stream",
    )
    part = client.get(path, headers=who | {"Range": "bytes=1000-"})
    assert (part.status_code, part.content) == (206, content[1000:])
    assert part.headers["content-range"] == "bytes 1000-1023/1024"
    assert client.get(path, headers=who | {"Range": "bytes=-4"}).content == content[-4:]
    assert client.get(path, headers=who | {"Range": "bytes=2000-"}).status_code == 416
    assert client.get(path, headers=who | {"Range": "lines=1-2"}).status_code == 200
    assert client.get(f"{path}?media_type=image/png", headers=who).headers["content-type"] == "image/png"
    shown = client.get(f"{path}?media_type=text/html", headers=who)
    assert shown.headers["content-type"] == "application/octet-stream", "a blob must never run in the console's origin"
    assert shown.headers["x-content-type-options"] == "nosniff"


class Pieces:
    """Blobs that count what is read of them."""

    def __init__(self, blobs):
        self._blobs, self.most, self.read = blobs, 0, 0

    def __getattr__(self, name):
        return getattr(self._blobs, name)

    def pieces(self, sha256, start=0, end=None):
        for piece in self._blobs.pieces(sha256, start, end):
            self.most, self.read = max(self.most, len(piece)), self.read + len(piece)
            yield piece


def test_a_large_blob_is_read_a_piece_at_a_time_and_a_part_of_it_alone(make_yard, tmp_path, serve_app):
    yard = make_yard(data_dir=tmp_path / "hub")
    content = bytes(range(250)) * 40_000
    name = yard.hub.store.blobs.put(content)
    counted = yard.hub.store.blobs = Pieces(yard.hub.store.blobs)
    who = bearer(yard, "worker")
    with serve_app(yard) as client:
        part = client.get(f"{API}/blobs/{name}", headers=who | {"Range": "bytes=7000000-7000099"})
        assert (part.status_code, part.content, part.headers["content-length"]) == (
            206,
            content[7000000:7000100],
            "100",
        )
        assert counted.read == 100
        whole = client.get(f"{API}/blobs/{name}", headers=who)
    assert (whole.content, whole.headers["content-length"]) == (content, str(len(content)))
    assert counted.most <= 1 << 20


def test_a_large_blob_that_is_damaged_is_never_given_out_whole(make_yard, tmp_path, serve_app, caplog):
    yard = make_yard(data_dir=tmp_path / "hub")
    name = yard.hub.store.blobs.put(b"x" * 3_000_000)
    (file,) = (tmp_path / "hub").rglob(name)
    with file.open("r+b") as handle:
        handle.write(b"y")
    with serve_app(yard) as client, pytest.raises(httpx.RemoteProtocolError):
        client.get(f"{API}/blobs/{name}", headers=bearer(yard, "worker"))
    assert "broke off: these 3000000 bytes are" in caplog.text


def test_a_blob_under_a_wrong_digest_is_refused(yard, client):
    who = bearer(yard, "admin")
    answer = client.put(f"{API}/blobs/{'0' * 64}", content=b"x", headers=who)
    assert (answer.status_code, answer.json()["code"]) == (403, "blob_corrupt")
    assert client.put(f"{API}/blobs/nonsense", content=b"x", headers=who).status_code == 422


def test_bodies_are_bounded_before_they_are_read(yard, client):
    who = bearer(yard, "admin")
    limit = yard.hub.limits.json_bytes_max
    assert client.post(f"{API}/bundles", content=b"x" * (limit + 1), headers=who).status_code == 413
    assert client.post(f"{API}/usecases", content=b"x" * 300_000, headers=who).status_code == 413

    sent = 0

    def endless():
        nonlocal sent
        while sent < 200_000_000:
            sent += 65536
            yield b"x" * 65536

    # The hub hangs up in the middle; whether the answer is still read depends on the sockets' buffers.
    with contextlib.suppress(httpx.HTTPError):
        assert client.post(f"{API}/usecases", content=endless(), headers=who).status_code == 413
    assert sent < 100_000_000


def test_the_console_cookie_changes_nothing_for_another_sites_page(yard, client):
    client.get("/", params={"token": yard.hub.tokens.text("admin")})
    assert COOKIE in client.cookies
    (sample,) = yard.bring_in(("north", "a", "", None))
    body = {"labels": [{"sample": sample, "label": "pit"}]}
    assert client.get(f"{API}/devices").status_code == 200
    for origin in ({}, {"Origin": "http://evil"}, {"Origin": "null"}):
        answer = client.post(f"{API}/labels", json=body, headers=origin)
        assert (answer.status_code, answer.json()["code"]) == (403, "other_origin")
    assert client.post(f"{API}/labels", json=body, headers={"Origin": str(client.base_url)}).status_code == 200


def test_samples_come_in_pages_that_hold_each_once(yard, client):
    ids = yard.bring_in(*(("north", str(number), "", "pit" if number % 2 else None) for number in range(25)))
    who = bearer(yard, "admin")
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"use_case": "press", "limit": 10} | ({"cursor": cursor} if cursor else {})
        page = client.get(f"{API}/samples", params=query, headers=who).json()
        seen += [sample["id"] for sample in page["samples"]]
        cursor = page["next"]
    assert sorted(seen) == sorted(ids)
    labelled = client.get(f"{API}/samples", params={"labelled": "true"}, headers=who).json()["samples"]
    assert len(labelled) == 12
    one = client.get(f"{API}/samples/{labelled[0]['id']}", headers=who).json()
    assert [item["label"] for item in one["labels"]] == ["pit"]
    assert client.get(f"{API}/samples", params={"cursor": "x"}, headers=who).json()["code"] == "cursor_invalid"


def test_a_use_case_with_mistakes_is_answered_with_their_lines(yard, client):
    answer = client.post(f"{API}/usecases", content=b"name: a\napp: b\ncolour: red\n", headers=bearer(yard, "admin"))
    assert answer.status_code == 422
    assert "line 3: colour: Extra inputs" in answer.json()["detail"]


def test_the_evaluation_share_is_shown_to_the_signer(yard, client):
    yard.bring_in(*(("north", str(number), "", "pit") for number in range(10)))
    answer = client.get(f"{API}/evaluation?use_case=press", headers=bearer(yard, "signer"))
    purposes = {row["id"]: row["purpose"] for row in yard.rows(tables.samples)}
    assert {purposes[item["sample"]] for item in answer.json()} == {labels.EVALUATION}


def test_a_mistake_of_the_hubs_own_is_told_without_its_insides(yard, client):
    with yard.hub.store.write() as connection:
        connection.exec_driver_sql("ALTER TABLE devices RENAME TO secret")
    answer = client.get(f"{API}/devices", headers=bearer(yard, "admin"))
    assert answer.status_code == 500
    assert "devices" not in answer.text
    assert answer.json()["code"] == "internal"


class Assets(HTMLParser):
    """Everything that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "img", "link", "iframe", "object", "embed"):
            self.loads.append(tag)
        self.loads += [
            value or "" for name, value in attrs if name in ("src", "srcset", "data") or "//" in (value or "")
        ]


def test_the_docs_page_loads_nothing_and_shows_every_route(client):
    text = client.get("/docs").text
    page = Assets()
    page.feed(text)
    assert page.loads == []
    assert "url(" not in text
    assert "@import" not in text
    for path in client.get("/openapi.json").json()["paths"]:
        assert path.replace("{", "&#x7B;") in text or path in text


def test_health_metrics_and_version_are_open(yard, client):
    device = yard.enrol("one")
    device.send(device.segment(1, device.telemetry()))
    assert client.get("/livez").json()["status"] == "ok"
    assert client.get("/readyz").json() == {"status": "ok", "checks": {"store": "ok", "blobs": "ok"}}
    assert client.get("/version").json()["api"] == "v1"
    client.get(f"{API}/devices/some-name", headers=bearer(yard, "admin"))
    text = client.get("/metrics").text
    for line in (
        'edgewise_hub_devices{phase="idle",use_case="press"} 1.0',
        'edgewise_hub_segments{class="telemetry",outcome="stored"} 1.0',
        'edgewise_hub_requests_total{route="/devices/{device}",status="404"} 1.0',
    ):
        assert line in text
    assert "some-name" not in text


def test_the_overview_sums_up_the_loop(yard, client):
    device = yard.enrol("one")
    device.send(device.segment(1, device.telemetry(), device.telemetry()))
    yard.bring_in(*(("north", str(number), "", "pit") for number in range(6)))
    yard.hub.tick()
    who = bearer(yard, "admin")
    (press,) = client.get(f"{API}/overview", headers=who).json()["use_cases"]
    assert press["devices_by_phase"] == {"idle": 1}
    assert press["orders"] == {"open": 1}
    (sums,) = client.get(f"{API}/telemetry?use_case=press", headers=who).json()
    assert (sums["site"], sums["decisions"]) == ("north", 20)
    checked = client.get(f"{API}/audit/verify", headers=who).json()
    assert checked["broken"] is None
    entries = client.get(f"{API}/audit?limit=1000", headers=who).json()
    assert checked["entries"] == len(entries) == entries[-1]["index"] + 1


def test_unknown_paths_and_methods_are_problems_too(client):
    for answer in (client.get("/nowhere"), client.delete(f"{API}/devices"), client.post(f"{API}/contact")):
        assert answer.status_code in (404, 405)
        assert json.loads(answer.content)["status"] == answer.status_code


def test_nothing_that_only_devices_ask_is_answered_on_the_peoples_port(client):
    for method, path in (("POST", f"{API}/contact"), ("GET", f"{API}/identity"), ("GET", "/.well-known/est/cacerts")):
        assert client.request(method, path).status_code == 404
    document = client.get("/openapi-devices.json").json()
    assert {f"{API}/contact", f"{API}/identity", "/.well-known/est/simpleenroll"} <= document["paths"].keys()


def test_readings_of_a_device_come_by_channel_and_time(yard, client):
    usecase = yard.apply()
    yard.apply(data=usecase.data.model_copy(update={"version": 2, "telemetry": ("ac_power",)}))
    device = yard.enrol("one")
    start = yard.clock.now()
    times = round(start.timestamp() * 1000) + np.arange(3) * 1000
    values = np.array([1.5, np.nan, -np.inf])
    packed = encode_series([Column(channel=0, times_ms=times, values=values)])
    record = Readings(
        id=device.id(), site="north", end=start + timedelta(seconds=2), channels=("ac_power",), count=3,
        block=base64.b64encode(packed).decode(),
    )  # fmt: skip
    device.send(device.segment(1, record, policy_version=2))
    path, who = f"{API}/telemetry/readings", bearer(yard, "admin")
    found = client.get(path, params={"device": "one", "channel": "ac_power"}, headers=who).json()
    assert [item["value"] for item in found["readings"]] == [1.5, "NaN", "-Infinity"]
    assert found["next"] is None
    asked = {"device": "one", "from": (start + timedelta(seconds=1)).isoformat(), "to": "2199-01-01T00:00:00Z"}
    assert len(client.get(path, params=asked, headers=who).json()["readings"]) == 2
    assert client.get(path, params={"device": "two"}, headers=who).status_code == 404
    assert client.get(path, params={"device": "one", "cursor": "x"}, headers=who).status_code == 422
    assert (
        client.get(path, params={"device": "one", "from": "0001-01-01T00:00:00+14:00"}, headers=who).status_code < 500
    )
    assert client.get(path, params={"device": "one"}).status_code == 401
