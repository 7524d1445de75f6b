"""The promise of keys, kept by a folder and by memory."""

from __future__ import annotations

import threading

import pytest

from edgewise.ports import FolderKeys, Keys, MemoryKeys
from edgewise.wire import NotTrusted, NotValid


@pytest.fixture(params=["folder", "memory"])
def keys(request, tmp_path) -> Keys:
    return FolderKeys(tmp_path / "keys") if request.param == "folder" else MemoryKeys()


def test_a_key_comes_back_as_it_was_made(keys):
    made = keys.create("device")
    assert keys.load("device") == made
    assert keys.create("hub").public != made.public


def test_a_key_is_never_replaced(keys):
    made = keys.create("device")
    with pytest.raises(NotValid) as caught:
        keys.create("device")
    assert caught.value.code == "key_exists"
    assert keys.load("device") == made


def test_a_missing_key_is_named(keys):
    with pytest.raises(NotValid, match="no key release") as caught:
        keys.load("release")
    assert caught.value.code == "key_missing"


@pytest.mark.parametrize("name", ["", "../device", "a/b", ".hidden", "x" * 65])
def test_a_name_that_could_be_a_path_is_refused(keys, name):
    for ask in (keys.load, keys.create):
        with pytest.raises(NotValid, match="not a name"):
            ask(name)


def test_a_key_file_is_for_its_owner_only_and_nothing_else_is_left(tmp_path):
    FolderKeys(tmp_path / "keys").create("device")
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["device.pem"]
    assert (tmp_path / "keys" / "device.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0


def test_a_key_that_others_can_read_is_not_trusted(tmp_path):
    keys = FolderKeys(tmp_path)
    keys.create("device")
    (tmp_path / "device.pem").chmod(0o644)
    with pytest.raises(NotTrusted, match="chmod 600"):
        keys.load("device")


def test_of_two_that_make_the_same_key_one_wins(tmp_path):
    won = []

    def create() -> None:
        try:
            won.append(FolderKeys(tmp_path).create("device"))
        except NotValid:
            return

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert FolderKeys(tmp_path).load("device") == won[0]


def test_seeded_keys_follow_from_seed_and_name():
    assert MemoryKeys(b"s").create("a") == MemoryKeys(b"s").create("a")
    assert MemoryKeys(b"s").create("a") != MemoryKeys(b"s").create("b")


def test_a_certificate_key_is_made_when_it_is_first_asked_for_and_found_again(keys):
    made = keys.certificate_key("tls")
    assert keys.certificate_key("tls") == made
    assert keys.certificate_key("other") != made
    if isinstance(keys, FolderKeys):
        assert FolderKeys(keys.path).certificate_key("tls") == made
        assert (keys.path / "tls.pem").stat().st_mode & 0o077 == 0
        keys.create("signing")
        with pytest.raises(NotValid, match="needs to be ECDSA P-256"):
            keys.certificate_key("signing")
    assert MemoryKeys(b"s").certificate_key("a") == MemoryKeys(b"s").certificate_key("a")
