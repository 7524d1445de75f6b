"""Blobs in pieces: a broken upload goes on at its last durable byte, and unfinished ones are bounded."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.edge.uplink import BREAKS_MAX, _put_blob
from edgewise.hub import create_device_app
from edgewise.hub.limits import Limits
from edgewise.hub.tls import DeviceListener
from edgewise.hub.uploads import PIECE_BYTES, Uploads
from edgewise.ports import (
    Credentials,
    FolderBlobs,
    FolderParts,
    HttpLink,
    LinkDown,
    MemoryBlobs,
    MemoryClock,
    MemoryLink,
    MemoryParts,
    Refused,
    first_certificate,
    listen,
    owner_name,
    pin_root,
)
from edgewise.sim._proxy import FaultProxy, Weather
from edgewise.wire import NotNow, NotTrusted, NotValid, digest

BIG = random.Random(1).randbytes(900_000)
LIMITS = Limits()


@pytest.fixture
def clock() -> MemoryClock:
    return MemoryClock(datetime(2026, 3, 1, tzinfo=UTC))


def make(clock: MemoryClock, parts: Any = None, blobs: Any = None, **limits: Any) -> Uploads:
    return Uploads(parts or MemoryParts(), blobs or MemoryBlobs(), replace(LIMITS, **limits), clock.now)


@given(cuts=st.lists(st.integers(1, 400_000), max_size=12))
@settings(max_examples=int(os.environ.get("EDGEWISE_EXAMPLES", "40")), deadline=None)
def test_however_it_is_cut_the_blob_arrives_whole_and_leaves_nothing_behind(cuts):
    parts, blobs = MemoryParts(), MemoryBlobs()
    uploads = make(MemoryClock(datetime(2026, 3, 1, tzinfo=UTC)), parts, blobs)
    for cut in cuts:
        offset = uploads.offset("one", digest(BIG))
        if offset is None:
            break
        here = uploads.put("one", digest(BIG), BIG[offset : offset + cut], offset=offset, size_bytes=len(BIG))
        assert here == min(offset + cut, len(BIG))
    if (offset := uploads.offset("one", digest(BIG))) is not None:
        uploads.put("one", digest(BIG), BIG[offset:], offset=offset, size_bytes=len(BIG))
    assert blobs.get(digest(BIG)) == BIG
    assert parts.parts() == []


def test_what_came_before_a_restart_counts(tmp_path, clock):
    first = make(clock, FolderParts(tmp_path / "uploads"), FolderBlobs(tmp_path / "blobs"))
    first.put("one", digest(BIG), BIG[:500_000], offset=0, size_bytes=len(BIG))
    blobs = FolderBlobs(tmp_path / "blobs")
    again = make(clock, FolderParts(tmp_path / "uploads"), blobs)
    assert again.offset("one", digest(BIG)) == 500_000
    again.put("one", digest(BIG), BIG[500_000:], offset=500_000, size_bytes=len(BIG))
    assert blobs.get(digest(BIG)) == BIG
    assert not [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()]


def test_other_bytes_than_announced_never_become_a_blob_and_are_forgotten(clock):
    blobs = MemoryBlobs()
    uploads = make(clock, blobs=blobs)
    uploads.put("one", digest(BIG), b"evil" * 100_000, offset=0, size_bytes=len(BIG))
    with pytest.raises(NotTrusted):
        uploads.put("one", digest(BIG), BIG[400_000:], offset=400_000, size_bytes=len(BIG))
    assert list(blobs.digests()) == []
    assert uploads.offset("one", digest(BIG)) == 0
    # Another device is not disturbed by what the first one sent.
    uploads.put("one", digest(BIG), b"evil", offset=0, size_bytes=len(BIG))
    uploads.put("two", digest(BIG), BIG, offset=0, size_bytes=len(BIG))
    assert blobs.get(digest(BIG)) == BIG


def test_an_old_connection_that_nobody_hears_of_writes_nothing_behind_an_answer(clock):
    uploads = make(clock)
    old = uploads.begin("one", digest(BIG), offset=0, size_bytes=len(BIG))
    old.write(BIG[:1000])
    assert uploads.offset("one", digest(BIG)) == 1000
    with pytest.raises(NotValid, match="another connection"):
        old.write(BIG[1000:2000])
    uploads.put("one", digest(BIG), BIG[1000:3000], offset=1000, size_bytes=len(BIG))
    uploads.end(old)
    assert uploads.offset("one", digest(BIG)) == 3000


@pytest.mark.parametrize(
    ("offset", "size_bytes", "data", "code"),
    [(5, 10, b"", "offset_wrong"), (0, 3, b"12345", "too_big"), (0, LIMITS.blob_bytes_max + 1, b"", "too_big")],
)
def test_what_does_not_fit_is_refused(clock, offset, size_bytes, data, code):
    with pytest.raises(NotValid) as caught:
        make(clock).put("one", digest(BIG), data, offset=offset, size_bytes=size_bytes)
    assert caught.value.code == code


def test_a_part_that_is_longer_than_the_blob_is_forgotten(clock):
    uploads = make(clock)
    uploads.put("one", digest(BIG), BIG[:100], offset=0, size_bytes=len(BIG))
    with pytest.raises(NotValid, match="0 bytes are here"):
        uploads.begin("one", digest(BIG), offset=100, size_bytes=50)
    assert uploads.offset("one", digest(BIG)) == 0


def begun(uploads: Uploads, device: str, number: int, size_bytes: int = 1000) -> None:
    uploads.put(device, digest(b"%d" % number), b"x" * 10, offset=0, size_bytes=size_bytes)


def test_one_device_cannot_fill_the_hub_with_unfinished_uploads(clock):
    uploads = make(clock, parts_device_max=3, parts_device_bytes_max=5000)
    for number in range(3):
        begun(uploads, "one", number)
    with pytest.raises(NotNow, match="3 unfinished uploads of this device"):
        begun(uploads, "one", 3)
    begun(uploads, "two", 3)
    with pytest.raises(NotNow, match="at most 3 with 5000"):
        begun(uploads, "two", 4, size_bytes=5000)
    # What was begun may always go on.
    uploads.put("one", digest(b"0"), b"x" * 10, offset=10, size_bytes=1000)


def test_all_devices_together_are_bounded_and_old_parts_make_room(clock):
    parts = MemoryParts()
    uploads = make(clock, parts, parts_max=4, parts_age_s=3600)
    for number in range(4):
        begun(uploads, f"device-{number}", number)
    with pytest.raises(NotNow, match="at this hub"):
        begun(uploads, "late", 9)
    clock.advance(3000)
    uploads.put("device-0", digest(b"0"), b"x", offset=10, size_bytes=1000)
    clock.advance(700)
    begun(uploads, "late", 9)
    assert {part.owner for part in parts.parts()} == {owner_name("device-0"), owner_name("late")}


def test_an_upload_under_way_counts_with_all_its_bytes(clock):
    uploads = make(clock, parts_device_bytes_max=2_000_000)
    uploads.begin("one", digest(BIG), offset=0, size_bytes=1_500_000).write(b"x")
    with pytest.raises(NotNow, match="1500000 bytes"):
        begun(uploads, "one", 1, size_bytes=600_000)


def test_memory_for_one_upload_is_bounded(clock):
    parts = MemoryParts()
    session = make(clock, parts).begin("one", digest(BIG), offset=0, size_bytes=len(BIG))
    for start in range(0, len(BIG), 10_000):
        session.write(BIG[start : start + 10_000])
        assert len(session._held) < PIECE_BYTES
    assert parts.size(owner_name("one"), digest(BIG)) > len(BIG) - PIECE_BYTES


# -- over real TCP and TLS, and over the link in memory ----------------------------------------------------------------


@pytest.fixture
def line(make_yard, tmp_path) -> Iterator[tuple[Any, FaultProxy, HttpLink]]:
    """A hub's listener for devices, a proxy before it, and an enrolled device's link through the proxy."""
    yard = make_yard(start=datetime.now(UTC))
    bound = listen("127.0.0.1", 0)
    listener = DeviceListener(yard.hub, create_device_app(yard.hub), bound)
    listener.start()
    folder = tmp_path / "device"
    folder.mkdir()
    held = Credentials(folder)
    with FaultProxy(("127.0.0.1", bound.getsockname()[1])) as proxy:
        url = f"https://127.0.0.1:{proxy.port}"
        pin_root(held, url, yard.hub.authority.fingerprint)
        first_certificate(held, url, yard.token(), wish="one")
        link = HttpLink(url, held)
        yield yard, proxy, link
        link.close()
    listener.stop()
    bound.close()


def test_an_upload_over_a_line_that_is_cut_again_and_again_arrives_without_sending_twice(line):
    yard, proxy, link = line
    # At a rate: a reset takes with it what lies unread at the hub, and loopback would bring everything at once.
    proxy.weather = Weather(reset_after_bytes=150_000, bytes_per_s=3e6)
    before = proxy.bytes_carried
    offset = link.blob_offset(digest(BIG))
    assert offset == 0
    _put_blob(link, digest(BIG), BIG, offset)
    assert yard.hub.store.blobs.get(digest(BIG)) == BIG
    carried = proxy.bytes_carried - before
    # Each cut costs a handshake and what was on the way when the line broke, never the whole again.
    assert carried < 3 * len(BIG)


def test_over_a_line_that_carries_nothing_an_upload_gives_up_and_the_next_contact_goes_on(line):
    yard, proxy, link = line
    for _ in range(10):  # a reset may take with it what the hub had not read yet
        proxy.weather = Weather(reset_after_bytes=300_000, bytes_per_s=3e6)
        with pytest.raises(LinkDown):
            link.put_blob(digest(BIG), BIG)
        proxy.weather = Weather(reset_after_bytes=10)
        with pytest.raises(LinkDown):
            _put_blob(link, digest(BIG), BIG, 0)
        proxy.weather = Weather()
        if offset := link.blob_offset(digest(BIG)):
            break
    assert 0 < offset < 300_000
    link.put_blob(digest(BIG), BIG, offset=offset)
    assert link.blob_offset(digest(BIG)) is None
    assert yard.hub.store.blobs.get(digest(BIG)) == BIG


@pytest.mark.parametrize(
    ("offset", "length", "status"),
    [("5", "900000", 409), ("0", "", 400), ("-1", "9", 400), ("0", "9" * 30, 400), ("0", str(1 << 40), 413)],
)
def test_a_wrong_upload_is_a_clear_problem(line, offset, length, status):
    _, _, link = line
    headers = {"Upload-Offset": offset, "Upload-Length": length, "Content-Type": "application/partial-upload"}
    answer = link._http.patch(f"/api/v1/blobs/{digest(BIG)}", content=b"x", headers=headers)
    assert answer.status_code == status
    assert answer.json()["code"] in ("offset_wrong", "upload_invalid", "too_big")


def test_a_request_that_brings_less_than_it_says_says_how_far_it_came(line):
    _, _, link = line
    headers = {"Upload-Offset": "0", "Upload-Length": str(len(BIG))}
    answer = link._http.patch(f"/api/v1/blobs/{digest(BIG)}", content=BIG[:1000], headers=headers)
    assert (answer.status_code, answer.headers["upload-offset"], answer.headers["upload-complete"]) == (
        204,
        "1000",
        "?0",
    )
    more = link._http.patch(
        f"/api/v1/blobs/{digest(BIG)}", content=BIG[1000:] + b"!", headers=headers | {"Upload-Offset": "1000"}
    )
    assert more.status_code == 413


def test_over_a_link_in_memory_that_loses_requests_and_replies_a_blob_arrives_in_pieces(yard):
    talker = yard.enrol("one")
    lost = random.Random(4)
    link = MemoryLink(yard.door, talker.name, lose=lambda _: lost.random() < 0.3)
    for _ in range(200):
        try:
            offset = link.blob_offset(digest(BIG))
            if offset is None:
                break
            _put_blob(link, digest(BIG), BIG, offset)
        except LinkDown:
            continue
    assert yard.hub.store.blobs.get(digest(BIG)) == BIG


def test_tries_of_one_contact_are_bounded_even_while_each_gets_a_little_further():
    class Trickle:
        """A link that breaks after one more byte, for ever."""

        def __init__(self) -> None:
            self.here = self.tries = 0

        def put_blob(self, _sha256: str, _data: bytes, *, offset: int) -> None:
            assert offset == self.here
            self.here, self.tries = self.here + 1, self.tries + 1
            raise LinkDown("broke")

        def blob_offset(self, _sha256: str) -> int:
            return self.here

    trickle = Trickle()
    with pytest.raises(LinkDown):
        _put_blob(trickle, digest(BIG), BIG, 0)
    assert trickle.tries == BREAKS_MAX


def test_a_hub_that_says_no_is_not_asked_again():
    class No:
        def put_blob(self, *_: Any, **__: Any) -> None:
            raise Refused("too big", code="too_big")

    with pytest.raises(Refused):
        _put_blob(No(), digest(BIG), BIG, 0)
