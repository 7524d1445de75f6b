"""The other end of systemd's notification socket, for tests."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path


class NotifySocket:
    """A real datagram socket where systemd would have its own."""

    def __init__(self, folder: Path, *, abstract: bool = False) -> None:
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"\0edgewise-test-{os.getpid()}" if abstract else str(folder / "notify")
        self.door.bind(name)
        self.name = name.replace("\0", "@")
        self.told: list[dict[str, str]] = []

    def close(self) -> None:
        self.door.close()

    def hear(self, wait_s: float = 5.0) -> dict[str, str]:
        """The next message."""
        self.door.settimeout(wait_s)
        message = dict(line.split("=", 1) for line in self.door.recv(4096).decode().splitlines())
        self.told.append(message)
        return message

    def hear_until(self, wanted: Callable[[dict[str, str]], bool], what: str, wait_s_max: float = 20.0) -> None:
        """Listen until a message is the wanted one."""
        end = time.monotonic() + wait_s_max
        while time.monotonic() < end:
            try:
                if wanted(self.hear(1.0)):
                    return
            except TimeoutError:
                continue
        raise AssertionError(f"{what}; heard {self.told[-5:]}")
