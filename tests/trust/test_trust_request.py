"""Device requests and tokens: a signature covers exactly one request, not long ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from edgewise.trust import PrivateKey, new_token, request_device, sign_request, token_digest, verify_request
from edgewise.wire import NotTrusted, NotValid, digest

KEY, EVE = PrivateKey.generate(seed=b"press-4"), PrivateKey.generate(seed=b"eve")
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
REQUEST: dict[str, Any] = {"method": "POST", "path": "/api/v1/contact", "body_digest": digest(b"body")}
HEADER = sign_request(KEY, device="press-4", sent_at=NOW, **REQUEST)


def verify(header: str = HEADER, **change: Any) -> None:
    verify_request(header, **{"public": KEY.public, "now": NOW, **REQUEST, **change})


def test_the_devices_own_request_is_accepted() -> None:
    assert request_device(HEADER) == "press-4"
    assert HEADER.startswith("press-4;2026-01-01T12:00:00Z;")
    verify()
    verify(method="post")  # HTTP clients differ in how they write it
    verify(now=NOW + timedelta(minutes=14))
    verify(now=NOW - timedelta(minutes=14))
    local = NOW.astimezone(timezone(timedelta(hours=2)))
    assert sign_request(KEY, device="press-4", sent_at=local, **REQUEST) == HEADER


@pytest.mark.parametrize(
    ("header", "change", "code"),
    [
        (HEADER, {"method": "PUT"}, "signature_wrong"),
        (HEADER, {"path": "/api/v1/contact?x=1"}, "signature_wrong"),
        (HEADER, {"body_digest": digest(b"other")}, "signature_wrong"),
        (HEADER, {"public": EVE.public}, "signature_wrong"),
        (HEADER.replace("press-4", "press-5"), {}, "signature_wrong"),
        (HEADER.replace("12:00", "12:01"), {}, "signature_wrong"),
        (HEADER, {"now": NOW + timedelta(minutes=16)}, "clock_skew"),
        (HEADER, {"now": NOW - timedelta(minutes=16)}, "clock_skew"),
        (HEADER, {"now": NOW + timedelta(seconds=9), "skew_s_max": 8}, "clock_skew"),
        ("", {}, "signature_malformed"),
        ("press-4", {}, "signature_malformed"),
        ("press-4;;AAAA", {}, "signature_malformed"),
        ("press-4;2026-01-01T12:00:00Z;***", {}, "base64_invalid"),
        ("press-4;2026-01-01T12:00:00Z;" + "A" * 600, {}, "signature_malformed"),
    ],
)
def test_any_other_request_is_refused(header: str, change: dict[str, Any], code: str) -> None:
    with pytest.raises(NotTrusted) as refused:
        verify(header, **change)
    assert refused.value.code == code


def test_a_device_that_cannot_be_written_into_the_header_is_refused() -> None:
    for device, sent_at in (("a;b", NOW), ("", NOW), ("press-4", NOW.replace(tzinfo=None))):
        with pytest.raises(NotValid):
            sign_request(KEY, device=device, sent_at=sent_at, **REQUEST)


def test_a_token_is_known_by_its_hash_and_needs_enough_chance() -> None:
    token = new_token(bytes(range(32)))
    assert token.startswith("ew_")
    assert token_digest(token) == token_digest(token + "\n")  # as read from a file
    assert token_digest(token) != token_digest(new_token(bytes(32)))
    with pytest.raises(NotValid):
        new_token(bytes(15))
