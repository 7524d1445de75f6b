"""A clock that is set by ten years, forward or back, harms neither decisions nor order nor the exactly-once promise."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world import site as site
from agent_world import until
from conftest import missing
from edgewise.edge._counts import Counts, Windows
from edgewise.edge.agent import enrol, status
from edgewise.edge.certificate import Renewal
from edgewise.edge.keep import Credit
from edgewise.edge.update import Phase
from edgewise.frames import Decided
from edgewise.measure import Histogram
from edgewise.ports import Credentials, LinkDown, MemoryClock, SeededChance
from edgewise.sim import Faults, run_fleet
from needed import needs_program

YEARS = timedelta(days=3653)
BOTH_WAYS = pytest.mark.parametrize("change", [YEARS, -YEARS], ids=["forward", "back"])
DECISION = Decided("good", 0.9, None, 0.8, None, "b" * 64)
LATENCY = Histogram()
LATENCY.add(1.0)


def ready(fleet, **more):
    device = fleet.device(**more)
    fleet.assign(fleet.release(1))
    fleet.run(device, 3)
    assert device.updater.running is not None
    return device


@BOTH_WAYS
def test_decisions_order_and_counts_are_unharmed(fleet, change):
    device = ready(fleet)
    for turn in range(6):
        fleet.feed(40)
        assert fleet.run(device, 45) == 40
        fleet.clock.set_by(change if turn % 2 == 0 else -change)
    fleet.run(device, 400)
    assert device.decisions == 240
    device.close(fleet.clock.now())
    numbers = [segment.number for segment in fleet.hub.headers]
    assert numbers == list(range(1, len(numbers) + 1))
    ids = [record["id"] for record in fleet.hub.records]
    assert len(ids) == len(set(ids))
    assert sum(record["decisions"] for record in fleet.stored("telemetry")) == 240
    samples = fleet.stored("sample")
    assert len({record["frame"] for record in samples}) == len(samples) > 0


@BOTH_WAYS
def test_no_window_of_counts_ends_before_it_starts_or_spans_the_jump(fleet, change):
    device = ready(fleet)
    for _ in range(3):
        fleet.feed(40)
        fleet.run(device, 45)
        fleet.clock.set_by(change)
        change = -change
    fleet.run(device, 400)
    windows = [
        datetime.fromisoformat(record["end"]) - datetime.fromisoformat(record["start"])
        for record in fleet.stored("telemetry")
    ]
    assert windows
    assert all(timedelta(0) <= span <= timedelta(hours=1) for span in windows), windows


@BOTH_WAYS
def test_contacts_and_updates_go_on_after_the_clock_was_set(fleet, change):
    device = ready(fleet)
    fleet.run(device, 5)
    fleet.clock.set_by(change)
    before = len(fleet.hub.uploads)
    fleet.run(device, 130)
    assert 1 <= len(fleet.hub.uploads) - before <= 5
    fleet.assign(fleet.release(2))
    fleet.lost = lambda _what: True
    fleet.run(device, 130)  # failures: the pause has grown
    fleet.clock.set_by(-change)
    fleet.lost = lambda _what: False
    fleet.run(device, 1200)
    assert device.updater.running.release == "parts@2"


@BOTH_WAYS
def test_a_trial_lasts_as_long_as_it_should_by_a_clock_that_nobody_can_set(bench, change):
    updater = bench.updater()
    for release, trial_s in ((bench.release(1), 0), (bench.release(2), 60)):
        bench.accept(updater, bench.assign(release, trial_s=trial_s))
        updater.step(bench.link(), bench.clock.now())
    assert updater.phase is Phase.TRIAL
    bench.clock.set_by(change)
    bench.clock.advance(30)
    updater.step(bench.link(), bench.clock.now())
    assert updater.phase is Phase.TRIAL
    bench.clock.advance(31)
    updater.step(bench.link(), bench.clock.now())
    assert updater.phase is Phase.COMMITTED


def test_a_clock_that_is_set_to_and_fro_earns_no_bytes():
    """Each jump begins a new day of `bytes_per_day`; the credit itself is earned by deciding alone."""
    clock, credit = MemoryClock(datetime.fromisoformat("2026-03-01T12:00:00+00:00")), None
    credit = Credit(share_of_bytes=0.1, bytes_per_day=500)
    spent = 0
    for turn in range(200):
        credit = credit.earn(100)
        room = credit.room(clock.now())
        assert 0 <= room <= 500
        credit, spent = credit.spend(room, clock.now()), spent + room
        clock.set_by(YEARS if turn % 2 else -YEARS)
    assert spent <= 0.1 * 200 * 100


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-400_000_000, 400_000_000), min_size=1, max_size=8))
def test_windows_never_have_a_negative_length(moves):
    clock, windows = MemoryClock(datetime.fromisoformat("2026-03-01T12:00:00+00:00")), Windows()
    for move in moves:
        one = Windows()
        one.of((None, None, None, None)).add([DECISION], 1, LATENCY, (clock.now(), clock.now()))
        clock.set_by(timedelta(seconds=move))
        one.of((None, None, None, None)).add([DECISION], 1, LATENCY, (clock.now(), clock.now()))
        windows.merge(one)
    counts = windows.by_key[None, None, None, None]
    assert counts.start <= counts.end
    assert Counts.from_plain(counts.plain()).decisions == 2 * len(moves)


class Files:
    """Credentials whose certificate holds for a week of the hub's time."""

    def __init__(self, start: datetime) -> None:
        self.start = start

    def stamp(self) -> tuple[int, ...]:
        return (1,)

    def validity(self) -> tuple[datetime, datetime]:
        return self.start, self.start + timedelta(days=7)


