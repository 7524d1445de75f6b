"""The agent on a read-only root with one folder to write; and with no system call that its systemd unit forbids."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from agent_world import site as site
from agent_world import until
from edgewise.edge.agent import enrol, status
from needed import needs_program

WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")
CHANGES = re.compile(
    r"^(mkdir|mkdirat|rename|renameat|renameat2|link|linkat|symlink|symlinkat|unlink|unlinkat|rmdir)\("
)
OPENS = re.compile(r'^(?:openat\(AT_FDCWD(?:<[^>]*>)?, |open\(|creat\()"([^"]*)"')
RUNTIME = ("/dev/", "/proc/", "/sys/", "/memfd:", "pipe:", "socket:")


def command(site) -> list[str]:
    words = [sys.executable, "-m", "edgewise", "edge", "run", "--data-dir", str(site.data)]
    return [*words, "--source", str(site.camera), "--http-port", "0"]


def shoot(site, count: int) -> None:
    for number in range(site.fed, site.fed + count):
        part = site.camera / f"f{number:06d}.row.part"
        part.write_text(f'{{"x": {number % 7 / 7}, "y": 1}}')
        part.rename(site.camera / f"f{number:06d}.row")
    site.fed += count


def agent_of(process: subprocess.Popen, words: list[str]) -> int:
    """The agent's own process id. A tracer is left alone: told to end, it may leave what it traces stopped."""
    traced = Path(words[0]).name == "strace"
    return psutil.Process(process.pid).children()[0].pid if traced else process.pid


def live(site, words: list[str], wait_s: float = 60) -> None:
    """Run it through a first release, decisions, a second release with a trial, and a planned stop."""
    enrol(site.data, site.url, site.token)
    site.assign(site.release(1))
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert "http://" in line, line + (process.stderr.read() if process.poll() is not None else "")
        with httpx.Client(base_url=line.rsplit(" ", 1)[1].strip(), timeout=30) as http:
            until(lambda: http.get("/status").json()["release"] == "parts@1", "no first bundle", wait_s)
            shoot(site, 12)
            until(lambda: http.get("/status").json()["decisions"] == 12, "not all decided", wait_s)
            site.assign(site.release(2), trial_s=0.2)
            until(lambda: http.get("/status").json()["release"] == "parts@2", "no second bundle", wait_s)
            until(lambda: http.get("/status").json()["phase"] == "committed", "not committed", wait_s)
            until(lambda: http.get("/status").json()["backlog"] == 0, "not all sent", wait_s)
        os.kill(agent_of(process, words), signal.SIGTERM)
        _, errors = process.communicate(timeout=wait_s)
        assert "Traceback" not in errors, errors
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert status(site.data)["decisions"] == 12


def test_the_agent_lives_on_a_read_only_root_with_one_folder_to_write(site):
    unshare = needs_program("unshare")
    site.data.mkdir(mode=0o700)
    folder = shlex.quote(str(site.data))
    mounts = f"mount --make-rprivate / && mount --bind {folder} {folder} && mount -o remount,bind,ro /"
    allowed = subprocess.run([unshare, "-m", "sh", "-c", f"{mounts} && ! touch {folder}/../x"], capture_output=True)
    if allowed.returncode:
        pytest.skip("this user may not mount anything")
    live(site, [unshare, "-m", "sh", "-c", f"{mounts} && exec {shlex.join(command(site))}"])


@pytest.fixture(scope="module")
def allowed_calls() -> frozenset[str]:
    """The system calls that the unit's filter lets through, by systemd's own tables."""
    analyze = needs_program("systemd-analyze")

    def members(name: str) -> set[str]:
        shown = subprocess.run([analyze, "syscall-filter", name], capture_output=True, text=True, check=True).stdout
        words = [line.strip() for line in shown.splitlines()[1:] if line.startswith("    ")]
        found: set[str] = set()
        for word in words:
            if word.startswith("@"):
                found |= members(word)
            elif not word.startswith("#"):
                found.add(word)
        return found

    forbidden = members("@privileged") | members("@setuid") | members("@keyring")
    return frozenset(members("@system-service") - forbidden) | {"fchown"}


def test_the_agent_writes_below_its_folder_alone_and_makes_no_forbidden_system_call(site, tmp_path, allowed_calls):
    trace = tmp_path / "trace"
    words = [needs_program("strace"), "-f", "-qq", "-y", "-e", "signal=none", "-o", str(trace), *command(site)]
    live(site, words, wait_s=240)
    folder, outside, calls = str(site.data), set(), set()
    for line in trace.read_text(errors="replace").splitlines():
        call = line.partition(" ")[2].strip()
        name = re.match(r"([a-z0-9_]+)\(", call)
        if name is None or " resumed>" in call:
            continue
        calls.add(name[1])
        if " = -1 " in call:
            continue
        paths = [found[1]] if WRITES.search(call) and (found := OPENS.match(call)) else []
        paths += re.findall(r'"(/[^"]*)"', call) if CHANGES.match(call) else []
        # Compiled Python is a cache that may be missing; on a read-only root it is.
        paths = [path for path in paths if path.startswith("/") and "/__pycache__" not in path]
        outside |= {path for path in paths if not path.startswith((folder, *RUNTIME))}
    assert outside == set()
    assert len(calls) > 50
    assert calls - allowed_calls == set()
    assert Path(folder, "outbox").is_dir()
