"""The promise of places for a locking key, kept by memory, a file, the environment and a TPM; and what a safe does."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import missing
from edgewise.ports import (
    EnvironmentVault,
    FileVault,
    MemoryVault,
    Safe,
    SealedBlobs,
    TpmVault,
    Vault,
    open_safe,
    read_safe,
    rotate_key,
)
from edgewise.ports._safe import CELL_EXTRA_BYTES, free_name
from edgewise.ports._sealed_blobs import CHUNK_BYTES
from edgewise.wire import NotNow, NotTrusted, NotValid, digest

FIRST, SECOND = "11" * 32, "22" * 32


def free_pair() -> int:
    """A port that is free, as is the next one."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def start_tpm(place: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A software TPM that answers, and its port."""
    for _ in range(5):  # a port that was free may be taken by the time it starts
        port = free_pair()  # the tools expect the control channel at the next one
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={place}", "--flags", "not-need-init,startup-clear"]
        command += ["--server", f"type=tcp,port={port},bindaddr=127.0.0.1,disconnect"]
        command += ["--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1"]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        ends = time.monotonic() + 10
        while time.monotonic() < ends and server.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port + 1)) == 0:
                    return server, port
        server.kill()
        server.wait(10)
    raise AssertionError("swtpm does not start")


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """How to reach a software TPM of our own."""
    if not (shutil.which("swtpm") and TpmVault.is_present("swtpm:")):
        missing("tpm", "swtpm or tpm2-tools are not installed: the TPM part is not tested here")
    server, port = start_tpm(tmp_path_factory.mktemp("tpm"))
    try:
        yield f"swtpm:host=127.0.0.1,port={port}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(params=["memory", "file", "environment", "tpm"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Vault:
    match request.param:
        case "memory":
            return MemoryVault()
        case "file":
            return FileVault(tmp_path / "deep" / "data.key")
        case "environment":
            return EnvironmentVault({"EDGEWISE_EDGE_DATA_KEY": FIRST, "EDGEWISE_EDGE_DATA_KEY_NEXT": SECOND})
        case _:
            return TpmVault(tmp_path, tcti=request.getfixturevalue("tpm"))


def test_a_place_gives_the_same_32_bytes_whenever_it_is_asked(vault):
    key = vault.load()
    assert len(key) == 32
    assert vault.load() == key
    assert key.hex() not in vault.where


def test_a_prepared_key_is_another_one_and_waits_until_it_is_settled(vault):
    key = vault.load()
    new = vault.prepare()
    assert new != key
    assert vault.prepare() == new  # a rotation that was cut off goes on with the same key
    assert vault.load() == key
    vault.settle()
    assert vault.load() in (new, key)
    assert (vault.load() == new) == (not isinstance(vault, EnvironmentVault))
    vault.settle()
    assert vault.load() in (new, key)


def test_data_locked_by_a_place_are_opened_by_it_and_stay_so_over_a_rotation(vault, tmp_path):
    cell = open_safe(tmp_path, vault).safe.seal("state", "x", b"kept")
    before = (tmp_path / "data-key.json").read_bytes()
    done = rotate_key(tmp_path, vault)
    assert done.before != done.key
    assert (tmp_path / "data-key.json").read_bytes() != before
    opened = open_safe(tmp_path, vault)
    assert opened.trouble is None
    assert opened.safe.unseal("state", "x", cell) == b"kept"


