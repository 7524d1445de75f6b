"""The device's own log: bounded, folded, never waited for, and without anything personal."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from agent_world import site as site
from agent_world import until
from edgewise.cli._app import build
from edgewise.edge._device_log import FOLDS_MAX, WAITING_MAX, DeviceLog, log_lines
from edgewise.edge._say import Sayer
from edgewise.edge.agent import Agent, enrol
from edgewise.ports import MemoryClock, MemoryLogFiles, RotatingFiles, SystemClock
from edgewise.wire import DataPolicy, NotNow

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["real", "memory"])
def make_files(request, tmp_path):
    def make(*, bytes_max: int, files_max: int):
        if request.param == "real":
            return RotatingFiles(tmp_path / "log", bytes_max=bytes_max, files_max=files_max)
        return MemoryLogFiles(bytes_max=bytes_max, files_max=files_max)

    return make


# -- the port's promises, of both parts ------------------------------------------------------------------------------


def test_the_newest_lines_are_kept_and_come_back_in_order(make_files):
    files = make_files(bytes_max=100, files_max=3)
    for number in range(100):
        files.append([f"line {number:04d}"])
    kept = files.tail(1000)
    assert kept[-1] == "line 0099"
    assert kept == [f"line {number:04d}" for number in range(100 - len(kept), 100)]
    assert 20 <= len(kept) <= 30
    assert files.tail(2) == ["line 0098", "line 0099"]
    assert files.tail(0) == []


def test_a_line_longer_than_a_file_is_cut_and_one_file_alone_is_bounded_too(make_files):
    files = make_files(bytes_max=50, files_max=1)
    files.append(["x" * 500, "short"])
    assert files.tail(9) == ["short"]
    files.append(["y" * 500])
    assert files.tail(9) == ["y" * 49]


def test_nothing_was_logged_yet(make_files):
    assert make_files(bytes_max=50, files_max=2).tail(9) == []


def test_the_files_never_hold_more_than_their_bound(tmp_path):
    files = RotatingFiles(tmp_path / "log", bytes_max=1000, files_max=3)
    for number in range(500):
        files.append([f"{number} " + "z" * (number % 300)])
        assert sum(file.stat().st_size for file in (tmp_path / "log").iterdir()) <= 3000
    assert {file.name for file in (tmp_path / "log").iterdir()} == {"device.jsonl", "device.1.jsonl", "device.2.jsonl"}
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "log").iterdir())


def test_what_a_power_cut_spoilt_is_left_out(tmp_path):
    files = RotatingFiles(tmp_path, bytes_max=1000, files_max=2)
    files.append(['{"text": "whole"}'])
    with (tmp_path / "device.jsonl").open("ab") as file:
        file.write(b'{"te\n' + bytes(20) + b'\n{"text": "half')
    assert [line["text"] for line in log_lines(files, 9)] == ["whole"]


# -- folding ---------------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self) -> None:
        self.clock = MemoryClock(NOW)
        self.files = MemoryLogFiles(bytes_max=1_000_000, files_max=2)
        self.log = DeviceLog(self.files, self.clock)

    def texts(self) -> list[str]:
        self.log.flush()
        return [json.loads(line)["text"] for line in self.files.tail(100_000)]


def test_a_message_that_comes_all_the_time_is_two_lines_a_minute():
    bench = Bench()
    for _ in range(3 * 60 * 10):
        bench.log.add("source", "the camera is gone")
        bench.clock.advance(0.1)
        bench.log.flush()
    texts = bench.texts()
    assert 4 <= len(texts) <= 7
    assert texts[1].startswith("… 599 times more in 60 s: the camera is gone")
    assert bench.log.counts.folded > 1700


def test_different_messages_are_not_folded_and_equal_ones_after_a_minute_are_told_again():
    bench = Bench()
    bench.log.add("source", "one")
    bench.log.add("record", "one")
    bench.log.add("source", "two")
    bench.clock.advance(61)
    bench.log.flush()
    bench.log.add("source", "one")
    assert bench.texts() == ["one", "one", "two", "one"]


def test_a_stop_tells_what_was_folded():
    bench = Bench()
    for _ in range(3):
        bench.log.add("source", "gone")
    bench.log.flush(final=True)
    assert bench.texts() == ["gone", "… 2 times more in 0 s: gone"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=60))
def test_no_message_is_lost_by_folding(events):
    bench = Bench()
    for text, pause in events:
        bench.log.add("x", text)
        bench.clock.advance(pause)
    bench.log.flush(final=True)
    told = dict.fromkeys("abc", 0)
    for line in map(json.loads, bench.files.tail(1000)):
        told[line["text"][-1]] += line.get("times", 1)
    assert told == {text: sum(one == text for one, _ in events) for text in "abc"}


def test_memory_is_bounded_while_the_disk_is_full_and_what_is_shed_is_counted():
    class Full:
        def append(self, _lines):
            raise NotNow("the disk is full")

        def tail(self, _count):
            return []

    log = DeviceLog(Full(), MemoryClock(NOW))
    for number in range(WAITING_MAX + 500):
        log.add("x", f"message {number}")
        if number % 100 == 0:
            log.flush()
    assert log.counts.shed >= 500
    assert log.counts.error == "the disk is full"
    assert len(log._folds) <= FOLDS_MAX


def test_a_disk_that_hangs_holds_up_nobody_who_logs():
    stuck, go = threading.Event(), threading.Event()

    class Hanging:
        def append(self, _lines):
            stuck.set()
            go.wait(20)

        def tail(self, _count):
            return []

    log = DeviceLog(Hanging(), SystemClock())
    log.add("x", "first")
    writer = threading.Thread(target=log.flush)
    writer.start()
    assert stuck.wait(5)
    for number in range(100):
        log.add("x", f"message {number}")  # would not come back if it waited
    go.set()
    writer.join(5)
    assert log.counts.written == 1


# -- what is in it ---------------------------------------------------------------------------------------------------


def test_a_frames_name_is_logged_only_where_the_policy_allows_it():
    bench = Bench()
    error = ValueError("no column 'Ada'")
    Sayer(DataPolicy(), lambda _line: None, log=bench.log.add).error("record", error)
    assert "Ada" not in bench.texts()[0]


def test_the_agent_logs_its_life_its_updates_and_its_link(fleet):
    device = fleet.device()
    fleet.assign(fleet.release(1))
    files = MemoryLogFiles(bytes_max=100_000, files_max=2)
    agent = Agent(device, clock=SystemClock(), log=DeviceLog(files, SystemClock()))
    thread = threading.Thread(target=agent.run)
    thread.start()
    until(lambda: device.updater.running is not None, "no bundle")
    until(lambda: any("committed" in line for line in files.tail(99)), "the update is not logged")
    agent.stop()
    thread.join(10)
    lines = log_lines(files, 99)
    assert lines[0]["what"] == "agent"
    assert lines[-1]["text"].startswith("stopped: decides with parts@1")
    assert {"agent", "phase"} <= {line["what"] for line in lines}


def test_the_command_prints_the_newest_lines(site):
    enrol(site.data, site.url, site.token)
    files = RotatingFiles(Path(site.data) / "log", bytes_max=1_000_000, files_max=4)
    log = DeviceLog(files, MemoryClock(NOW))
    for number in range(5):
        log.add("contact", f"message {number}")
    log.flush()
    words = ["edge", "logs", "--data-dir", str(site.data), "-n", "2"]
    shown = CliRunner().invoke(build(), words)
    assert shown.output == (
        "2026-03-01T12:00:00.000+00:00  contact: message 3\n2026-03-01T12:00:00.000+00:00  contact: message 4\n"
    )
    values = CliRunner().invoke(build(), [*words, "-o", "json"])
    assert [json.loads(line)["text"] for line in values.output.splitlines()] == ["message 3", "message 4"]
    assert CliRunner().invoke(build(), ["edge", "logs", "--data-dir", "/nowhere"]).exit_code != 0
