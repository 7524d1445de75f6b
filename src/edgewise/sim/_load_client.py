"""One device of a load: real certificates, real uploads, few objects, so that the hub is what is measured."""

from __future__ import annotations

import base64
import http.client
import secrets
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

import numpy as np

from edgewise._zstd import pack
from edgewise.delta import Column, encode_series
from edgewise.ports import Credentials, retry_after_s
from edgewise.sim._load_ledger import Written
from edgewise.wire import (
    MEDIA_TYPE,
    AnyRecord,
    Decision,
    NotNow,
    Readings,
    Receipt,
    Report,
    Sample,
    SegmentHeader,
    Telemetry,
    UploadHeader,
    decode,
    digest,
    encode,
    pack_upload,
)

CONTACT = "/api/v1/contact"
CHANNEL = "temperature"
TIMEOUT_S = 60.0


class Answered(Exception):
    """The hub answered no.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the hub answered {status}: {text}")
        self.status = status


@dataclass(kw_only=True)
class LoadClient:
    """One device that calls.

    Attributes:
        number: of the newest segment that was made.
        acked: the watermark that the hub told last.
        ids: of records, made by chance where nothing else is given.
    """

    name: str
    site: str
    url: str
    credentials: Credentials
    epoch: str = field(default_factory=lambda: secrets.token_hex(16))
    number: int = 0
    acked: int = 0

    def __post_init__(self) -> None:
        place = urlsplit(self.url)
        self._host, self._port = place.hostname or "", place.port or 443
        self._context = self.credentials.context()
        self._line: http.client.HTTPSConnection | None = None

    # -- what it says --------------------------------------------------------------------------------------------------

    def readings(self, count: int) -> Written:
        """A segment with so many readings of one channel, one a second."""
        times = int(time.time() * 1000) - count * 1000 + np.arange(count) * 1000
        steps = np.random.default_rng([self.number, *self.epoch.encode()]).normal(0, 0.1, count)
        values = np.round(20 + np.cumsum(steps), 2)
        block = encode_series([Column(channel=0, times_ms=times, values=values)])
        end = datetime.fromtimestamp(int(times[-1]) / 1000, UTC)
        text = base64.b64encode(block).decode()
        about = {"id": secrets.token_hex(16), "site": self.site, "end": end}
        return self._sealed(Readings(**about, channels=(CHANNEL,), count=count, block=text))

    def telemetry(self) -> Written:
        """A segment with one window of counts."""
        now = datetime.now(UTC)
        return self._sealed(Telemetry(id=secrets.token_hex(16), site=self.site, start=now, end=now, decisions=60))

    def sample(self, content: bytes) -> Written:
        """A segment with one sample, whose content `put` gave to the hub before."""
        now, name = datetime.now(UTC), secrets.token_hex(16)
        decision = Decision(label="good", confidence=0.7, margin=0.4, bundle="0" * 64)
        record = Sample(
            id=name,
            frame=digest(name.encode()),
            site=self.site,
            taken_at=now,
            kept_at=now,
            why="margin",
            inclusion_probability=0.5,
            blob=digest(content),
            size_bytes=len(content),
            media_type="image/png",
            decision=decision,
        )
        return self._sealed(record)

    def _sealed(self, record: AnyRecord) -> Written:
        payload = pack(encode(record))
        self.number += 1
        is_sample = isinstance(record, Sample)
        header = SegmentHeader(
            number=self.number,
            sha256=digest(payload),
            size_bytes=len(payload),
            record_class="sample" if is_sample else "telemetry",
            count=1,
            policy_version=1,
            transform="strip-metadata" if is_sample else "none",
            blobs=(record.blob,) if isinstance(record, Sample) else (),
            sealed_at=datetime.now(UTC),
        )
        return Written(number=self.number, header=encode(header).decode(), payload=payload, ids=(record.id,))

    def upload(self, *segments: Written) -> bytes:
        """The body of a contact that brings these; without any a quiet one."""
        now = datetime.now(UTC)
        report = Report(at=now, phase="idle", facts={"cpu": "load", "load": round(time.time() % 1, 2)}, version="1")
        headers = tuple(decode(SegmentHeader, one.header) for one in segments)
        header = UploadHeader(
            device=self.name, epoch=self.epoch, acked=self.acked, sent_at=now, report=report, segments=headers
        )
        return pack_upload(header, [one.payload for one in segments])

    # -- the link ------------------------------------------------------------------------------------------------------

    def hang_up(self) -> None:
        """The next request is on a new connection."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def send(self, body: bytes, *, lose_reply: bool = False) -> Receipt | None:
        """The hub's receipt; None where the reply was lost on purpose, whatever the hub did.

        Raises:
            NotNow: no answer, or the hub says to come later. Answered: it says no.
        """
        data = self._ask("POST", CONTACT, body, {"Content-Type": MEDIA_TYPE}, lose_reply=lose_reply)
        if data is None:
            return None
        receipt = decode(Receipt, data)
        self.acked = receipt.watermark
        return receipt

    def put(self, content: bytes) -> None:
        """Give the hub a content, whole. Raises as `send`."""
        headers = {"Upload-Offset": "0", "Upload-Length": str(len(content)), "Content-Type": "application/octet-stream"}
        self._ask("PATCH", f"/api/v1/blobs/{digest(content)}", content, headers)

    def _ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str], *, lose_reply: bool = False
    ) -> bytes | None:
        try:
            if self._line is None:
                self._line = http.client.HTTPSConnection(
                    self._host, self._port, context=self._context, timeout=TIMEOUT_S
                )
                self._line.connect()
                self._line.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._line.request(method, path, body, headers)
            if lose_reply:
                self.hang_up()
                return None
            answer = self._line.getresponse()
            data, status = answer.read(), answer.status
        except (OSError, http.client.HTTPException) as error:
            self.hang_up()
            raise NotNow(f"the hub at {self.url} does not answer: {error!r}", code="link_down") from error
        if status in (429, 503):
            raise NotNow(
                f"the hub says {status}", code=f"http_{status}", retry_s=retry_after_s(answer.headers["retry-after"])
            )
        if status >= 300:
            raise Answered(status, data[:300].decode(errors="replace"))
        return data