def test_a_key_file_is_for_its_owner_alone(tmp_path):
    vault = FileVault(tmp_path / "data.key")
    vault.load()
    assert (tmp_path / "data.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "data.key").chmod(0o640)
    with pytest.raises(NotTrusted, match="chmod 600"):
        vault.load()


@pytest.mark.parametrize("text", ["", "abc", "zz" * 32, "11" * 31, "A" * 43 + "!"])
def test_what_is_no_key_is_said_without_showing_it(text, tmp_path):
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(0o600)
    for vault in (
        FileVault(file),
        EnvironmentVault({"EDGEWISE_EDGE_DATA_KEY_FILE": str(file)}),
    ):
        with pytest.raises(NotValid, match="characters, needs 64") as caught:
            vault.load()
        assert not text or text not in str(caught.value)


def test_a_key_comes_from_the_named_file_and_its_lack_is_named(tmp_path):
    file = tmp_path / "key"
    file.write_text(FIRST + "\n")
    assert EnvironmentVault({"EDGEWISE_EDGE_DATA_KEY_FILE": str(file)}).load().hex() == FIRST
    for variables in ({}, {"EDGEWISE_EDGE_DATA_KEY_FILE": str(tmp_path / "nowhere")}):
        with pytest.raises(NotValid) as caught:
            EnvironmentVault(variables).load()
        assert caught.value.code == "key_missing"


def test_what_another_tpm_sealed_or_a_disk_damaged_is_said_to_be_lost(tmp_path, tpm):
    vault = TpmVault(tmp_path, tcti=tpm)
    vault.load()
    file = tmp_path / "data-key.tpm"
    parts = json.loads(file.read_bytes())
    private = bytearray(base64.b64decode(parts["private"]))
    private[-1] ^= 1  # as for a chip whose parent key is another one: the seal's integrity does not hold
    file.write_text(json.dumps(parts | {"private": base64.b64encode(private).decode()}))
    with pytest.raises(NotValid, match="another TPM"):
        vault.load()
    file.write_text("{")
    with pytest.raises(NotValid, match="damaged"):
        vault.load()


def test_a_tpm_that_does_not_answer_is_asked_again_later(tmp_path, tpm):
    with pytest.raises(NotNow, match="does not answer"):
        TpmVault(tmp_path, tcti=f"{tpm.partition(',')[0]},port={free_pair()}").load()


def test_a_machine_without_a_tpm_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotValid, match="tpm2-tools") as caught:
        TpmVault(tmp_path).load()
    assert caught.value.code == "key_missing"


# -- the data key ------------------------------------------------------------------------------------------------------


def test_a_wrong_key_sets_the_data_key_aside_and_says_which_is_needed(tmp_path):
    first = open_safe(tmp_path, MemoryVault(bytes.fromhex(FIRST)))
    opened = open_safe(tmp_path, MemoryVault(bytes.fromhex(SECOND)))
    assert opened.safe.id != first.safe.id
    assert opened.trouble is not None
    assert "set aside as data-key.json.locked" in opened.trouble
    (tmp_path / "data-key.json.locked").replace(tmp_path / "data-key.json")
    assert open_safe(tmp_path, MemoryVault(bytes.fromhex(FIRST))).safe.id == first.safe.id


def test_a_missing_key_leads_to_the_fallback_and_a_named_place_takes_over_from_it(tmp_path):
    beside = FileVault(tmp_path / "beside.key")
    nowhere = EnvironmentVault({})
    first = open_safe(tmp_path, nowhere, beside)
    assert first.trouble is None  # nothing was locked before, so nothing is lost
    assert first.notice is not None
    assert "EDGEWISE_EDGE_DATA_KEY" in first.notice
    assert "stays locked" in (open_safe(tmp_path, nowhere, beside).notice or "")
    named = EnvironmentVault({"EDGEWISE_EDGE_DATA_KEY": FIRST})
    moved = open_safe(tmp_path, named, beside)
    assert (moved.safe.id, moved.notice) == (first.safe.id, None)
    assert open_safe(tmp_path, named).safe.id == first.safe.id  # locked by the named one alone now
    assert open_safe(tmp_path, beside).trouble is not None


def test_looking_into_a_folder_changes_nothing_there(tmp_path):
    vault = MemoryVault(bytes.fromhex(FIRST))
    with pytest.raises(NotValid, match="there is none yet"):
        read_safe(tmp_path, vault)
    made = open_safe(tmp_path, vault).safe.id
    assert read_safe(tmp_path, EnvironmentVault({}), vault).id == made
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(NotValid, match="does not fit"):
        read_safe(tmp_path, MemoryVault(bytes.fromhex(SECOND)))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_rotation_cut_off_at_any_step_leaves_data_that_open(tmp_path):
    class Cut(Exception):
        pass

    class CutVault(FileVault):
        at = ""

        def prepare(self) -> bytes:
            key = super().prepare()
            if self.at == "prepared":
                raise Cut
            return key

        def settle(self) -> None:
            if self.at == "locked twice":
                raise Cut
            super().settle()
            if self.at == "settled":
                raise Cut

    vault = CutVault(tmp_path / "data.key")
    first = open_safe(tmp_path, vault).safe.id
    for vault.at in ("prepared", "locked twice", "settled", ""):
        if vault.at:
            with pytest.raises(Cut):
                rotate_key(tmp_path, vault)
        else:
            assert rotate_key(tmp_path, vault).settled
        opened = open_safe(tmp_path, FileVault(tmp_path / "data.key"))
        assert (opened.safe.id, opened.trouble) == (first, None)


