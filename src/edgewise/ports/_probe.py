"""Short looks outside for a doctor: a disk that keeps what it is given, a hub that is reached step by step."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from edgewise.ports._files import disk_error

HEAD_BYTES_MAX = 8192
PROBE_BYTES = 4096
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL


@dataclass(kw_only=True, slots=True)
class HubProbe:
    """How far a look at the hub came. Each step is None where it was not reached, else empty or what went wrong."""

    tcp: str | None = None
    tls: str | None = None
    http: str | None = None
    status: int | None = None
    hub_at: datetime | None = None  # by the answer's Date header
    seen_at: datetime | None = None  # by this machine's clock, at the same moment


def probe_hub(url: str, context: ssl.SSLContext, *, wait_s: float, ignore_time: bool = False) -> HubProbe:
    """Connect, shake hands, ask for ``/livez``: each told by itself, all within the time given.

    Args:
        url: the hub's address for devices, ``https://host:port``.
        context: the device's credentials; changed where time is ignored.
        ignore_time: believe a certificate of the pinned root that is over, or not yet begun, by this clock. Only to
            read the hub's clock where this one may be wrong; nothing else may be believed then.
        wait_s: of all steps together; a name service that hangs is given up as well.
    """
    probe = HubProbe()
    if ignore_time:
        context.verify_flags = ssl.VerifyFlags(context.verify_flags | NO_CHECK_TIME)
    # A thread, for looking up a name cannot be bounded otherwise. It ends by itself, or with the process.
    work = threading.Thread(target=_look, args=(url, context, wait_s, probe), daemon=True)
    work.start()
    work.join(wait_s)
    if work.is_alive():
        # A step that ended late may write into the record that it was given, so the answer is a copy.
        late = HubProbe(tcp=probe.tcp, tls=probe.tls, http=probe.http)
        for name in ("tcp", "tls", "http"):
            if getattr(late, name) is None:
                setattr(late, name, f"no answer within {wait_s:g} s")
                break
        return late
    return probe


def _look(url: str, context: ssl.SSLContext, wait_s: float, probe: HubProbe) -> None:
    place = urlsplit(url)
    host, port = place.hostname or "", place.port or 443
    try:
        door = socket.create_connection((host, port), timeout=wait_s)
    except OSError as error:
        probe.tcp = error.strerror or str(error) or type(error).__name__
        return
    probe.tcp = ""
    with contextlib.closing(door):
        try:
            safe = context.wrap_socket(door, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            probe.tls = f"the hub's certificate does not hold: {error.verify_message}"
            return
        except OSError as error:
            probe.tls = getattr(error, "reason", None) or str(error) or type(error).__name__
            return
        probe.tls = ""
        with contextlib.closing(safe):
            try:
                _ask(safe, host, probe)
            except (OSError, ValueError) as error:
                probe.http = str(error) or type(error).__name__


def _ask(safe: ssl.SSLSocket, host: str, probe: HubProbe) -> None:
    safe.sendall(f"GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head and len(head) < HEAD_BYTES_MAX:
        piece = safe.recv(4096)
        if not piece:
            break
        head += piece
    first, _, rest = head.decode("latin-1").partition("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():
        raise ValueError(f"not an answer in HTTP: {first[:60]!r}")
    probe.status, probe.http = int(words[1]), ""
    for line in rest.split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "date":
            probe.seen_at = datetime.now(UTC)
            with contextlib.suppress(ValueError, TypeError):
                probe.hub_at = parsedate_to_datetime(value.strip()).astimezone(UTC)


def probe_disk(folder: Path) -> float:
    """Milliseconds that the folder's disk takes to keep 4 KiB.

    Raises:
        NotNow: it does not take them. NotValid: the folder is not there, or cannot be written.
    """
    file = folder / f".probe-{os.getpid()}"
    try:
        began = time.monotonic()
        with file.open("wb") as handle:
            handle.write(bytes(PROBE_BYTES))
            handle.flush()
            os.fsync(handle.fileno())
        return (time.monotonic() - began) * 1000
    except OSError as error:
        raise disk_error(error, folder) from error
    finally:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
