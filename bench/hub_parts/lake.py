"""What the lake costs: rows for a second of one core, bytes a row, how soon a row is seen, what a question takes."""

from __future__ import annotations

import base64
import secrets
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from edgewise._zstd import zstd
from edgewise.delta import Column, encode_series
from edgewise.hub import Hub, HubConfig, LocalDoor, enrol, read_usecase, usecases
from edgewise.hub.lake import Asked, ask
from edgewise.sim._keeper import Keeper
from edgewise.trust import CertificateKey
from edgewise.wire import Readings, Report, SegmentHeader, UploadHeader, digest, encode, pack_upload

CHANNELS = ("temperature", "pressure", "current", "speed")
USE_CASE = f"""
name: press
app: factory
outcome: {{goal: find pits, labels: [good, pit], good_labels: [good]}}
people: {{owner: ann, approver: bob, oversight: the line's stop button}}
sites: [{{name: north}}]
data: {{telemetry: [{", ".join(CHANNELS)}]}}
"""


class Pond:
    """A hub in a folder with devices that send readings of four channels through the product's own intake."""

    def __init__(self, folder: Path, devices: int) -> None:
        self.hub = Hub(HubConfig(data_dir=folder))
        now = self.hub.now()
        Keeper(self.hub, b"offline", ["press"], now=now)
        usecases.apply(self.hub.store, read_usecase(USE_CASE), source=USE_CASE, who="bench", now=now)
        self.door = LocalDoor(self.hub)
        self.names = [f"device-{number}" for number in range(devices)]
        self.numbers = dict.fromkeys(self.names, 0)
        about = {"site": "north", "use_case": "press", "who": "bench", "chance": self.hub.chance}
        for name in self.names:
            token = enrol.make_token(self.hub.store, now=now, limits=self.hub.limits, **about)[0]
            key = CertificateKey.generate(name.encode())
            self.door.enrol(enrol.Enrolment(token=token, device=name, public=key.public))

    def send(self, segments: int, each: int) -> int:
        """So many segments of so many readings, turn by turn; comes back with how many readings."""
        for place in range(segments):
            name = self.names[place % len(self.names)]
            self.numbers[name] += 1
            self.door.exchange(name, self._upload(name, self.numbers[name], each))
        return segments * each

    def _upload(self, name: str, number: int, each: int) -> bytes:
        count, now = each // len(CHANNELS), datetime.now(UTC)
        chance = np.random.default_rng([number, self.names.index(name)])
        times = int(now.timestamp() * 1000) - count * 1000 + np.arange(count) * 1000
        columns = [
            Column(channel=place, times_ms=times, values=np.round(20 + np.cumsum(chance.normal(0, 0.1, count)), 2))
            for place in range(len(CHANNELS))
        ]
        end = datetime.fromtimestamp(int(times[-1]) / 1000, UTC)
        block = base64.b64encode(encode_series(columns)).decode()
        record = Readings(
            id=secrets.token_hex(16), site="north", end=end, channels=CHANNELS, count=count * len(CHANNELS), block=block
        )
        payload = zstd.compress(encode(record))
        header = SegmentHeader(
            number=number,
            sha256=digest(payload),
            size_bytes=len(payload),
            record_class="telemetry",
            count=1,
            policy_version=1,
            transform="none",
            sealed_at=now,
        )
        upload = UploadHeader(
            device=name,
            epoch=digest(name.encode())[:32],
            sent_at=now,
            report=Report(at=now, phase="idle"),
            segments=(header,),
        )
        return pack_upload(upload, [payload])


def measured(folder: Path, *, segments: int, each: int, devices: int = 50) -> dict[str, float]:
    """The figures of one size of segments."""
    pond = Pond(folder, devices)
    lake = pond.hub.lake
    assert lake is not None
    pond.send(devices, each)
    lake.commit(pond.hub.now())  # libraries loaded, tables made
    rows = pond.send(segments, each)
    before, started = time.process_time(), time.perf_counter()
    while not lake.commit(pond.hub.now()):
        pass
    spent, took = time.process_time() - before, time.perf_counter() - started
    size = lake._tables["readings"].size()
    assert size.rows == rows + devices * each
    asked = Asked(sql="SELECT device, channel, avg(value), max(read_at) FROM readings GROUP BY ALL")
    waited = []
    for _ in range(3):
        began = time.perf_counter()
        ask(lake, asked)
        waited.append(time.perf_counter() - began)
    pond.hub.close()
    return {
        "rows a core and second": rows / spent,
        "rows a second by the clock": rows / took,
        "bytes a row in the newest files": size.bytes / size.rows,
        "a question over all rows, s": min(waited),
    }


def lag(folder: Path, *, seconds: int = 90) -> float:
    """The longest time from the ack of a reading until its row is in the table, of one sent every second, s."""
    pond = Pond(folder, 1)
    lake = pond.hub.lake
    assert lake is not None
    sent: list[float] = []
    worst, seen, end = 0.0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        pond.send(1, len(CHANNELS))
        sent.append(time.monotonic())
        lake.tick(pond.hub.now())
        table = lake._tables.get("readings")
        count = 0 if table is None else table.size().rows // len(CHANNELS)
        now = time.monotonic()
        worst = max([worst, *(now - at for at in sent[seen:count])])
        seen = count
        time.sleep(max(0.0, timedelta(seconds=1).total_seconds() - (time.monotonic() - sent[-1])))
    pond.hub.close()
    return worst
