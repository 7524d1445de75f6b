"""A load on a running hub, from outside: enrolled devices, a planned rate, and a ledger that the hub cannot touch.

Contacts are planned ahead and each is timed from when it was planned, not from when a client came to send it: a hub
that stalls is measured as stalling (Tene, *How NOT to Measure Latency*, 2015: "coordinated omission").
At the end the hub is asked for everything that it holds of these devices and compared with what it acknowledged.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgewise.ports import Credentials, HubApi, first_certificate, pin_root
from edgewise.sim._load_client import CHANNEL, Answered, LoadClient
from edgewise.sim._load_ledger import Ledger, Written
from edgewise.wire import EdgewiseError, NotNow, NotValid

USE_CASE = "load"
SITE = "load"
TEXT = f"""
name: {USE_CASE}
app: factory
outcome: {{goal: load for a hub, labels: [good, bad], good_labels: [good]}}
people: {{owner: load, approver: load, oversight: nobody acts on these decisions}}
sites: [{{name: {SITE}}}]
connectivity: {{contact_s: 60}}
data: {{telemetry: [{CHANNEL}]}}
"""
# What a contact brings, by its share. Most of what a fleet sends is readings and counts.
MIX = {"readings": 0.5, "telemetry": 0.2, "quiet": 0.2, "sample": 0.1}
SAMPLE_BYTES = 50_000
PAUSE_S = 0.2  # after a failure, doubled each time, where the hub names no time
PAUSE_S_MAX = 5.0
THREADS_MAX = 64
PAGE = 5000
DEVICES_MAX, RATE_MAX, SECONDS_MAX = 100_000, 100_000.0, 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadPlan:
    """What is sent.

    Attributes:
        devices: how many call.
        rate: contacts a second, all together.
        seconds: for how long.
        readings: of one contact that brings readings.
        reconnect: share of contacts on a new connection.
        lose: share of contacts whose reply is lost, so that the same comes again.
        drain_s: how long after the end it is tried to have everything acknowledged.
        seed: of what comes when.
    Raises:
        NotValid: a number is out of its bounds.
    """

    devices: int = 20
    rate: float = 20
    seconds: float = 10
    readings: int = 100
    reconnect: float = 0.1
    lose: float = 0.02
    drain_s: float = 30
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = {
            "devices": (1, DEVICES_MAX),
            "rate": (0.01, RATE_MAX),
            "seconds": (0.1, SECONDS_MAX),
            "readings": (1, 10_000),
            "reconnect": (0, 1),
            "lose": (0, 0.9),
            "drain_s": (0, 3600),
        }
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise NotValid(f"{name} is {value:g}, needs {least:g} to {most:g}", code="load_plan")


@dataclass(kw_only=True)
class LoadResult:
    """What came of it.

    Attributes:
        late_ms: of each contact that was answered, from when it was planned to the receipt.
        lost: records that the hub acknowledged and does not hold.
        doubled: records that it holds twice.
        strange: records that it holds and no device sent.
        gaps: answers by which the hub had less than it had acknowledged.
        waiting: segments that nobody acknowledged to the end.
        told: what the hub said instead of a receipt, by its kind.
    """

    seconds: float = 0.0
    contacts: int = 0
    readings: int = 0
    segments: int = 0
    sample_bytes: int = 0
    reconnects: int = 0
    replies_lost: int = 0
    lost: int = 0
    doubled: int = 0
    strange: int = 0
    gaps: int = 0
    waiting: int = 0
    late_ms: list[float] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.doubled or self.strange or self.gaps)

    def summary(self) -> dict[str, Any]:
        """The numbers for people and programs; latencies in milliseconds."""
        late = np.array(self.late_ms or [0.0])
        shares = {f"late_ms_p{share:g}": round(float(np.percentile(late, share)), 1) for share in (50, 90, 99, 100)}
        names = ("contacts", "segments", "readings", "sample_bytes", "reconnects", "replies_lost")
        ends = ("lost", "doubled", "strange", "gaps", "waiting")
        return {
            "seconds": round(self.seconds, 1),
            **{name: getattr(self, name) for name in names},
            "contacts_per_s": round(self.contacts / max(self.seconds, 1e-9), 1),
            "readings_per_s": round(self.readings / max(self.seconds, 1e-9)),
            **shares,
            "told": dict(sorted(self.told.items())),
            **{name: getattr(self, name) for name in ends},
        }


def run_load(
    api: HubApi,
    device_url: str,
    folder: Path,
    plan: LoadPlan,
    *,
    progress: Callable[[str, float], None] = lambda _what, _share: None,
) -> LoadResult:
    """Put the planned load on a hub and compare what it holds with what it acknowledged.

    Args:
        api: the hub as an administrator; the use case `load` is made there if it is missing.
        device_url: where devices reach it.
        folder: of keys and the ledger; a folder that was used before goes on where that load ended or was killed.
    Raises:
        NotValid: the folder is of another hub. NotNow: the hub does not answer at the beginning or the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder / "ledger.db", device_url)
    clients: list[LoadClient] = []
    try:
        clients = _clients(api, device_url, folder, ledger, plan, progress)
        result = LoadResult()
        _Load(clients, ledger, plan, result).run(progress)
        _compare(api, clients, ledger, result, progress)
    finally:
        for client in clients:
            client.hang_up()
        ledger.close()
    return result


