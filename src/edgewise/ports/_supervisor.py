"""The program that started this one and restarts it: told when it is ready, how it does, and that it still turns."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Protocol

from edgewise.wire import NotValid

VALUE_MAX = 400  # characters; a status is one line for a person


class Supervisor(Protocol):
    """Whoever looks after this process."""

    @property
    def patience_s(self) -> float | None:
        """Seconds without a sign of life after which it restarts the process; None: it does not watch."""

    def tell(self, **fields: str) -> None:
        """Tell it, such as ``READY="1"`` or ``STATUS="decides"``. Raises nothing and waits for nothing."""


class SystemdSupervisor:
    """systemd, by the datagram socket that it names in the environment; nobody where it names none.

    Source: sd_notify(3) and sd_watchdog_enabled(3), the documented protocol: lines of NAME=value in one datagram.

    Args:
        environment: holds NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
        pid: of this process; a watchdog that is meant for another one is not ours.

    >>> SystemdSupervisor({}).patience_s is None
    True
    >>> SystemdSupervisor({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "60000000"}).patience_s
    60.0
    """

    def __init__(self, environment: Mapping[str, str] | None = None, *, pid: int | None = None) -> None:
        named = os.environ if environment is None else environment
        self._address = named.get("NOTIFY_SOCKET", "")
        mine = named.get("WATCHDOG_PID", "") in ("", str(os.getpid() if pid is None else pid))
        usec = named.get("WATCHDOG_USEC", "")
        watched = self._address and mine and usec.isdecimal() and int(usec) > 0
        self.patience_s: float | None = int(usec) / 1e6 if watched else None

    def tell(self, **fields: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        lines = "\n".join(f"{name}={_one_line(value)}" for name, value in fields.items())
        address = self._address.replace("@", "\0", 1) if self._address.startswith("@") else self._address
        # A supervisor that is gone, or does not read, must not hold up or end the process that decides.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.setblocking(False)
            door.sendto(lines.encode(), address)


class MemorySupervisor:
    """A supervisor that remembers what it was told.

    >>> supervisor = MemorySupervisor(patience_s=60)
    >>> supervisor.tell(READY="1", STATUS="decides")
    >>> supervisor.told
    [{'READY': '1', 'STATUS': 'decides'}]
    """

    def __init__(self, *, patience_s: float | None = None) -> None:
        if patience_s is not None and patience_s <= 0:
            raise NotValid(f"the patience is {patience_s} s, needs to be above 0", code="patience_invalid")
        self.patience_s = patience_s
        self.told: list[dict[str, str]] = []

    def tell(self, **fields: str) -> None:
        self.told.append({name: _one_line(value) for name, value in fields.items()})


def _one_line(value: str) -> str:
    return " ".join(value.split())[:VALUE_MAX]
