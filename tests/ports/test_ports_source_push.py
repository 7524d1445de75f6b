"""Frames that others push: bounded, refused with a reason, and behind a token."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edgewise.ports import MemoryClock, open_source
from edgewise.ports._source_push import PushSource, QueueFull
from edgewise.wire import NotNow, NotTrusted, NotValid, PushSpec

NOW = datetime(2026, 3, 4, tzinfo=UTC)
PICTURE = b"\xff\xd8\xff\xe0 a picture"


def pushed(**spec: Any) -> PushSource:
    source = open_source(PushSpec.model_validate(spec), None, clock=MemoryClock(NOW))
    assert isinstance(source, PushSource)
    return source


def test_pictures_and_rows_come_out_in_the_order_they_went_in() -> None:
    source = pushed(name="phone", row={"time": "at", "group": "part"})
    names = [source.offer(PICTURE), source.offer(b' {"load": 3, "at": 0, "part": "p7"}')]
    frames = [source.next(), source.next()]
    assert [frame.name for frame in frames] == names == ["phone-20260304T000000000000-000001",
                                                         "phone-20260304T000000000000-000002"]  # fmt: skip
    assert [frame.media_type for frame in frames] == ["image/jpeg", "application/json"]
    assert frames[0].taken_at == NOW
    assert (json.loads(frames[1].data), frames[1].group, frames[1].taken_at.year) == ({"load": 3}, "p7", 1970)
    assert source.next() is None


def test_over_its_bounds_it_says_wait_and_counts() -> None:
    source = pushed(queue_max=2)
    source.offer(PICTURE)
    source.offer(PICTURE)
    with pytest.raises(QueueFull, match="2 frames of 28 bytes wait already"):
        source.offer(PICTURE)
    source.next()
    source.offer(PICTURE)
    assert source.skipped == 1
    with pytest.raises(QueueFull):
        pushed(queue_bytes_max=1000).offer(b"\xff\xd8\xff" + b"x" * 1000)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "neither a picture"),
        (b"hello", "neither a picture"),
        (b"{", "not a JSON object"),
        (b'{"load": "high"}', "needs a finite number"),
        (b'{"a": [1]}', "needs a finite number"),
        (b"{}", "no column holds a number"),
        (b'{"a": 1e999}', "needs a finite number"),
        (b'{"a":' * 50_000, "not a JSON object"),
        (b'{"a": 1}' + b" " * 100_000, "at most 99999"),
    ],
)
def test_what_is_no_frame_is_refused_with_a_reason(data: bytes, says: str) -> None:
    source = pushed(frame_bytes_max=99_999 if says.startswith("at most") else 8_000_000)
    with pytest.raises(NotValid, match=says):
        source.offer(data)
    assert source.skipped == 1
    assert source.next() is None


def test_a_token_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "tokens" / "phone"
    token = pushed(token_file=str(file)).token
    assert len(token) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert pushed(token_file=str(file)).token == token
    file.chmod(0o644)
    with pytest.raises(NotTrusted, match="chmod 600"):
        pushed(token_file=str(file))


def test_without_a_place_for_it_each_start_has_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pushed().token != pushed().token
    monkeypatch.setenv("PUSH_TOKEN", "given")
    assert pushed(token_env="PUSH_TOKEN").token == "given"


def test_a_closed_source_takes_nothing_and_gives_what_it_has() -> None:
    source = pushed()
    source.offer(PICTURE)
    source.close()
    with pytest.raises(NotNow, match="stopping"):
        source.offer(PICTURE)
    assert source.next() is not None
