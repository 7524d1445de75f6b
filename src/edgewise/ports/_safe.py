"""The device's data key: made once, locked by a vault's key, and what it does to cells, names and blobs.

AES-256-GCM (NIST SP 800-38D) with a key of its own for each run of the process and for each blob, derived with
HKDF-SHA-256 (RFC 5869) from the data key and 128 random bits; names by AES-SIV (RFC 5297), which gives the same name
for the same digest and can be turned back; the data key locked by AES key wrap (RFC 3394).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import secrets
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from edgewise.ports._files import disk_error, replace_file
from edgewise.ports._vault import Vault
from edgewise.wire import EdgewiseError, NotTrusted, NotValid, canonical

FILE = "data-key.json"
FORMAT = 1
KEY_BYTES = 32
SALT_BYTES, NONCE_BYTES, TAG_BYTES = 16, 12, 16
CELL_FORMAT = b"\x01"
CELL_EXTRA_BYTES = 1 + SALT_BYTES + NONCE_BYTES + TAG_BYTES  # that sealing adds to a cell
CELLS_MAX = 1 << 32  # under one key with random nonces; NIST SP 800-38D, section 8.3
KEYS_REMEMBERED = 64  # derived ones, for cells of earlier runs
SET_ASIDE_MAX = 4  # locked things that are kept for a person; the oldest goes when one more comes


class Safe:
    """What a data key does. Threads may share it.

    Args:
        key: 32 random bytes.
        cells_max: sealed under one derived key before the next is taken.

    >>> safe = Safe(bytes(32))
    >>> cell = safe.seal("record", 7, b"a person's face")
    >>> safe.unseal("record", 7, cell)
    b"a person's face"
    >>> safe.show(safe.hide("ab" * 32)) == "ab" * 32
    True
    """

    def __init__(self, key: bytes, *, cells_max: int = CELLS_MAX) -> None:
        self._key = key
        self._cells_max = cells_max
        self._lock = threading.Lock()
        self._names = AESSIV(_derive(key, b"names", b"", 64))
        self._gcm = lru_cache(maxsize=KEYS_REMEMBERED)(lambda salt: AESGCM(_derive(key, b"cells", salt)))
        self._roll()

    @property
    def id(self) -> str:
        """Names the key without telling anything about it."""
        return key_id(self._key)

    def seal(self, kind: str, row: str | int, data: bytes) -> bytes:
        """A cell that only this kind and row can be read from."""
        with self._lock:
            if next(self._used) >= self._cells_max:
                self._roll()
            salt = self._salt
        nonce = secrets.token_bytes(NONCE_BYTES)
        return CELL_FORMAT + salt + nonce + self._gcm(salt).encrypt(nonce, data, _place(kind, row))

    def unseal(self, kind: str, row: str | int, cell: bytes) -> bytes:
        """What was sealed. NotTrusted: damaged, of another place, or of another key."""
        salt, nonce = cell[1 : 1 + SALT_BYTES], cell[1 + SALT_BYTES : 1 + SALT_BYTES + NONCE_BYTES]
        try:
            if cell[:1] != CELL_FORMAT:
                raise InvalidTag
            return self._gcm(salt).decrypt(nonce, cell[1 + SALT_BYTES + NONCE_BYTES :], _place(kind, row))
        except (InvalidTag, ValueError) as error:
            raise NotTrusted(
                f"the {kind} in row {row} is damaged, or was moved there from another row", code="cell_damaged"
            ) from error

    def hide(self, digest: str) -> bytes:
        """A name for a digest, 48 bytes, always the same: who lacks the key cannot compare it with known content."""
        return self._names.encrypt(bytes.fromhex(digest), [b"edgewise name"])

    def show(self, name: bytes) -> str:
        """The digest behind a name. NotTrusted: not a name of this key."""
        try:
            return self._names.decrypt(name, [b"edgewise name"]).hex()
        except (InvalidTag, ValueError) as error:
            raise NotTrusted("a name is damaged, or of another key", code="cell_damaged") from error

    def blob_cipher(self, salt: bytes) -> AESGCM:
        """The cipher of the one blob that was written with these 16 random bytes."""
        return AESGCM(_derive(self._key, b"blob", salt))

    def keyed(self, purpose: str, text: str) -> str:
        """A keyed hash, 64 hexadecimal characters, for telling equal things without telling which."""
        return hmac.new(_derive(self._key, b"hash", purpose.encode()), text.encode(), hashlib.sha256).hexdigest()

    def _roll(self) -> None:
        self._salt, self._used = secrets.token_bytes(SALT_BYTES), itertools.count(1)


def key_id(key: bytes) -> str:
    """Sixteen hexadecimal characters that name a key."""
    return hmac.new(key, b"edgewise key id", hashlib.sha256).hexdigest()[:16]


def _derive(key: bytes, purpose: bytes, salt: bytes, length: int = KEY_BYTES) -> bytes:
    return HKDF(SHA256(), length, salt, b"edgewise 1 " + purpose).derive(key)


def _place(kind: str, row: str | int) -> bytes:
    return f"edgewise cell 1\0{kind}\0{row}".encode()


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedSafe:
    """The safe of a folder, and what went wrong on the way to it.

    Attributes:
        trouble: a sentence for people; the former data key could not be opened and a new one is in use.
        notice: another one; the place that was named gives no key, so a fallback locks the data key.
    """

    safe: Safe
    trouble: str | None = None
    notice: str | None = None


def open_safe(folder: Path, vault: Vault, *fallbacks: Vault) -> OpenedSafe:
    """The folder's data key, opened by the vault's key; made and locked when there is none yet.

    A key that only a fallback opens is locked again by the vault: so another place is chosen by naming it. A key that
    none opens is set aside, never deleted, and a new one is made: the device goes on.

    Raises:
        NotTrusted: a key file can be read by others. NotNow, NotValid: the folder cannot be written.
    """
    file = Path(folder) / FILE
    vaults, tried = [vault, *fallbacks], []
    entry = _read(file)
    for place in vaults:
        if entry is None:
            break
        try:
            key = place.load()
        except NotTrusted:
            raise
        except EdgewiseError as error:
            tried.append(str(error))
            continue
        if (data_key := _unlock(entry, key)) is not None:
            return OpenedSafe(safe=Safe(data_key), notice=_lock_again(file, entry, data_key, key, vaults))
        tried.append(f"{place.where} holds key {key_id(key)}")
    trouble = _set_aside_key(file, entry, tried) if file.exists() else None
    safe, notice = _make(file, vaults)
    return OpenedSafe(safe=safe, trouble=trouble, notice=notice)


def read_safe(folder: Path, vault: Vault, *fallbacks: Vault, name: str = FILE) -> Safe:
    """The folder's data key, for looking into it while an agent may run on it: nothing is made, locked or moved.

    Args:
        name: of the file that holds the data key, such as one that was set aside.

    Raises:
        NotValid: there is none, or no key opens it. NotTrusted: a key file can be read by others.
    """
    entry, tried = _read(Path(folder) / name), list[str]()
    for place in (vault, *fallbacks) if entry else ():
        assert entry is not None, "asked above"
        try:
            data_key = _unlock(entry, place.load())
        except NotValid as error:
            tried.append(str(error))
            continue
        if data_key is not None:
            return Safe(data_key)
        tried.append(f"the key of {place.where} does not fit")
    raise NotValid(
        f"the data key {Path(folder) / name} cannot be opened: {'; '.join(tried) or 'there is none yet'}",
        code="key_wrong",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotated:
    """The ids of the former and the new key; not settled while the former one opens the data key too."""

    before: str
    key: str
    settled: bool


def rotate_key(folder: Path, vault: Vault) -> Rotated:
    """Lock the data key with a new key of the vault.

    Every step leaves a folder that opens, so a power cut only asks for the command again.

    Raises:
        NotValid: there is no data key here, or the vault's key does not open it. NotTrusted, NotNow: as `Vault.load`.
    """
    file = Path(folder) / FILE
    entry, old = _read(file), vault.load()
    data_key = _unlock(entry, old) if entry else None
    if entry is None or data_key is None:
        raise NotValid(
            f"{file} cannot be opened with the key {key_id(old)} of {vault.where}; "
            f"needs {', '.join(lock['key'] for lock in entry['locks']) if entry else 'a device that has run'}",
            code="key_wrong",
        )
    new = vault.prepare()
    _write(file, data_key, old, new)
    vault.settle()
    settled = vault.load() == new  # a place that cannot settle by itself keeps both until it gives the new one
    if settled:
        _write(file, data_key, new)
    return Rotated(before=key_id(old), key=key_id(new), settled=settled)


def free_name(path: Path) -> Path:
    """A name beside the path under which nothing lies yet, ``<name>.locked`` or ``<name>.locked-2`` and so on.

    At most four are kept; the oldest makes room.
    """
    names = [path.with_name(f"{path.name}.locked{f'-{number}' if number > 1 else ''}") for number in range(1, 1000)]
    taken = [name for name in names if name.exists()]
    if len(taken) >= SET_ASIDE_MAX:
        oldest = min(taken, key=lambda name: name.stat().st_mtime)
        _remove(oldest)
        return oldest
    return next(name for name in names if name not in taken)


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _read(file: Path) -> dict[str, Any] | None:
    """The stored locks; None where there are none, or none that can be read."""
    try:
        entry = json.loads(file.read_bytes())
        locks = [{"key": str(lock["key"]), "locked": base64.b64decode(lock["locked"])} for lock in entry["locks"]]
        return {"id": str(entry["id"]), "locks": locks}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_error(error, file) from error
    except (ValueError, KeyError, TypeError):
        return None


def _unlock(entry: dict[str, Any], key: bytes) -> bytes | None:
    for lock in entry["locks"]:
        if lock["key"] == key_id(key):
            try:
                return aes_key_unwrap(key, lock["locked"])
            except (InvalidUnwrap, ValueError):
                return None
    return None


def _lock_again(file: Path, entry: dict[str, Any], data_key: bytes, used: bytes, vaults: list[Vault]) -> str | None:
    """Lock with the first vault's key alone where another one opened, or a rotation has ended; why it cannot."""
    try:
        wanted = vaults[0].load()
    except EdgewiseError as error:
        return f"{error}; the data key stays locked as it was"
    newest = entry["locks"][-1]["key"]
    if used != wanted or (len(entry["locks"]) > 1 and newest == key_id(wanted)):
        _write(file, data_key, wanted)
    return None


