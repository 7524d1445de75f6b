"""A phone's camera: the page in a real browser, and the door over TLS that answers nothing else."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from conftest import missing
from edgewise.edge._asgi import Receive, Scope, Send, reply
from edgewise.edge._push import PhoneDoor, PushDoor
from edgewise.edge._serving import phones_served, served
from edgewise.frames import Decided
from edgewise.ports import MemoryClock, PushSource, listen
from edgewise.trust import pem_of
from edgewise.wire import NotValid, PushSpec
from field_servers import until
from tls_world import TlsWorld

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHROMIUM = Path("/usr/bin/chromium")
FAKE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--no-sandbox"]


@pytest.fixture
def phone() -> PushSource:
    return PushSource(PushSpec(name="phone"), clock=MemoryClock(NOW))


@pytest.fixture
def door(phone: PushSource) -> Iterator[PushDoor]:
    """A door behind which somebody decides."""
    door, stop = PushDoor(may_show=True), threading.Event()
    door.add(phone)

    def decide() -> None:
        while not stop.wait(0.005):
            while (frame := phone.next()) is not None:
                door.decided(frame.name, Decided("crack", 0.9, None, 0.5, None, "b" * 64))

    loop = threading.Thread(target=decide, daemon=True)
    loop.start()
    yield door
    stop.set()
    loop.join(5)


def test_a_phone_shows_what_the_device_decides_on_its_camera(door, phone):
    api = pytest.importorskip("playwright.sync_api", reason="the extra `dev` brings playwright")
    if not CHROMIUM.exists():
        missing("browser", f"there is no browser at {CHROMIUM}")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, *(await door.answer(scope, receive) or (404, {}, b"")))

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen("127.0.0.1", 0))
        stack.enter_context(served(app, listener, name="test"))
        browser = stack.enter_context(api.sync_playwright()).chromium.launch(executable_path=str(CHROMIUM), args=FAKE)
        page = browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        home = f"http://127.0.0.1:{listener.getsockname()[1]}"
        page.goto(f"{home}/camera#name=phone&token={phone.token}&every=0.2")
        assert phone.token not in page.url, "the token does not stay in the address"
        page.get_by_role("button", name="Start").click()
        api.expect(page.get_by_role("status")).to_have_text("crack (90 %)", timeout=20_000)
        api.expect(page.locator("#counts")).to_have_text(re.compile(r"^([2-9]|\d\d+) sent, 0 refused$"), timeout=20_000)
        page.get_by_role("button", name="Stop").click()
        page.get_by_label("Token").fill("wrong")
        assert complaints == []
        page.get_by_role("button", name="Start").click()
        api.expect(page.get_by_role("status")).to_contain_text("no push source 'phone' with this token", timeout=20_000)
        browser.close()


@contextlib.contextmanager
def phones(tmp_path: Path, door: PushDoor, capsys: pytest.CaptureFixture[str]) -> Iterator[httpx.Client]:
    """The door over TLS, and a client that trusts its authority."""
    world = TlsWorld(tmp_path)
    world.server()  # writes the certificate that we use here
    file = str(tmp_path / "server.pem")
    config = PhoneDoor(host="127.0.0.1", port=0, certificate_file=file, key_file=file)
    with phones_served(config, door):
        home = re.search(r"https://127\.0\.0\.1:\d+", capsys.readouterr().out)
        assert home is not None
        trusted = ssl.create_default_context(cadata=pem_of(world.root).decode())
        with httpx.Client(base_url=home[0], verify=trusted, timeout=10) as http:
            yield http


def test_over_the_network_only_frames_are_taken(tmp_path, door, phone, capsys):
    with phones(tmp_path, door, capsys) as http:
        headers = {"authorization": f"Bearer {phone.token}"}
        answer = http.post("/push/phone?wait_s=5", content=b"\xff\xd8\xff a picture", headers=headers)
        assert answer.json()["decision"]["label"] == "crack"
        assert http.get("/camera").status_code == 200
        for path in ("/", "/status", "/metrics", "/v2", "/feedback", "/camera/../status"):
            assert http.get(path).status_code == 404
        assert http.post("/push/phone", content=b"x").status_code == 401


def test_a_door_without_a_certificate_is_not_opened(tmp_path, door):
    config = PhoneDoor(certificate_file=str(tmp_path / "none.pem"), key_file=str(tmp_path / "none.pem"))
    with pytest.raises(NotValid, match="cannot be used"), phones_served(config, door):
        pass


def test_more_requests_than_it_bears_are_told_to_come_again(capsys, tmp_path):
    """Nobody decides here, so that each caller waits for its decision."""
    phone, door = PushSource(PushSpec(name="phone", queue_max=100), clock=MemoryClock(NOW)), PushDoor(may_show=True)
    door.add(phone)
    with phones(tmp_path, door, capsys) as http:
        headers = {"authorization": f"Bearer {phone.token}"}
        codes: list[int] = []

        def ask() -> None:
            codes.append(http.post("/push/phone?wait_s=3", json={"x": 1}, headers=headers).status_code)

        callers = [threading.Thread(target=ask, daemon=True) for _ in range(90)]
        for caller in callers:
            caller.start()
        until(lambda: len(codes) == 90, "all are answered")
        for caller in callers:
            caller.join(5)
    assert set(codes) == {202, 503}
    assert 1 <= codes.count(503) <= 26
