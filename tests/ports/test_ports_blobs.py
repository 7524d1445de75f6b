"""The promise of blobs, kept by folders, memory and object stores; and files that are whole or not there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from obstore.store import LocalStore, MemoryStore

from edgewise.ports import (
    Blobs,
    FolderBlobs,
    MemoryBlobs,
    ObjectBlobs,
    Safe,
    SealedBlobs,
    disk_error,
    open_bucket,
    replace_file,
)
from edgewise.wire import NotNow, NotTrusted, NotValid, digest

ABSENT = digest(b"never stored")


@pytest.fixture(params=["folder", "sealed folder", "memory", "object folder", "object memory", "bucket"])
def blobs(request, tmp_path) -> Blobs:
    match request.param:
        case "folder":
            return FolderBlobs(tmp_path / "deep" / "blobs")
        case "sealed folder":
            return SealedBlobs(tmp_path / "deep" / "blobs", Safe(bytes(32)))
        case "memory":
            return MemoryBlobs()
        case "object folder":
            return ObjectBlobs(LocalStore(tmp_path))
        case "object memory":
            return ObjectBlobs(MemoryStore())
        case _:
            url = request.getfixturevalue("bucket_url")
            return open_bucket(f"{url}/pre/fix", request.getfixturevalue("s3_server").options)


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 4000])
def test_what_was_put_comes_back_under_its_digest(blobs, data):
    name = blobs.put(data)
    assert name == digest(data)
    assert blobs.get(name) == data
    assert blobs.size(name) == len(data)
    assert blobs.has(name)


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 4096 * 9])
def test_what_was_put_in_pieces_is_the_same(blobs, data):
    name = digest(data)
    blobs.put_pieces(name, (data[at : at + 100_000] for at in range(0, len(data), 100_000)))
    assert blobs.get(name) == data
    assert b"".join(blobs.pieces(name)) == data
    assert list(blobs.digests()) == [name]


def test_pieces_that_are_other_bytes_or_break_off_are_not_stored(blobs):
    with pytest.raises(NotTrusted):
        blobs.put_pieces(ABSENT, [b"other"] * 3)
    with pytest.raises(NotTrusted):
        blobs.put_pieces(ABSENT, [b"o" * (5 << 20)] * 3)

    def breaking():
        yield b"o" * (9 << 20)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        blobs.put_pieces(ABSENT, breaking())
    assert list(blobs.digests()) == []
    assert not blobs.has(ABSENT)


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 1), (7, 12), (2_000_000, None), (2_999_999, 9_000_000), (5, 5), (3_000_000, None)]
)
def test_a_part_is_what_a_slice_is(blobs, start, end):
    data = bytes(range(250)) * 12_000
    name = blobs.put(data)
    assert b"".join(blobs.pieces(name, start, end)) == data[start:end]


def test_pieces_of_what_is_not_there_are_missing_by_name(blobs):
    with pytest.raises(NotValid) as caught:
        list(blobs.pieces(ABSENT, 1, 2))
    assert caught.value.code == "blob_missing"


def test_putting_twice_stores_once(blobs):
    assert blobs.put(b"one") == blobs.put(b"one")
    blobs.put_as(digest(b"one"), b"one")
    assert list(blobs.digests()) == [digest(b"one")]


def test_bytes_that_are_not_what_they_were_announced_as_are_not_stored(blobs):
    with pytest.raises(NotTrusted):
        blobs.put_as(ABSENT, b"other bytes")
    assert list(blobs.digests()) == []


def test_what_is_not_there_is_missing_by_name(blobs):
    for ask in (blobs.get, blobs.size):
        with pytest.raises(NotValid) as caught:
            ask(ABSENT)
        assert caught.value.code == "blob_missing"
    assert not blobs.has(ABSENT)
    blobs.delete(ABSENT)


def test_what_was_deleted_is_gone_and_can_come_back(blobs):
    name = blobs.put(b"gone")
    blobs.delete(name)
    assert not blobs.has(name)
    assert list(blobs.digests()) == []
    assert blobs.put(b"gone") == name
    assert blobs.get(name) == b"gone"


def test_digests_come_in_order(blobs):
    names = {blobs.put(str(number).encode()) for number in range(40)}
    assert list(blobs.digests()) == sorted(names)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", "/" + "a" * 63])
def test_a_name_that_is_no_digest_reaches_no_file(blobs, name):
    for ask in (blobs.get, blobs.has, blobs.delete, blobs.size):
        with pytest.raises(NotValid, match="is not a digest"):
            ask(name)
    with pytest.raises(NotValid):
        blobs.put_as(name, b"")


def test_many_threads_may_put_the_same_bytes(blobs):
    failures = []

    def put() -> None:
        try:
            for number in range(10):
                assert blobs.get(blobs.put(b"%d" % number * 1000)) == b"%d" % number * 1000
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(list(blobs.digests())) == 10


@pytest.mark.parametrize("make", [FolderBlobs, lambda path: ObjectBlobs(LocalStore(path))])
def test_bytes_damaged_on_disk_are_never_given_out(make, tmp_path):
    blobs = make(tmp_path)
    name = blobs.put(b"the truth")
    (file,) = tmp_path.rglob(name)
    file.write_bytes(b"the truht")
    with pytest.raises(NotTrusted):
        blobs.get(name)
    blobs.delete(name)
    blobs.put(b"the truth")
    assert blobs.get(name) == b"the truth"


def test_another_process_sees_what_was_put(tmp_path):
    name = FolderBlobs(tmp_path).put(b"shared")
    assert FolderBlobs(tmp_path).get(name) == b"shared"


def test_what_a_power_cut_left_half_written_is_swept_when_it_is_old(tmp_path):
    name = FolderBlobs(tmp_path).put(b"whole")
    old, fresh = (tmp_path / name[:2] / f".{kind}.part" for kind in ("old", "fresh"))
    for part in (old, fresh):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    assert list(FolderBlobs(tmp_path).digests()) == [name]
    assert not old.exists()
    assert fresh.exists()  # perhaps another process writes it right now


def test_a_file_in_the_place_of_the_folder_is_explained(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((NotValid, NotNow), match="file"):
        FolderBlobs(tmp_path / "file" / "blobs")


def test_a_replaced_file_is_whole_and_leaves_nothing_beside_it(tmp_path):
    file = tmp_path / "state.json"
    replace_file(file, b"old")
    replace_file(file, b"new", mode=0o600)
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_file_that_cannot_be_replaced_keeps_its_bytes(tmp_path):
    target = tmp_path / "state.json"
    target.mkdir()
    with pytest.raises(NotValid, match="cannot be used"):
        replace_file(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    with pytest.raises(NotValid, match="check that its folder exists"):
        replace_file(tmp_path / "nowhere" / "x", b"")


@pytest.mark.parametrize(
    ("number", "family", "code"),
    [
        (errno.ENOSPC, NotNow, "disk_full"),
        (errno.EDQUOT, NotNow, "disk_full"),
        (errno.EROFS, NotValid, "not_writable"),
        (errno.EACCES, NotValid, "not_writable"),
        (errno.EIO, NotNow, "disk_failed"),
    ],
)
def test_an_error_of_the_disk_has_a_family(number, family, code):
    error = disk_error(OSError(number, os.strerror(number)), Path("/data/x"))
    assert isinstance(error, family)
    assert error.code == code
    assert "/data/x" in str(error)


KILLED_WRITER = """
import sys
from pathlib import Path
from edgewise.ports import FolderBlobs, replace_file
folder = Path(sys.argv[1])
blobs = FolderBlobs(folder / "blobs")
number = 0
while True:
    replace_file(folder / "state", (b"%06d" % number) * 20_000)
    blobs.put((b"%06d" % number) * 20_000)
    number += 1
    print(number, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_whole_files(tmp_path):
    for attempt in range(3):
        writer = subprocess.Popen([sys.executable, "-c", KILLED_WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for _ in range(5 + 7 * attempt):
            writer.stdout.readline()
        writer.kill()
        writer.communicate()
        state = (tmp_path / "state").read_bytes()
        assert state == state[:6] * 20_000
        blobs = FolderBlobs(tmp_path / "blobs")
        assert all(blobs.get(name) for name in blobs.digests())