def test_what_is_set_aside_is_bounded(tmp_path):
    file = tmp_path / "thing"
    for number in range(8):
        file.write_text(str(number))
        file.replace(free_name(file))
    left = {path.read_text() for path in tmp_path.iterdir()}
    assert len(left) == 4
    assert "7" in left


# -- cells and names ---------------------------------------------------------------------------------------------------


@given(data=st.binary(max_size=2000), row=st.integers(0, 1 << 40))
def test_a_cell_gives_back_what_was_sealed_and_nothing_of_it_is_seen(data, row):
    safe = Safe(b"k" * 32)
    cell = safe.seal("record", row, data)
    assert len(cell) == len(data) + CELL_EXTRA_BYTES
    assert safe.unseal("record", row, cell) == data
    assert len(data) < 8 or data not in cell
    assert safe.seal("record", row, data) != cell


@pytest.mark.parametrize(("kind", "row"), [("record", 8), ("payload", 7)])
def test_a_cell_cannot_be_moved_to_another_row_or_column(kind, row):
    safe = Safe(b"k" * 32)
    with pytest.raises(NotTrusted):
        safe.unseal(kind, row, safe.seal("record", 7, b"x"))


@given(at=st.integers(0, 60), bit=st.integers(0, 7))
def test_a_cell_with_any_bit_changed_is_refused(at, bit):
    safe = Safe(b"k" * 32)
    cell = bytearray(safe.seal("record", 7, b"sixteen bytes  x"))
    cell[at] ^= 1 << bit
    with pytest.raises(NotTrusted):
        safe.unseal("record", 7, bytes(cell))
    with pytest.raises(NotTrusted):
        safe.unseal("record", 7, bytes(cell[:at]))


def test_a_derived_key_seals_no_more_cells_than_its_bound():
    safe = Safe(b"k" * 32, cells_max=10)
    cells = [safe.seal("record", number, b"x") for number in range(35)]
    salts = [cell[1:17] for cell in cells]
    assert max(salts.count(salt) for salt in set(salts)) <= 10
    assert all(safe.unseal("record", number, cell) == b"x" for number, cell in enumerate(cells))
    assert len({cell[1:29] for cell in cells}) == 35  # no nonce twice under one key


def test_a_name_is_always_the_same_under_one_key_and_another_under_another():
    one, other = Safe(b"a" * 32), Safe(b"b" * 32)
    assert one.hide(digest(b"x")) == one.hide(digest(b"x")) != other.hide(digest(b"x"))
    with pytest.raises(NotTrusted):
        other.show(one.hide(digest(b"x")))


# -- encrypted blobs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 5])
def test_any_part_of_a_blob_can_be_read_alone(tmp_path, size):
    blobs = SealedBlobs(tmp_path, Safe(b"k" * 32))
    data = os.urandom(size)
    name = blobs.put(data)
    for start in (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, size):
        for length in (0, 1, CHUNK_BYTES, size):
            assert blobs.read(name, start, length) == data[start : start + length], (start, length)
    assert b"".join(blobs.pieces(name)) == data
    assert blobs.size(name) == size


def test_a_blob_shows_neither_content_nor_digest_nor_a_name_that_can_be_guessed(tmp_path):
    data = b"a person's face, many times over" * 4000
    name = SealedBlobs(tmp_path, Safe(b"k" * 32)).put(data)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert name[:16] not in str(file)
    assert data[:32] not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600


def test_pieces_of_a_blob_cannot_be_swapped_left_out_or_moved(tmp_path):
    blobs = SealedBlobs(tmp_path, Safe(b"k" * 32))
    data = os.urandom(3 * CHUNK_BYTES)
    name = blobs.put(data)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    whole, piece = file.read_bytes(), CHUNK_BYTES + 16
    head, first, second, third = whole[:28], *(whole[28 + n * piece : 28 + (n + 1) * piece] for n in range(3))
    for forged in (
        head + second + first + third,
        head + first + second,
        head[:-1] + bytes([head[-1] ^ 1]) + first + second + third,
        whole[:-1],
        b"",
    ):
        file.write_bytes(forged)
        with pytest.raises(NotTrusted):
            blobs.get(name)
    other = blobs.put(os.urandom(3 * CHUNK_BYTES))
    (stranger,) = (path for path in tmp_path.rglob("*") if path.is_file() and path != file)
    stranger.write_bytes(whole)
    with pytest.raises(NotTrusted):
        blobs.get(other)
