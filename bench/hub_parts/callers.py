"""Devices as a hub's load: uploads in bytes, sent over TLS with certificates, by few objects of their own."""

from __future__ import annotations

import base64
import http.client
import secrets
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

import numpy as np

from edgewise._zstd import zstd
from edgewise.delta import Column, encode_series
from edgewise.ports import Credentials
from edgewise.wire import (
    MEDIA_TYPE,
    AnyRecord,
    Readings,
    Receipt,
    Report,
    SegmentHeader,
    UploadHeader,
    decode,
    digest,
    encode,
    pack_upload,
)

CONTACT = "/api/v1/contact"


@dataclass(kw_only=True)
class Caller:
    """One device that calls."""

    name: str
    url: str
    credentials: Credentials
    epoch: str = field(default_factory=lambda: secrets.token_hex(16))
    number: int = 0
    acked: int = 0

    def __post_init__(self) -> None:
        place = urlsplit(self.url)
        self._host, self._port = place.hostname or "", place.port or 0
        self._context = self.credentials.context()
        self._line = self._connect()

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, context=self._context, timeout=60)

    @property
    def context(self) -> ssl.SSLContext:
        return self._context

    def quiet(self) -> bytes:
        """An upload with nothing new but the counts of a report."""
        return self._upload([], [])

    def with_readings(self, count: int) -> bytes:
        """An upload with one segment of so many readings of one channel."""
        times = int(time.time() * 1000) - count * 1000 + np.arange(count) * 1000
        values = np.round(20 + np.cumsum(np.random.default_rng(self.number).normal(0, 0.1, count)), 2)
        block = encode_series([Column(channel=0, times_ms=times, values=values)])
        end = datetime.fromtimestamp(int(times[-1]) / 1000, UTC)
        record = Readings(id=secrets.token_hex(16), site="north", end=end, channels=("temperature",), count=count,
                          block=base64.b64encode(block).decode())  # fmt: skip
        return self._sealed([record])

    def _sealed(self, records: list[AnyRecord]) -> bytes:
        payload = zstd.compress(b"\n".join(encode(record) for record in records))
        self.number += 1
        header = SegmentHeader(number=self.number, sha256=digest(payload), size_bytes=len(payload),
                               record_class="telemetry", count=len(records), policy_version=1, transform="none",
                               sealed_at=datetime.now(UTC))  # fmt: skip
        return self._upload([header], [payload])

    def _upload(self, segments: list[SegmentHeader], payloads: list[bytes]) -> bytes:
        now = datetime.now(UTC)
        report = Report(at=now, phase="idle", facts={"cpu": "x86", "load": round(time.time() % 1, 2)}, version="1")
        header = UploadHeader(device=self.name, epoch=self.epoch, acked=self.acked, sent_at=now, report=report,
                              segments=tuple(segments))  # fmt: skip
        return pack_upload(header, payloads)

    def send(self, body: bytes, *, anew: bool = False) -> Receipt:
        """The hub's receipt, on the connection that stands or on a new one."""
        if anew:
            self._line.close()
            self._line = self._connect()
        self._line.request("POST", CONTACT, body, {"Content-Type": MEDIA_TYPE})
        answer = self._line.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the hub answered {answer.status}: {data[:300].decode(errors='replace')}")
        receipt = decode(Receipt, data)
        if receipt.refused:  # refusing is other work than storing, and must not be measured instead
            raise RuntimeError(f"the hub refused a segment: {receipt.refused[0].text}")
        self.acked = receipt.watermark
        return receipt

    def put(self, data: bytes) -> None:
        """A blob, whole, as a device sends one."""
        self._line.request("PATCH", f"/api/v1/blobs/{digest(data)}", data, {
            "Upload-Offset": "0", "Upload-Length": str(len(data)), "Content-Type": "application/octet-stream",
        })  # fmt: skip
        answer = self._line.getresponse()
        text = answer.read()
        if answer.status not in (200, 201, 204):
            raise RuntimeError(f"the hub answered {answer.status}: {text[:300].decode(errors='replace')}")


def in_turn(callers: list[Caller]) -> Iterator[Caller]:
    """The callers, over and over."""
    while True:
        yield from callers
