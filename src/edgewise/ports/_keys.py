"""Private keys by name."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Protocol

from edgewise.ports._files import disk_error, sync_folder, write_new
from edgewise.trust import CertificateKey, PrivateKey
from edgewise.wire import NotTrusted, NotValid

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Keys(Protocol):
    """A keyring. A key is made once, never replaced and never handed out in another form than to sign."""

    def load(self, name: str) -> PrivateKey:
        """The key. NotValid with code ``key_missing``: none has this name."""

    def create(self, name: str) -> PrivateKey:
        """A new key. NotValid with code ``key_exists``: one has this name already."""

    def certificate_key(self, name: str) -> CertificateKey:
        """The ECDSA P-256 key for certificates with this name; made when it is first asked for."""


def _check(name: str) -> str:
    if not NAME.fullmatch(name):
        raise NotValid(
            f"{name[:80]!r} is not a name for a key; needs letters, digits, '.', '_', '-'", code="name_invalid"
        )
    return name


def _missing(name: str, where: str) -> NotValid:
    return NotValid(f"there is no key {name} in {where}", code="key_missing")


def _exists(name: str, where: str) -> NotValid:
    return NotValid(
        f"key {name} in {where} exists already and is never replaced; choose another name", code="key_exists"
    )


class MemoryKeys:
    """Keys in a dictionary.

    Args:
        seed: makes the keys follow from it and their names, for the simulator; None draws them.
    """

    def __init__(self, seed: bytes | None = None) -> None:
        self._seed = seed
        self._held: dict[str, PrivateKey] = {}
        self._for_certificates: dict[str, CertificateKey] = {}

    def load(self, name: str) -> PrivateKey:
        if _check(name) not in self._held:
            raise _missing(name, "memory")
        return self._held[name]

    def create(self, name: str) -> PrivateKey:
        if _check(name) in self._held:
            raise _exists(name, "memory")
        self._held[name] = PrivateKey.generate(seed=self._seed_of(name))
        return self._held[name]

    def certificate_key(self, name: str) -> CertificateKey:
        if _check(name) not in self._for_certificates:
            self._for_certificates[name] = CertificateKey.generate(seed=self._seed_of(name))
        return self._for_certificates[name]

    def _seed_of(self, name: str) -> bytes | None:
        return None if self._seed is None else self._seed + b"/" + name.encode()


class FolderKeys:
    """Keys as files ``<name>.pem`` that only their owner may read, in a folder made on first use."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def _file(self, name: str) -> Path:
        return self.path / f"{_check(name)}.pem"

    def load(self, name: str) -> PrivateKey:
        return PrivateKey.from_pem(self._read(name))

    def create(self, name: str) -> PrivateKey:
        key = PrivateKey.generate()
        self._write(name, key.to_pem())
        return key

    def certificate_key(self, name: str) -> CertificateKey:
        try:
            return CertificateKey.from_pem(self._read(name))
        except NotValid as error:
            if error.code != "key_missing":
                raise
        key = CertificateKey.generate()
        try:
            self._write(name, key.to_pem())
        except NotValid as error:
            if error.code != "key_exists":  # another process was first: its key is the one
                raise
        return CertificateKey.from_pem(self._read(name))

    def _read(self, name: str) -> bytes:
        file = self._file(name)
        try:
            mode, pem = file.stat().st_mode, file.read_bytes()
        except FileNotFoundError as error:
            raise _missing(name, str(self.path)) from error
        except OSError as error:
            raise disk_error(error, file) from error
        if os.name != "nt" and mode & 0o077:
            raise NotTrusted(
                f"key {file} can be read by others (mode {mode & 0o777:o}); make a new one, or run chmod 600",
                code="key_open",
            )
        return pem

    def _write(self, name: str, pem: bytes) -> None:
        file = self._file(name)
        # A power cut half-way must leave no key rather than a broken one, and two processes must not both win:
        # the bytes go to a name of their own, and the link fails where the key exists.
        part = file.with_name(f".{file.name}.{secrets.token_hex(8)}.part")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_new(part, pem, mode=0o600)
            file.hardlink_to(part)
            sync_folder(self.path)
        except FileExistsError as error:
            raise _exists(name, str(self.path)) from error
        except OSError as error:
            raise disk_error(error, file) from error
        finally:
            part.unlink(missing_ok=True)
