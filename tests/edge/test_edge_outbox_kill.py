"""The outbox's writer is killed again and again: nothing promised is lost, nothing comes twice, a start is short."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from edgewise.edge.outbox import Outbox, unpack
from edgewise.ports import SeededChance
from edgewise.wire import SegmentHeader, loads

# Adds records of all classes, some with bytes, seals and acknowledges what a hub in a file has stored; says each
# step on standard output once it is durable, so that whoever kills it knows what it was promised.
WRITER = '''
import json, os, sys, time
from datetime import UTC, datetime
from pathlib import Path
from edgewise.edge.outbox import Entry, Outbox, OutboxLimits, unpack
from edgewise.ports import SystemChance
from edgewise.wire import CLASSES, Decision, Event, Sample, digest, encode, loads

def fork_until_told(orders):
    """A process that has everything imported forks a writer for each line of its input; comes back in the writer."""
    while True:
        order = orders.readline()
        if not order:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            return int(order)
        say("started", pid=pid)
        os.waitpid(pid, 0)
        say("ended")

def say(what, **more):
    sys.stdout.write(json.dumps({"what": what, **more}) + "\\n")
    sys.stdout.flush()

folder = Path(sys.argv[1])
first = fork_until_told(sys.stdin)
began = time.perf_counter()
box = Outbox(folder / "outbox", chance=SystemChance(), limits=OutboxLimits(reserve_bytes=65_536, segment_records_max=6))
box.backlog()
say("ready", s=time.perf_counter() - began)
now, decision = datetime.now(UTC), Decision(label="good", confidence=0.9, margin=0.8, bundle="0" * 64)
hub = folder / "hub.jsonl"

def entry(number):
    name, kind = f"{number:032x}", CLASSES[number % 7]
    if kind in ("sample", "audit_sample"):
        content = name.encode() * 9
        record = Sample(id=name, frame=name, site="a", taken_at=now, kept_at=now, why="margin", decision=decision,
            inclusion_probability=1, blob=digest(content), size_bytes=len(content), media_type="image/png")
        return Entry(record=record, record_class=kind, policy_version=1, transform="strip-metadata", content=content)
    record = Event(id=name, at=now, what="x", text="t")
    return Entry(record=record, record_class=kind, policy_version=1)

def send():
    """What a hub does, durably, before it acknowledges: contiguous numbers, each once."""
    lines = hub.read_bytes().splitlines() if hub.exists() else []
    seen = {}
    for line in lines:
        item = loads(line)
        seen[item["epoch"], item["number"]] = item["sha256"]
    mark = max((number for epoch, number in seen if epoch == box.epoch), default=0)
    with hub.open("ab") as file:
        for segment in box.open_segments():
            if segment.number <= mark:
                assert seen[box.epoch, segment.number] == segment.sha256, "a sealed segment has changed"
                continue
            assert segment.number == mark + 1, "a gap"
            assert all(box.blobs.get(blob) for blob in segment.blobs)
            mark = segment.number
            ids = [loads(line)["id"] for line in unpack(box.payload(mark))]
            line = {"epoch": box.epoch, "number": mark, "sha256": segment.sha256, "ids": ids}
            file.write(json.dumps(line).encode() + b"\\n")
        file.flush()
        os.fsync(file.fileno())
    box.ack(mark)

number = first
while True:
    names = [entry(number + index) for index in range(5)]
    box.add_many(names, {"cursor": str(number).encode()})
    say("added", ids=[item.record.id for item in names])
    number += 5
    if number % 15 == 0:
        box.seal(now)
        send()
'''


@dataclass
class Killed:
    """What a run of kills showed."""

    kills: int = 0
    promised: set[str] = field(default_factory=set)
    starts_s: list[float] = field(default_factory=list)
    lost: int = 0
    twice: int = 0

    def __str__(self) -> str:
        p95 = statistics.quantiles(self.starts_s, n=20)[-1]
        return (
            f"{self.kills} SIGKILLs, {len(self.promised)} records promised, {self.lost} lost, {self.twice} twice; "
            f"outbox ready after {statistics.median(self.starts_s) * 1000:.1f} ms, p95 {p95 * 1000:.1f} ms"
        )


def kill_again_and_again(folder: Path, kills: int, seed: int) -> Killed:
    """Start the writer, kill it at a random moment, start it again; then see what became of what it promised."""
    chance, killed = random.Random(seed), Killed()
    command = [sys.executable, "-c", WRITER, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for number in range(kills):
            process.stdin.write(f"{number * 100_000}\n")
            _kill_one(process.stdout, killed, chance)
        process.stdin.close()
        assert process.stderr.read() == ""
    _judge(folder, killed)
    return killed


def _kill_one(said: IO[str], killed: Killed, chance: random.Random) -> None:
    pid, steps = 0, chance.randint(0, 4)
    for line in iter(said.readline, ""):
        if not line.endswith("}\n"):
            continue  # it was killed in the middle of the word
        word = json.loads(line[line.rindex('{"what"') :])
        match word["what"]:
            case "started":
                pid = word["pid"]
            case "ready":
                killed.starts_s.append(word["s"])
            case "added":
                killed.promised |= set(word["ids"])
                steps -= 1
            case "ended":
                killed.kills += 1
                return
        if steps <= 0 and pid:
            time.sleep(chance.random() * 0.003)  # the moment is what varies; nothing is waited for
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            steps = 1_000_000


def _judge(folder: Path, killed: Killed) -> None:
    hub = folder / "hub.jsonl"
    lines = hub.read_bytes().splitlines() if hub.exists() else []
    stored = [name for line in lines if line.endswith(b"}") for name in loads(line)["ids"]]
    box = Outbox(folder / "outbox", chance=SeededChance(1))
    waiting = {item.id for item in box.made(10_000_000) if item.fate in ("waiting", "sealed")}
    killed.twice = len(stored) - len(set(stored))
    killed.lost = len(killed.promised - set(stored) - waiting)
    for segment in box.open_segments():
        assert isinstance(segment, SegmentHeader)
        assert len(unpack(box.payload(segment.number))) == segment.count
    box.close()


def test_no_promised_record_is_lost_and_none_comes_twice_over_kills(tmp_path):
    killed = kill_again_and_again(tmp_path, kills=200, seed=3)
    assert (killed.lost, killed.twice) == (0, 0), str(killed)
    assert len(killed.promised) > 100, str(killed)


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_no_promised_record_is_lost_and_none_comes_twice_over_ten_thousand_kills(tmp_path):
    killed = kill_again_and_again(tmp_path, kills=10_000, seed=4)
    sys.stdout.write(f"\n{killed}\n")
    assert (killed.lost, killed.twice) == (0, 0), str(killed)
    assert statistics.quantiles(killed.starts_s, n=20)[-1] < 2
