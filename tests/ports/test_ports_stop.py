"""A stop may be asked for from anywhere, most of all from a signal handler."""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from edgewise.ports import Stop


def interrupted_at(step: int, stop: Stop) -> tuple[bool, bool]:
    """Wait, and ask at this instruction of the wait, in its own thread, as a signal handler does.

    Returns:
        whether the instruction was reached, and what a wait says afterwards.
    """
    seen = 0

    def look(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal seen
        frame.f_trace_opcodes = True
        if event == "opcode":
            seen += 1
            if seen == step:
                sys.settrace(None)
                stop.ask()
        return look

    sys.settrace(look)
    try:
        stop.wait(0.0001)
    finally:
        sys.settrace(None)
    return seen >= step, stop.wait(0)


def test_a_wait_may_be_interrupted_at_any_instruction_by_whoever_asks():
    results: list[tuple[bool, bool]] = []

    def all_steps() -> None:
        results.append(interrupted_at(1, Stop()))
        while results[-1][0]:
            results.append(interrupted_at(len(results) + 1, Stop()))

    thread = threading.Thread(target=all_steps, daemon=True)  # one that waits for itself must not hang the tests
    thread.start()
    thread.join(timeout=30)
    assert not thread.is_alive(), f"it waits for itself at instruction {len(results) + 1}"
    assert len(results) > 20
    assert results == [(True, True)] * (len(results) - 1) + [(False, False)]


def test_a_signal_ends_a_wait_without_a_bound():
    stop = Stop()
    before = signal.signal(signal.SIGALRM, lambda *_: stop.ask())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        started_s = time.monotonic()
        assert stop.wait(60)
        assert time.monotonic() - started_s < 30
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_signal_that_the_system_hands_to_another_thread_ends_the_wait_too():
    stop = Stop()
    before = signal.signal(signal.SIGUSR1, lambda *_: stop.ask())

    def later() -> None:
        time.sleep(0.1)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        time.sleep(30)  # alive, so that the signal stays with it

    threading.Thread(target=later, daemon=True).start()
    try:
        started_s = time.monotonic()
        assert stop.wait(60)
        assert time.monotonic() - started_s < 20
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_all_who_wait_hear_it():
    stop, heard = Stop(), []
    threads = [threading.Thread(target=lambda: heard.append(stop.wait(60)), daemon=True) for _ in range(5)]
    for thread in threads:
        thread.start()
    stop.ask()
    stop.ask()
    for thread in threads:
        thread.join(timeout=30)
    assert heard == [True] * 5
    assert stop.wait(60)


def test_a_wait_ends_at_its_bound_when_nobody_asks():
    assert not Stop().wait(0.001)
    assert not Stop().is_asked