def _clients(
    api: HubApi,
    url: str,
    folder: Path,
    ledger: Ledger,
    plan: LoadPlan,
    progress: Callable[[str, float], None],
) -> list[LoadClient]:
    """Enrol what is not enrolled yet, as devices do."""
    api.post("/usecases", content=TEXT.encode(), media_type="application/yaml")
    held = ledger.devices()
    for at in range(len(held), plan.devices):
        progress("devices enrol", at / plan.devices)
        name = f"load-{secrets.token_hex(4)}-{at:05d}"
        token = api.post("/enrolment-tokens", {"site": SITE, "use_case": USE_CASE, "device": name})["token"]
        secret, _, fingerprint = token.rpartition(".")
        credentials = Credentials(folder / name)
        credentials.folder.mkdir()
        pin_root(credentials, url, fingerprint)
        first_certificate(credentials, url, secret, wish=name)
        ledger.add_device(name, secrets.token_hex(16))
    clients = []
    for name, epoch in list(ledger.devices().items())[: plan.devices]:
        number, acked = ledger.newest(name)
        held_by = Credentials(folder / name)
        client = LoadClient(name=name, site=SITE, url=url, credentials=held_by, epoch=epoch, number=number, acked=acked)
        clients.append(client)
    return clients


class _Load:
    """Threads that each have some of the devices and their part of the plan."""

    def __init__(self, clients: Sequence[LoadClient], ledger: Ledger, plan: LoadPlan, result: LoadResult) -> None:
        self._clients = clients
        self._ledger = ledger
        self._plan = plan
        self._result = result
        self._lock = threading.Lock()
        self._planned = 0
        self._errors: list[BaseException] = []

    def run(self, progress: Callable[[str, float], None]) -> None:
        count = min(THREADS_MAX, len(self._clients))
        self._began = time.monotonic()
        threads = [threading.Thread(target=self._work, args=(at, count), daemon=True) for at in range(count)]
        for thread in threads:
            thread.start()
        end = self._began + self._plan.seconds
        while (now := time.monotonic()) < end and any(thread.is_alive() for thread in threads):
            progress("the load runs", (now - self._began) / self._plan.seconds)
            time.sleep(min(0.2, end - now))
        for thread in threads:
            thread.join(self._plan.seconds + self._plan.drain_s + 2 * 60)
        self._result.seconds = min(self._plan.seconds, time.monotonic() - self._began)
        if self._errors:
            raise self._errors[0]

    def _work(self, at: int, count: int) -> None:
        plan, chance = self._plan, random.Random(f"{self._plan.seed}/{at}")
        mine = self._clients[at::count]
        pace_s = count / plan.rate
        planned = self._began + pace_s * chance.random()
        turn = 0
        try:
            while planned < self._began + plan.seconds:
                time.sleep(max(0.0, planned - time.monotonic()))
                self._contact(mine[turn % len(mine)], chance, planned)
                turn, planned = turn + 1, planned + pace_s * chance.uniform(0.5, 1.5)
            self._drain(mine, chance)
        except BaseException as error:
            self._errors.append(error)

    def _contact(self, client: LoadClient, chance: random.Random, planned: float) -> None:
        """One planned contact: what waits first, else something new; a failure costs the device a pause."""
        if chance.random() < self._plan.reconnect:
            client.hang_up()
            self._count(reconnects=1)
        waiting = self._ledger.waiting(client.name)
        kind = "again" if waiting else chance.choices(list(MIX), list(MIX.values()))[0]
        try:
            segments = waiting[:8] or self._new(client, kind, chance)
            if self._send(client, segments, lose_reply=chance.random() < self._plan.lose):
                readings = self._plan.readings if kind == "readings" else 0
                self._count(contacts=1, readings=readings, late_ms=(time.monotonic() - planned) * 1000)
        except NotNow as error:
            self._count(told=error.code)
            time.sleep(min(PAUSE_S_MAX, error.retry_s or PAUSE_S * (1 + chance.random())))
        except Answered as error:
            self._count(told=f"http_{error.status}", gaps=int(error.status == 409))

    def _new(self, client: LoadClient, kind: str, chance: random.Random) -> list[Written]:
        if kind == "quiet":
            return []
        if kind == "sample":
            content = chance.randbytes(SAMPLE_BYTES)
            client.put(content)  # the content first: a segment that names a missing one is not taken
            self._count(sample_bytes=len(content))
            segment = client.sample(content)
        else:
            segment = client.readings(self._plan.readings) if kind == "readings" else client.telemetry()
        self._ledger.write(client.name, segment)
        return [segment]

    def _send(self, client: LoadClient, segments: Sequence[Written], *, lose_reply: bool = False) -> bool:
        receipt = client.send(client.upload(*segments), lose_reply=lose_reply)
        if receipt is None:
            self._count(replies_lost=1)
            return False
        if receipt.refused:
            self._count(told=f"refused_{receipt.refused[0].code}")
        last = segments[-1].number if segments else receipt.watermark
        if receipt.watermark < (segments[0].number - 1 if segments else client.number):
            self._count(gaps=1)
        self._ledger.acknowledge(client.name, receipt.watermark)
        self._count(segments=sum(one.number <= receipt.watermark for one in segments))
        return receipt.watermark >= last

    def _drain(self, mine: Sequence[LoadClient], chance: random.Random) -> None:
        """After the end, have the rest acknowledged, for a bounded time."""
        until, pause_s = self._began + self._plan.seconds + self._plan.drain_s, PAUSE_S
        left = [client for client in mine if self._ledger.waiting(client.name)]
        while left and time.monotonic() < until:
            for client in list(left):
                try:
                    self._send(client, self._ledger.waiting(client.name)[:8])
                except (NotNow, Answered) as error:
                    self._count(told=error.code if isinstance(error, NotNow) else f"http_{error.status}")
                    time.sleep(pause_s * (0.5 + chance.random()))
                    pause_s = min(PAUSE_S_MAX, 2 * pause_s)
                if not self._ledger.waiting(client.name):
                    left.remove(client)
        self._count(waiting=sum(len(self._ledger.waiting(client.name)) for client in left))

    def _count(self, *, told: str | None = None, late_ms: float | None = None, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                setattr(self._result, name, getattr(self._result, name) + number)
            if told is not None:
                self._result.told[told] += 1
            if late_ms is not None:
                self._result.late_ms.append(late_ms)


def _compare(
    api: HubApi,
    clients: Sequence[LoadClient],
    ledger: Ledger,
    result: LoadResult,
    progress: Callable[[str, float], None],
) -> None:
    """Ask the hub for every record of these devices."""
    for at, client in enumerate(clients):
        progress("the hub is asked what it holds", at / len(clients))
        held: list[str] = []
        while page := api.get(f"/devices/{client.name}/records", after=held[-1] if held else "", limit=PAGE):
            held += page
        counts = Counter(held)
        result.lost += len(ledger.ids(client.name, acked=True) - counts.keys())
        result.strange += len(counts.keys() - ledger.ids(client.name, acked=False))
        result.doubled += sum(number > 1 for number in counts.values())


def refuse_broken(result: LoadResult) -> None:
    """Nothing where every promise was kept.

    Raises:
        EdgewiseError: one was not; the text has the numbers.
    """
    if not result.holds:
        kept = f"{result.lost} records lost, {result.doubled} doubled, {result.strange} strange, {result.gaps} gaps"
        raise EdgewiseError(f"the hub broke its promise: {kept}", code="load_broken")
