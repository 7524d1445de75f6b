"""The supervisor and the footprint: one promise, kept by the real part and the one in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgewise.ports import MemoryFootprint, MemorySupervisor, SystemdSupervisor, SystemFootprint, boot_id
from edgewise.wire import NotValid
from notify_socket import NotifySocket


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("only Linux has abstract sockets")
    other = NotifySocket(tmp_path, abstract=request.param == "abstract")
    yield other
    other.close()


def test_both_parts_tell_the_same_in_one_line_each(systemd):
    memory = MemorySupervisor()
    real = SystemdSupervisor({"NOTIFY_SOCKET": systemd.name})
    for supervisor in (memory, real):
        supervisor.tell(READY="1", STATUS="decides\nwith  parts@3" + "x" * 1000)
    assert systemd.hear() == memory.told[0]
    assert memory.told[0]["STATUS"].startswith("decides with parts@3")
    assert len(memory.told[0]["STATUS"]) == 400


def test_nobody_to_tell_and_a_socket_that_is_gone_are_no_errors(tmp_path):
    for address in ("", "relative", str(tmp_path / "gone"), "@gone", "/" + "x" * 300):
        SystemdSupervisor({"NOTIFY_SOCKET": address}).tell(READY="1")


def test_a_supervisor_that_does_not_read_is_not_waited_for(systemd):
    supervisor = SystemdSupervisor({"NOTIFY_SOCKET": systemd.name})
    for _ in range(5000):
        supervisor.tell(STATUS="x" * 300)


@pytest.mark.parametrize(
    ("environment", "patience"),
    [
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000"}, 3.0),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 3.0),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "3000000"}, None),
    ],
)
def test_the_patience_is_read_where_it_is_meant_for_this_process(environment, patience):
    assert SystemdSupervisor(environment, pid=7).patience_s == patience


def test_a_patience_that_cannot_be_is_refused():
    with pytest.raises(NotValid, match="needs to be above 0"):
        MemorySupervisor(patience_s=0)


@pytest.mark.parametrize("footprint", [MemoryFootprint(40.0), SystemFootprint()])
def test_a_footprint_is_some_megabytes_and_a_process_that_is_gone_holds_nothing(footprint):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    alone = footprint.private_mb()
    assert 1 < alone < 10_000
    assert footprint.private_mb((gone.pid,)) == pytest.approx(alone, abs=2)


def test_the_footprint_sees_memory_that_is_used_and_another_process():
    footprint = SystemFootprint()
    before = footprint.private_mb()
    held = bytearray(os.urandom(30_000_000))
    assert footprint.private_mb() - before > 25  # at least: whatever else runs in this process allocates too
    code = "import sys; held = bytearray(b'x' * 20_000_000); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline()
        assert footprint.private_mb((other.pid,)) - footprint.private_mb() > 18
        other.stdin.close()
    assert len(held) == 30_000_000


def test_the_boot_id_stays_while_the_machine_runs():
    assert boot_id() == boot_id()
    if Path("/proc/sys/kernel/random/boot_id").exists():
        assert len(boot_id()) == 36
