"""Operating-system processes of one edgewise installation on one machine: started, watched, stopped in order."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from edgewise.wire import EdgewiseError, NotNow

START_S_MAX = 60.0
STOP_S_MAX = 10.0
POLL_S = 0.02


class Process:
    """One ``edgewise`` command as a process of its own, its output in a log file.

    Args:
        name: for people and the log's name.
        arguments: what follows ``edgewise`` on the command line.
        log: file that collects standard output and error.
        environment: added to this process's own.
    """

    def __init__(self, name: str, arguments: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self._arguments = arguments
        self._log = log
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._read_from = 0

    @property
    def pid(self) -> int:
        if self._process is None:
            raise NotNow(f"{self.name} was not started yet")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs (or was never started)."""
        return self._process.poll() if self._process else None

    def start(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._read_from = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edgewise", *self._arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self._environment, "PYTHONUNBUFFERED": "1", "TERM": "dumb"},
                # A group of its own, so that Ctrl-C reaches us first and we stop the others in order.
                start_new_session=True,
            )
        return self

    def wait_for(self, pattern: str, *, wait_s_max: float = START_S_MAX) -> re.Match[str]:
        """The first match of the pattern in what this start has printed.

        Raises:
            EdgewiseError: the process ended instead; the message carries its last lines.
            NotNow: nothing matched in time.
        """
        found: list[re.Match[str]] = []

        def looked() -> bool:
            match = re.search(pattern, self.output(), re.MULTILINE)
            found.extend([match] if match else [])
            if match is None and self.exit_code is not None:
                raise EdgewiseError(f"{self.name} ended with exit code {self.exit_code}: {self.last_words()}")
            return match is not None

        wait_until(looked, f"{self.name} did not get ready", wait_s_max=wait_s_max)
        return found[0]

    def output(self) -> str:
        """What this start has printed so far."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            log.seek(self._read_from)
            return log.read().decode(errors="replace")

    def last_words(self, lines: int = 5) -> str:
        return " / ".join(self.output().strip().splitlines()[-lines:]) or "it printed nothing"

    def kill(self) -> None:
        """SIGKILL, as a power cut would; comes back when the process is gone."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if it has not ended in time."""
        if self._process is None or self._process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()


def wait_until(ready: Callable[[], bool], what: str, *, wait_s_max: float, poll_s: float = POLL_S) -> None:
    """Come back when `ready` says so.

    Raises:
        NotNow: it did not within the time; `what` begins the message.
    """
    end = time.monotonic() + wait_s_max
    while not ready():
        if time.monotonic() > end:
            raise NotNow(f"{what} within {wait_s_max:g} s", code="too_slow")
        time.sleep(poll_s)


class Installation:
    """A hub, a worker and a signer on this machine, each a process of its own, under one folder.

    Used as a context manager: it starts them in order and stops them in the reverse one.

    Args:
        folder: holds ``hub``, ``worker``, ``signer`` and ``logs``.
        http_port: of the hub; 0 picks a free one.
        device_port: of the hub, for devices; 0 picks a free one.
        pace_s: seconds between the looks of controllers, worker and signer at their work.
    """

    def __init__(self, folder: Path, *, http_port: int = 0, device_port: int = 0, pace_s: float = 1.0) -> None:
        self.folder = folder
        self._pace = f"{pace_s:g}"
        self._http_port = http_port
        self._device_port = device_port
        self.url = ""
        self.device_url = ""
        self.processes: list[Process] = []
        self._near: list[str] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def hub_dir(self) -> Path:
        return self.folder / "hub"

    @property
    def keys(self) -> Path:
        """Folder of root, targets and release keys; the hub never reads it."""
        return self.folder / "signer"

    @property
    def release_keys(self) -> Path:
        """Folder of the release keys."""
        return self.keys / "release"

    @property
    def console_url(self) -> str:
        return f"{self.url}/?token={self.token('admin')}"

    def token(self, role: str) -> str:
        return (self.hub_dir / "tokens" / f"{role}.token").read_text().strip()

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def start(self, name: str, arguments: list[str]) -> Process:
        """One more process of this installation, stopped with it."""
        process = Process(name, arguments, self.log(name)).start()
        self.processes.append(process)
        return process

    def ended(self) -> str:
        """A sentence about a process that ended by itself; empty while all run."""
        for process in self.processes:
            if process.exit_code is not None:
                return f"{process.name} ended with exit code {process.exit_code}: {process.last_words()}"
        return ""

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.stop()

    def _start(self) -> None:
        hub = [
            "hub",
            "serve",
            "--data-dir",
            str(self.hub_dir),
            "--http-port",
            str(self._http_port),
            "--device-port",
            str(self._device_port),
            "--tick-s",
            self._pace,
        ]
        process = self.start("hub", hub)
        self.url = process.wait_for(r"http://[\d.]+:\d+")[0]
        self.device_url = process.wait_for(r"https://[\d.]+:\d+")[0]
        self._hold_ceremony()
        near = ["--hub", self.url, "--data-dir", str(self.hub_dir), "--poll-s", self._pace]
        keys = ["--keys", str(self.release_keys), "--targets-keys", str(self.keys / "targets")]
        self.start("signer", ["signer", "run", *keys, *near])
        self._near = near
        self.start_worker()

    def start_worker(self) -> None:
        """Start the training worker, where none runs."""
        if not any(process.name == "worker" for process in self.processes):
            self.start("worker", ["learn", "worker", "--work-dir", str(self.folder / "worker"), *self._near])

    def stop_worker(self) -> None:
        """Stop the training worker; orders wait for the next one."""
        for process in [one for one in self.processes if one.name == "worker"]:
            process.stop()
            self.processes.remove(process)

    def _hold_ceremony(self) -> None:
        """Make all offline keys, where there are none yet, and give the hub its first root of trust."""
        ceremony = ["trust", "init", "--keys", str(self.keys), "--hub", self.url, "--data-dir", str(self.hub_dir)]
        Process("trust-init", ceremony, self.log("trust-init")).start().wait_for("the hub has (its|a) root of trust")
