"""Real servers of the field for tests: an MQTT broker, a Modbus machine, a web hook; each its own process or thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from conftest import missing
from edgewise.ports._opencv import opencv

WAIT_S_MAX = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def until(is_so: Callable[[], Any], what: str, wait_s_max: float = WAIT_S_MAX) -> Any:
    """Wait until a question is answered by something true; comes back with the answer."""
    end = time.monotonic() + wait_s_max
    while not (answer := is_so()):
        assert time.monotonic() < end, f"not within {wait_s_max:g} s: {what}"
        time.sleep(0.01)
    return answer


def needs_broker() -> None:
    """Skip the test, or fail it where EDGEWISE_REQUIRE names mosquitto, when there is none."""
    if not Path(Broker.PROGRAM).exists():
        missing("mosquitto", "mosquitto is not installed")


class Broker:
    """mosquitto on a port of its own, which can be stopped and started again on the same port."""

    PROGRAM = shutil.which("mosquitto") or "/usr/sbin/mosquitto"

    def __init__(self, folder: Path, *, lines: tuple[str, ...] = ("allow_anonymous true",)) -> None:
        self.port = free_port()
        self.folder = folder
        self._file = folder / "mosquitto.conf"
        text = [f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/", *lines]
        self._file.write_text("\n".join([*text, ""]))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        # Started as root, mosquitto becomes a user that cannot write here, unless told which user to stay.
        text = self._file.read_text()
        if "user " not in text:
            self._file.write_text(text + "user root\n")
        self._process = subprocess.Popen(
            [self.PROGRAM, "-c", str(self._file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers, "mosquitto listens")
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


class Listener:
    """A plain MQTT client that publishes and remembers what it hears."""

    def __init__(self, port: int, topic: str = "#") -> None:
        import paho.mqtt.client as mqtt

        self.heard: list[tuple[str, bytes, bool]] = []
        ready = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.on_message = lambda _c, _d, message: self.heard.append(
            (message.topic, bytes(message.payload), message.retain)
        )
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe(topic, qos=1)
        assert ready.wait(WAIT_S_MAX)

    def say(self, topic: str, data: bytes | dict[str, Any], *, retain: bool = False) -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.client.publish(topic, body, qos=1, retain=retain).wait_for_publish(WAIT_S_MAX)

    def on(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(data) for name, data, _ in self.heard if name == topic]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()


class Machine:
    """A Modbus TCP server in its own thread. Registers that were not given do not exist."""

    def __init__(
        self, holding: dict[int, list[int]], *, coils: dict[int, list[bool]] | None = None, stubborn: bool = False
    ) -> None:
        from pymodbus.simulator import DataType, SimData, SimDevice

        self.port = free_port()
        self.writes: list[tuple[int, list[int]]] = []
        self._loop = asyncio.new_event_loop()
        self._server: Any = None
        empty = [SimData(60_000, values=0, datatype=DataType.REGISTERS)]

        def register(table: dict[int, list[Any]] | None) -> list[Any]:
            if not table:
                return empty
            return [
                SimData(at, values=[int(value) for value in values], datatype=DataType.REGISTERS)
                for at, values in sorted(table.items())
            ]

        async def acted(_code: int, start: int, address: int, count: int, now: list[int], new: Any) -> None:
            if new is None:
                return
            self.writes.append((address, [int(value) for value in new]))
            if stubborn:  # it takes what is written, and holds what it held
                new[:] = now[address - start : address - start + count]

        bits = [SimData(at, values=values, datatype=DataType.BITS) for at, values in sorted((coils or {}).items())] or [
            SimData(60_000, values=[False] * 16, datatype=DataType.BITS)
        ]
        self._device = SimDevice(id=1, simdata=(bits, bits, register(holding), register(holding)), action=acted)
        self._thread: threading.Thread | None = None

    def start(self) -> Machine:
        from pymodbus.server import ModbusTcpServer

        ready = threading.Event()

        async def serve() -> None:
            self._server = ModbusTcpServer(self._device, address=("127.0.0.1", self.port))
            await self._server.serve_forever(background=True)
            ready.set()
            await self._server.serving

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(serve())

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert ready.wait(WAIT_S_MAX), "the Modbus server did not start"
        return self

    def stop(self) -> None:
        assert self._thread is not None
        asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(WAIT_S_MAX)
        self._thread.join(WAIT_S_MAX)
        self._loop.close()


class Hook:
    """A web server that notes what is posted to it, and answers as told."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []  # the next ones; 200 when there is none left
        this = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                this.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(this.answers.pop(0) if this.answers else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(WAIT_S_MAX)


def film(path: Path, count: int) -> bytes:
    """A film whose frame N is grey of brightness 8 N."""
    import numpy as np

    cv2 = opencv("these tests")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    assert writer.isOpened()
    for number in range(count):
        writer.write(np.full((48, 64, 3), number * 8, np.uint8))
    writer.release()
    return path.read_bytes()


class NetCamera:
    """A camera that sends JPEG after JPEG over HTTP, as many do."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/live.mjpg"
        self.asked: list[str | None] = []
        self._on = threading.Event()
        import numpy as np

        this, cv2 = self, opencv("these tests")
        picture = cv2.imencode(".jpg", np.full((48, 64, 3), 200, np.uint8))[1].tobytes()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                this.asked.append(self.headers.get("authorization"))
                self.send_response(200)
                self.send_header("content-type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    while this._on.is_set():
                        head = f"--frame\r\ncontent-type: image/jpeg\r\ncontent-length: {len(picture)}\r\n\r\n".encode()
                        self.wfile.write(head + picture + b"\r\n")
                        time.sleep(0.02)
                except OSError:
                    pass

            def log_message(self, *_: Any) -> None:
                pass

        self._handler = Handler

    def start(self) -> NetCamera:
        self._on.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        self._on.clear()
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def closing_all() -> Iterator[Callable[[Any], Any]]:
    """Lets go of everything that was handed to it, by ``close`` or ``stop``, newest first."""
    held: list[Any] = []

    def hold(thing: Any) -> Any:
        held.append(thing)
        return thing

    try:
        yield hold
    finally:
        for thing in reversed(held):
            (getattr(thing, "close", None) or thing.stop)()


class OpcUa:
    """An OPC UA server in its own thread, with variables by name in namespace 2."""

    def __init__(self, values: dict[str, Any], *, users: dict[str, str] | None = None) -> None:
        logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
        self.port = free_port()
        self.url = f"opc.tcp://127.0.0.1:{self.port}"
        self._values = values
        self._users = users or {}
        self._loop = asyncio.new_event_loop()
        self._nodes: dict[str, Any] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> OpcUa:
        ready = threading.Event()

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._serve(ready))

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert ready.wait(WAIT_S_MAX), "the OPC UA server did not start"
        return self

    async def _serve(self, ready: threading.Event) -> None:
        from asyncua import Server, ua
        from asyncua.crypto.permission_rules import User, UserRole

        this = self

        class Users:
            def get_user(
                self, _server: Any, username: str | None = None, password: str | None = None, certificate: Any = None
            ) -> User | None:
                del certificate
                known = username is None or this._users.get(username) == password
                return User(role=UserRole.User) if known else None

        self._end = asyncio.Event()
        server = Server(user_manager=Users())
        await server.init()
        server.set_endpoint(self.url)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await server.register_namespace("urn:tests")
        for name, value in self._values.items():
            self._nodes[name] = await server.nodes.objects.add_variable(ua.NodeId(name, index), name, value)
        async with server:
            ready.set()
            await self._end.wait()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:  # sessions of clients that never said good-bye
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def write(self, name: str, value: Any) -> None:
        asyncio.run_coroutine_threadsafe(self._nodes[name].write_value(value), self._loop).result(WAIT_S_MAX)

    def write_bad(self, name: str) -> None:
        """The value is there, but its server says that it is not to be trusted."""
        from asyncua import ua

        bad = ua.DataValue(ua.Variant(1.0), StatusCode=ua.StatusCode(ua.StatusCodes.BadSensorFailure))
        asyncio.run_coroutine_threadsafe(self._nodes[name].write_value(bad), self._loop).result(WAIT_S_MAX)

    def stop(self) -> None:
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(WAIT_S_MAX)
        self._loop.close()
