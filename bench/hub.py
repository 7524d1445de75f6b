"""What a contact, a reading and a sample cost the hub: `make bench NAME=hub`.

A hub process on SQLite, then on PostgreSQL (where one answers), with everything on: certificates, policy, audit.
Devices are real ones to it: enrolled, over TLS 1.3 with their certificates. Processor time is the hub process's own, by
the scheduler's count, all threads; callers are threads of this one and not counted. Every cell is a median over rounds,
with the least and the most. Exit code 1 if a figure that is needed is missed.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from edge_parts.measure import cpu_ns, pss_mb
from hub_parts.yard import Served, served

from edgewise.sim._load_client import LoadClient

NEEDED = {
    "quiet contact, kept connection, µs": (200, "most"),
    "quiet contact, new connection, µs": (600, "most"),
    "readings a core and second, 100 a contact": (150_000, "least"),
    "ack p99, ms": (150, "most"),
    "samples, MB/s": (150, "least"),
}
Rows = dict[str, list[float]]


def contacts(callers: list[LoadClient], hub: Served, count: int, *, anew: bool) -> float:
    """Processor time of the hub for one quiet contact, µs."""
    for caller in callers:
        for _ in range(3):  # after the first ones the hub knows the device
            caller.send(caller.upload())
    bodies = [(caller, caller.upload()) for caller in callers for _ in range(count // len(callers))]
    before = cpu_ns(hub.pid)
    for caller, body in bodies:
        if anew:
            caller.hang_up()
        caller.send(body)
    return (cpu_ns(hub.pid) - before) / len(bodies) / 1000


def readings(callers: list[LoadClient], hub: Served, count: int, each: int) -> tuple[float, float, float]:
    """Readings for a second of the hub's processor, readings a second by the clock, and the p99 of an ack in ms.

    All callers send at once, each on its own connection, so that commits can be shared.
    """
    waits: list[float] = []

    def send_all(caller: LoadClient) -> None:
        for _ in range(count):
            body = caller.upload(caller.readings(each))
            started = time.perf_counter()
            receipt = caller.send(body)
            waits.append(time.perf_counter() - started)
            if receipt is None or receipt.refused:  # refusing is other work than storing, and must not be measured
                raise RuntimeError(f"the hub refused a segment: {receipt}")

    threads = [threading.Thread(target=send_all, args=(caller,)) for caller in callers]
    before, started = cpu_ns(hub.pid), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent, total = cpu_ns(hub.pid) - before, len(waits) * each
    p99 = statistics.quantiles(waits, n=100)[98] * 1000
    return total / (spent / 1e9), total / (time.perf_counter() - started), p99


def samples(callers: list[LoadClient], count: int, size_bytes: int) -> float:
    """Megabytes a second of samples by the clock, from all callers at once: each is synced to the disk."""
    blobs = [[secrets.token_bytes(size_bytes) for _ in range(max(1, count // len(callers)))] for _ in callers]

    def put_all(caller: LoadClient, mine: list[bytes]) -> None:
        for blob in mine:
            caller.put(blob)

    threads = [threading.Thread(target=put_all, args=pair) for pair in zip(callers, blobs, strict=True)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(map(len, blobs)) * size_bytes / 1e6 / (time.perf_counter() - started)


def measured(folder: Path, options: argparse.Namespace, database_url: str) -> Rows:
    """All figures of one storage, a value for each round."""
    names = [f"device-{number}" for number in range(options.devices)]
    rows: Rows = {name: [] for name in (*NEEDED, "readings a second by the clock", "memory of the hub, MB")}
    with served(folder / "hub", names, database_url=database_url) as hub:
        callers = [
            LoadClient(name=name, site="north", url=hub.device_url, credentials=hub.enrol(name, folder / "devices"))
            for name in names
        ]
        for _ in range(options.rounds):
            rows["quiet contact, kept connection, µs"].append(contacts(callers, hub, options.contacts, anew=False))
            rows["quiet contact, new connection, µs"].append(contacts(callers, hub, options.contacts // 4, anew=True))
            a_core, a_second, p99 = readings(callers, hub, options.uploads, 100)
            rows["readings a core and second, 100 a contact"].append(a_core)
            rows["readings a second by the clock"].append(a_second)
            rows["ack p99, ms"].append(p99)
            rows["samples, MB/s"].append(samples(callers, options.samples, 200_000))
            rows["memory of the hub, MB"].append(pss_mb(hub.pid))
    return rows


@contextmanager
def database(server: str) -> Iterator[str | None]:
    """A new database on the server, None where it does not answer."""
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 2})
    name = f"edgewise_bench_{secrets.token_hex(4)}"
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    except sa.exc.OperationalError:
        yield None
        return
    try:
        yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        engine.dispose()


def table(found: dict[str, Rows]) -> list[str]:
    """The figures as Markdown: median (least to most)."""
    stores = list(found)
    lines = ["| figure | needed | " + " | ".join(stores) + " |", "|---|---|" + "---|" * len(stores)]
    for name in next(iter(found.values())):
        bound, word = NEEDED.get(name, (None, ""))
        cells = [_cell(found[store][name]) for store in stores]
        lines.append(f"| {name} | {'–' if bound is None else f'at {word} {bound:,}'} | " + " | ".join(cells) + " |")
    return lines


def _cell(values: list[float]) -> str:
    digits: Callable[[float], str] = (lambda one: f"{one:,.0f}") if max(values) >= 10 else (lambda one: f"{one:.1f}")
    return f"{digits(statistics.median(values))} ({digits(min(values))} to {digits(max(values))})"


def missed(found: dict[str, Rows]) -> list[str]:
    """A sentence for each figure that is missed."""
    told = []
    for store, rows in found.items():
        for name, (bound, word) in NEEDED.items():
            value = statistics.median(rows[name])
            if value > bound if word == "most" else value < bound:
                told.append(f"{store}: {name}: {value:,.0f}, needed at {word} {bound:,}")
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--devices", type=int, default=48)
    parser.add_argument("--contacts", type=int, default=800)
    parser.add_argument("--uploads", type=int, default=40, help="of each device, with 100 readings each")
    parser.add_argument("--samples", type=int, default=192, help="of 200 kB")
    parser.add_argument("--postgres", default="postgresql+psycopg://root@127.0.0.1:5432/postgres")
    parser.add_argument("--out", type=Path, help="a JSON file for every figure")
    options = parser.parse_args()
    found: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory() as folder:
        found["SQLite"] = measured(Path(folder) / "sqlite", options, "")
        with database(options.postgres) as url:
            if url is not None:
                found["PostgreSQL"] = measured(Path(folder) / "postgres", options, url)
    told: dict[str, Any] = {"figures": found, "missed": missed(found)}
    if options.out:
        options.out.write_text(json.dumps(told, indent=1))
    sys.stdout.write("\n".join([*table(found), "", *(f"- missed: {one}" for one in told["missed"])]) + "\n")
    return 1 if told["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
