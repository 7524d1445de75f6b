"""Who sends a request: a signature over its method, path, body and time.

Client certificates take this place where the hub speaks mTLS; then the transport proves the device and this module is
only used where a proxy ends TLS without passing the certificate on.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime

from edgewise.trust._keys import PrivateKey, unbase64, verifies
from edgewise.wire import NotTrusted, NotValid, PublicKey, canonical

SIGNATURE_HEADER = "Edgewise-Signature"
# A device's clock is often wrong by minutes; a replay in this window meets numbered segments and stores nothing twice.
SKEW_S_MAX = 900.0
HEADER_CHARACTERS_MAX = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parts:
    device: str
    sent_at: str  # the exact text that was signed
    signature: str


def sign_request(key: PrivateKey, *, device: str, method: str, path: str, body_digest: str, sent_at: datetime) -> str:
    """The value of the header ``Edgewise-Signature``: device, time and signature, joined by ``;``.

    Args:
        path: path and query exactly as sent, such as ``/api/v1/contact``.
        body_digest: `wire.digest` of the body, of ``b""`` where there is none.
        sent_at: the device's clock; it needs a time zone.
    Raises:
        NotValid: the time has no zone, or the device's name holds a ``;``.
    """
    if sent_at.tzinfo is None or ";" in device or not device:
        raise NotValid(
            f"a request cannot be signed for device {device!r} at {sent_at}; "
            "needs a name without ';' and a time with its zone",
            code="request_invalid",
        )
    when = sent_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    signature = key.sign(_message(device, method, path, body_digest, when))
    return f"{device};{when};{base64.b64encode(signature).decode()}"


def request_device(header: str) -> str:
    """The device that the header claims to be from: look its key up, then `verify_request`.

    Raises:
        NotTrusted: not such a header.

    >>> request_device("press-4;2026-01-01T00:00:00Z;AAAA")
    'press-4'
    """
    return _parts(header).device


def verify_request(
    header: str,
    *,
    public: PublicKey,
    method: str,
    path: str,
    body_digest: str,
    now: datetime,
    skew_s_max: float = SKEW_S_MAX,
) -> None:
    """Nothing, when the key of the claimed device signed exactly this request not long ago.

    Raises:
        NotTrusted: ``signature_malformed``, ``signature_wrong`` or ``clock_skew``.
    """
    parts = _parts(header)
    signature = unbase64(parts.signature, "the request's signature")
    if not verifies(public, signature, _message(parts.device, method, path, body_digest, parts.sent_at)):
        raise NotTrusted(
            f"the request {method} {path[:80]} is not signed by device {parts.device} "
            f"with key {public.keyid[:16]}…; enrol it again",
            code="signature_wrong",
        )
    # Checked after the signature: only the device itself may learn that its clock is wrong.
    apart_s = abs((now - _time(parts.sent_at)).total_seconds())
    if apart_s > skew_s_max:
        raise NotTrusted(
            f"device {parts.device} signed at {parts.sent_at}, the hub has {now.astimezone(UTC).isoformat()}: "
            f"{apart_s:.0f} s apart, at most {skew_s_max:.0f} s allowed; set the device's clock",
            code="clock_skew",
        )


def _message(device: str, method: str, path: str, body_digest: str, sent_at: str) -> bytes:
    # The purpose keeps this signature from being shown as one over anything else that the key may sign.
    fields = {"purpose": "edgewise-request-v1", "device": device, "method": method.upper()}
    return canonical({**fields, "path": path, "body": body_digest, "sent_at": sent_at})


def _parts(header: str) -> _Parts:
    pieces = header.split(";")
    if len(header) > HEADER_CHARACTERS_MAX or len(pieces) != 3 or not all(pieces):
        raise NotTrusted(
            f"the header {SIGNATURE_HEADER} is {header[:80]!r}, needs device;time;signature", code="signature_malformed"
        )
    return _Parts(device=pieces[0], sent_at=pieces[1], signature=pieces[2])


def _time(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise NotTrusted(f"the request's time is {text!r}, needs RFC 3339", code="signature_malformed") from error
    if when.tzinfo is None:
        raise NotTrusted(f"the request's time is {text!r}, needs its time zone", code="signature_malformed")
    return when