def _make(file: Path, vaults: list[Vault]) -> tuple[Safe, str | None]:
    """A new data key, locked by the first vault that gives a key; and why that is not the first."""
    data_key, notice = secrets.token_bytes(KEY_BYTES), None
    for number, place in enumerate(vaults, start=1):
        try:
            key = place.load()
        except NotTrusted:
            raise
        except EdgewiseError as error:
            if number == len(vaults):
                raise
            notice = f"{error}; the data key is locked with the next place's key"
            continue
        _write(file, data_key, key)
        break
    return Safe(data_key), notice


def _write(file: Path, data_key: bytes, *keys: bytes) -> None:
    locks = [{"key": key_id(key), "locked": base64.b64encode(aes_key_wrap(key, data_key)).decode()} for key in keys]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, file.parent) from error
    replace_file(file, canonical({"format": FORMAT, "id": key_id(data_key), "locks": locks}), mode=0o600)


def _set_aside_key(file: Path, entry: dict[str, Any] | None, tried: list[str]) -> str:
    place = free_name(file)
    try:
        file.replace(place)
    except OSError as error:
        raise disk_error(error, file) from error
    needed = ", ".join(lock["key"] for lock in entry["locks"]) if entry else "a file that can be read"
    return (
        f"the data key cannot be opened ({'; '.join(tried) or 'its file is damaged'}; needs {needed}); it was set "
        f"aside as {place.name}, and a new one is in use"
    )