def test_a_certificate_that_looks_ended_by_a_wrong_clock_is_not_asked_for_without_a_pause():
    clock, asked = MemoryClock(datetime.fromisoformat("2026-03-01T12:00:00+00:00")), []
    renewal = Renewal(
        Files(clock.now()), "https://hub", chance=SeededChance(1), ask=lambda *_a, **_k: asked.append(clock.now())
    )
    clock.set_by(YEARS)
    for _ in range(3600 * 4):
        renewal.step(clock.now())
        clock.advance(1)
    assert 2 <= len(asked) <= 12
    assert "set it" in renewal.error
    clock.set_by(-YEARS)
    assert renewal.step(clock.now()) is False
    clock.advance(7200)
    renewal.step(clock.now())
    assert renewal.error is None


def test_a_failed_renewal_is_tried_again_though_the_clock_went_back():
    clock, tries = MemoryClock(datetime.fromisoformat("2026-03-01T12:00:00+00:00")), []

    def ask(*_values, **_names):
        tries.append(clock.now())
        raise LinkDown("no hub")

    renewal = Renewal(Files(clock.now() - timedelta(days=3700)), "https://hub", chance=SeededChance(1), ask=ask)
    renewal.step(clock.now())
    clock.set_by(-timedelta(days=30))
    renewal.step(clock.now())
    assert len(tries) == 2


@pytest.mark.parametrize("seed", [3])
def test_a_fleet_whose_clocks_are_set_by_years_again_and_again_keeps_all_invariants(seed):
    faults = Faults(lose=0.1, power_cut=0.02, delay_s_max=20, offline=0.1, clock_set=0.1)
    result = run_fleet(seed=seed, devices=3, hours=1.0, faults=faults)
    seen = result.summary()
    assert not result.broken, f"replay: seed {seed}, 3 devices, 1 hour, {faults}: {result.broken}"
    assert seen["records_lost"] == 0 == seen["records_duplicated"]


# -- a real process --------------------------------------------------------------------------------------------------


def start(site, clock_file: Path) -> tuple[subprocess.Popen[str], str]:
    library = Path(needs_program("faketime")).resolve()
    shared = [*Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1")]
    if not shared:
        missing("faketime", f"libfaketimeMT is not beside {library}")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(shared[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock_file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "PYTHONUNBUFFERED": "1",
    }
    words = [sys.executable, "-m", "edgewise", "edge", "run", "--data-dir", str(site.data)]
    process = subprocess.Popen(
        [*words, "--source", str(site.camera), "--http-port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    line = process.stdout.readline()
    assert "http://" in line, line + (process.stderr.read() if process.poll() is not None else "")
    return process, line.rsplit(" ", 1)[1].strip()


def restart(former: subprocess.Popen[str], site, clock_file: Path) -> tuple[subprocess.Popen[str], str]:
    if former.poll() is None:
        former.kill()
    former.communicate()
    return start(site, clock_file)


def stop(process: subprocess.Popen[str]) -> None:
    """Ask it to stop; libfaketime may hold up a timed wait for years once its clock went back."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)


def set_clock(file: Path, change: str) -> None:
    part = file.with_suffix(".part")
    part.write_text(f"{change}\n")
    part.rename(file)


def shoot(site, count: int) -> None:
    for number in range(site.fed, site.fed + count):
        part = site.camera / f"f{number:06d}.row.part"
        part.write_text(f'{{"x": {number % 7 / 7}, "y": 1}}')
        part.rename(site.camera / f"f{number:06d}.row")
    site.fed += count


def test_a_real_agent_whose_clock_is_set_decides_on_waits_with_contacts_and_names_the_clock(site, tmp_path):
    clock_file = tmp_path / "clock"
    set_clock(clock_file, "+0")
    enrol(site.data, site.url, site.token)
    site.assign(site.release(1))
    process, url = start(site, clock_file)
    try:
        with httpx.Client(base_url=url, timeout=10) as http:
            until(lambda: http.get("/readyz").status_code == 200, "no first bundle")
            for turn, change in enumerate(("+0", "+10y", "-10y"), 1):
                set_clock(clock_file, change)
                shoot(site, 10)
                until(lambda: http.get("/status").json()["decisions"] == 10 * turn, "decisions stopped")  # noqa: B023
        stop(process)
        for turn, change in enumerate(("+10y", "-10y"), 4):
            set_clock(clock_file, change)
            process, url = restart(process, site, clock_file)
            with httpx.Client(base_url=url, timeout=10) as http:
                shoot(site, 10)
                until(lambda: http.get("/status").json()["decisions"] == 10 * turn, "decisions stopped")  # noqa: B023
                until(lambda: "clock" in (http.get("/status").json()["contact"]["error"] or ""), "clock not named")
        with httpx.Client(base_url=url, timeout=10) as http:
            assert "set the clock" in str(http.get("/status").json()["story"])
            set_clock(clock_file, "+0")
            until(lambda: http.get("/status").json()["contact"]["error"] is None, "contacts did not come back", 40)
            until(lambda: http.get("/status").json()["period_frames"] == 0, "the period did not end")
            until(lambda: http.get("/status").json()["backlog"] == 0, "not all sent", 30)
        stop(process)
    finally:
        process.kill()
        process.communicate()
    assert status(site.data)["decisions"] == 50
    ids = [record["id"] for record in site.hub.records]
    assert len(ids) == len(set(ids))
    assert sum(record["decisions"] for record in site.stored("telemetry")) <= 50
    assert Credentials(site.data).validity()
