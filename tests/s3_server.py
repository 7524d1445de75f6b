"""An S3 API on this machine: moto's server as a process of its own, and small servers that misbehave."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from edgewise.ports import address, listen

START_S_MAX = 60


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """Where it listens; each bucket is made when it is asked for."""

    url: str

    @property
    def options(self) -> dict[str, str]:
        """What a hub is told to reach it."""
        return {
            "endpoint": self.url,
            "access_key_id": "a-key",
            "secret_access_key": "a-secret",
            "region": "us-east-1",
            "virtual_hosted_style_request": "false",
        }

    def make_bucket(self, name: str) -> str:
        """Its URL."""
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")
        with urllib.request.urlopen(request, timeout=30):
            return f"s3://{name}"


@contextmanager
def served() -> Iterator[S3Server]:
    """A server on a free port, until the end of the block."""
    with listen("127.0.0.1", 0) as listener:
        url = address(listener)
    port = url.rpartition(":")[2]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "PYTHONPATH"))}
    process = subprocess.Popen(command, env=environment, **quiet)
    try:
        _await(url, process)
        yield S3Server(url=url)
    finally:
        process.terminate()
        process.wait(30)


def _await(url: str, process: subprocess.Popen[Any]) -> None:
    for _ in range(START_S_MAX * 20):
        assert process.poll() is None, "the S3 server ended at once"
        try:
            with urllib.request.urlopen(f"{url}/moto-api/", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"no S3 server answers at {url} after {START_S_MAX} s")


@contextmanager
def misbehaving(status: int = 200, *, forgets: bool = False) -> Iterator[str]:
    """The address of a bucket that answers everything alike, whatever the conditions of a request say.

    Args:
        status: of every answer.
        forgets: gives back other bytes than were put.
    """
    held: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            held[self.path] = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(b"")

        def do_GET(self) -> None:
            self._answer(b"other bytes" if forgets else held.get(self.path, b""))

        def do_DELETE(self) -> None:
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(status)
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Mon, 02 Mar 2026 00:00:00 GMT")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
