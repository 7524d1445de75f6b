"""Blobs on their way in: one promise for files and memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from edgewise.ports import FolderParts, MemoryParts, owner_name
from edgewise.wire import NotValid, digest

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONE, TWO = owner_name("press-1"), owner_name("../press-2")
BLOB = digest(b"whole")


@pytest.fixture(params=["folder", "memory"])
def parts(request, tmp_path):
    return FolderParts(tmp_path / "uploads") if request.param == "folder" else MemoryParts()


def test_bytes_are_added_at_the_end_and_nowhere_else(parts):
    assert parts.size(ONE, BLOB) == 0
    assert parts.read(ONE, BLOB) == b""
    parts.append(ONE, BLOB, 0, b"who", NOW)
    parts.append(ONE, BLOB, 3, b"le", NOW)
    for offset in (0, 4, 6):
        with pytest.raises(NotValid, match="5 bytes are here") as caught:
            parts.append(ONE, BLOB, offset, b"x", NOW)
        assert caught.value.code == "offset_wrong"
    assert (parts.size(ONE, BLOB), parts.read(ONE, BLOB)) == (5, b"whole")


def test_what_one_sends_never_changes_what_another_has_sent(parts):
    parts.append(ONE, BLOB, 0, b"who", NOW)
    parts.append(TWO, BLOB, 0, b"evil", NOW)
    assert parts.read(ONE, BLOB) == b"who"
    parts.drop(TWO, BLOB)
    parts.drop(TWO, BLOB)
    assert (parts.size(TWO, BLOB), parts.size(ONE, BLOB)) == (0, 3)


def test_what_is_here_is_told_with_its_size_and_its_age(parts):
    parts.append(ONE, BLOB, 0, b"who", NOW)
    parts.append(TWO, digest(b""), 0, b"x", NOW - timedelta(days=3))
    parts.append(ONE, BLOB, 3, b"l", NOW + timedelta(seconds=5))
    (mine,) = parts.parts(ONE)
    assert (mine.owner, mine.sha256, mine.size_bytes) == (ONE, BLOB, 4)
    assert mine.changed_at == NOW + timedelta(seconds=5)
    assert {part.owner for part in parts.parts()} == {ONE, TWO}
    assert parts.parts(owner_name("nobody")) == []


@pytest.mark.parametrize("name", ["../secrets", "", "A" * 64, ONE])
def test_a_name_that_is_no_digest_is_refused(parts, name):
    for ask in (parts.size, parts.read, parts.drop):
        with pytest.raises(NotValid, match="not a digest"):
            ask(ONE, name)
    with pytest.raises(NotValid, match="not an owner"):
        parts.size("..", BLOB)


def test_what_was_here_is_here_after_a_start(tmp_path):
    FolderParts(tmp_path).append(ONE, BLOB, 0, b"who", NOW)
    again = FolderParts(tmp_path)
    again.append(ONE, BLOB, again.size(ONE, BLOB), b"le", NOW)
    assert again.read(ONE, BLOB) == b"whole"
