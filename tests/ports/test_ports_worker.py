"""A network in a worker may crash, hang and eat memory: the agent hears of it and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgewise.ports import WorkerLimits, WorkerRuntime
from edgewise.ports._runtime_settings import RuntimeSettings
from edgewise.ports._worker import WorkerSession
from edgewise.ports._worker_process import Restarts
from edgewise.wire import NotNow, NotValid
from networks import obedient_network, picture_network

LIMITS = WorkerLimits(memory_mb_max=200, run_ms_max=400, restarts_per_minute_max=2)
ENDLESS, HUGE, FINE = (1e12, 0), (1, 4000), (3, 1)


def opened(model: bytes | None = None, limits: WorkerLimits = LIMITS) -> WorkerSession:
    session = WorkerRuntime(limits=limits).open(model or obedient_network())
    assert isinstance(session, WorkerSession)
    return session


def ask(session: WorkerSession, turns: float, megabytes: float) -> float:
    return float(session.run(np.array([[turns, megabytes]], np.float32))["scores"][0, 0])


def until(done: Callable[[], bool], what: str, within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def child_of(session: WorkerSession) -> int:
    assert session.pid is not None
    return session.pid


def is_gone(pid: int) -> bool:
    """Ended; a process that nobody has waited for yet still has its name, and nothing else."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize(("wanted", "code"), [(ENDLESS, "too_slow"), (HUGE, "too_much_memory")])
def test_a_network_that_hangs_or_eats_memory_is_ended_and_started_again(wanted, code):
    runtime = WorkerRuntime(limits=LIMITS)
    session = runtime.open(obedient_network())
    assert isinstance(session, WorkerSession)
    assert ask(session, *FINE) == 3
    before = child_of(session)
    with pytest.raises(NotValid) as caught:
        ask(session, *wanted)
    assert caught.value.code == code
    assert is_gone(before)
    assert ask(session, *FINE) == 3
    assert child_of(session) != before
    assert (runtime.counts[code], runtime.counts["restarted"]) == (1, 1)


@pytest.mark.parametrize(("wanted", "code"), [(ENDLESS, "too_slow"), (HUGE, "too_much_memory")])
def test_the_same_holds_for_a_bound_session(wanted, code):
    bound = opened().bind((1, 2))
    bound.input[...] = [wanted]
    with pytest.raises(NotValid) as caught:
        bound.run()
    assert caught.value.code == code
    bound.input[...] = [FINE]
    assert float(bound.run()["scores"][0, 0]) == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_crash_in_a_run_is_one_failed_run(number):
    session = opened(limits=WorkerLimits(run_ms_max=60_000))
    pid, errors = child_of(session), []

    def run() -> None:
        try:
            ask(session, *ENDLESS)
        except NotValid as error:
            errors.append(error.code)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: bool(session._shared.words[3]), "the run never began")
    os.kill(pid, number)
    thread.join(20)
    assert errors == ["worker_died"]
    assert ask(session, *FINE) == 3


def test_a_worker_that_is_stopped_counts_as_too_slow():
    session = opened()
    os.kill(child_of(session), signal.SIGSTOP)
    with pytest.raises(NotValid) as caught:
        ask(session, *FINE)
    assert caught.value.code == "too_slow"
    assert ask(session, *FINE) == 3


def test_a_worker_killed_between_two_frames_costs_no_frame():
    session = opened()
    bound = session.bind((1, 2))
    bound.input[...] = [FINE]
    for _ in range(2):
        pid = child_of(session)
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: is_gone(pid), "the worker does not end")
        assert float(bound.run()["scores"][0, 0]) == 3


def test_restarts_are_bounded_and_beyond_them_it_is_not_now():
    session = opened()
    for _ in range(1 + LIMITS.restarts_per_minute_max):
        with pytest.raises(NotValid):
            ask(session, *HUGE)
    with pytest.raises(NotNow, match="at most 2 times a minute") as caught:
        ask(session, *FINE)
    assert caught.value.code == "too_much_memory"


def test_restarts_are_allowed_again_after_a_minute():
    restarts = Restarts(2)
    assert [restarts.allow(now_s=at) for at in (0, 1, 2, 59, 60, 61, 62)] == [
        True,
        True,
        False,
        False,
        True,
        True,
        False,
    ]
    assert restarts.count == 4


def test_a_network_too_large_for_its_limit_is_refused_at_opening():
    with pytest.raises(NotValid) as caught:
        opened(picture_network(), WorkerLimits(memory_mb_max=0.1))
    assert caught.value.code in ("too_much_memory", "worker_died")


def test_a_tensor_larger_than_the_shared_memory_is_refused_and_the_worker_stays():
    session = opened(picture_network(), WorkerLimits(shared_mb_max=1))
    pid = child_of(session)
    with pytest.raises(NotValid, match="shared_mb_max") as caught:
        session.run(np.zeros((2000, 1, 10, 12), np.float32))
    assert caught.value.code == "tensor_huge"
    assert session.run(np.zeros((2, 1, 10, 12), np.float32))["scores"].shape == (2, 3)
    assert child_of(session) == pid


def test_a_worker_ends_with_its_session_and_outlives_the_thread_that_opened_it():
    sessions: list[WorkerSession] = []
    thread = threading.Thread(target=lambda: sessions.append(opened()))
    thread.start()
    thread.join()
    assert ask(sessions[0], *FINE) == 3
    pid = child_of(sessions[0])
    sessions.clear()
    until(lambda: is_gone(pid), "the worker outlives its session")


def test_workers_die_with_the_agent():
    code = (
        "import sys, time; sys.path.insert(0, 'tests'); from networks import picture_network;"
        "from edgewise.ports import WorkerRuntime; s = WorkerRuntime().open(picture_network());"
        "print(s.pid, flush=True); time.sleep(60)"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root) as agent:
        assert agent.stdout is not None
        pid = int(agent.stdout.readline())
        assert not is_gone(pid)
        agent.kill()
        agent.wait()
        until(lambda: is_gone(pid), "an orphan stays")


def test_a_worker_has_no_secrets_of_its_parent(monkeypatch):
    monkeypatch.setenv("EDGEWISE_TOKEN", "secret")
    session = opened()
    assert b"secret" not in Path(f"/proc/{child_of(session)}/environ").read_bytes()


def test_threads_reach_the_worker():
    session = WorkerSession(picture_network(), RuntimeSettings(threads=2), WorkerLimits())
    threads = len(list(Path(f"/proc/{child_of(session)}/task").iterdir()))
    assert threads >= 2


def test_a_worker_that_is_not_there_in_time_is_not_now_for_the_machine_is_busy():
    with pytest.raises(NotNow) as caught:
        opened(limits=WorkerLimits(start_s_max=0.001))
    assert caught.value.code in ("worker_not_started", "too_slow")
