"""Where the key comes from that locks a device's data key: a file, the environment, memory; a TPM in `_vault_tpm`."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from edgewise.ports._files import disk_error, replace_file, sync_folder
from edgewise.wire import NotTrusted, NotValid

VAULT_KEY_BYTES = 32
VARIABLE = "EDGEWISE_EDGE_DATA_KEY"


class Vault(Protocol):
    """Where one locking key is kept. It locks the data key and nothing else, so it can be changed cheaply."""

    @property
    def where(self) -> str:
        """The place, for sentences that people read; never the key."""

    def load(self) -> bytes:
        """The key, 32 bytes; made at the first asking where this place makes keys itself.

        Raises:
            NotValid: there is none (``key_missing``), or what is there is no key (``key_invalid``).
            NotTrusted: others can read it (``key_open``). NotNow: the place does not answer now.
        """

    def prepare(self) -> bytes:
        """A new key, durable beside the one in use, which `load` goes on giving until `settle`. Raises as `load`."""

    def settle(self) -> None:
        """From now on `load` gives the prepared key, and the former one is gone; without a prepared one, nothing."""


class MemoryVault:
    """A key in memory.

    >>> vault = MemoryVault()
    >>> new = vault.prepare()
    >>> vault.settle()
    >>> vault.load() == new
    True
    """

    where = "memory"

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key
        self._next: bytes | None = None

    def load(self) -> bytes:
        if self._key is None:
            self._key = secrets.token_bytes(VAULT_KEY_BYTES)
        return self._key

    def prepare(self) -> bytes:
        if self._next is None:
            self._next = secrets.token_bytes(VAULT_KEY_BYTES)
        return self._next

    def settle(self) -> None:
        if self._next is not None:
            self._key, self._next = self._next, None


class FileVault:
    """A key in a file that only its owner may read, made on first use.

    Args:
        path: its folder is made when missing. On another medium than the data it protects a lost disk; beside the
            data it makes what was deleted, and copies of the data alone, unreadable.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._new = self.path.with_name(self.path.name + ".new")

    @property
    def where(self) -> str:
        return f"file {self.path}"

    def load(self) -> bytes:
        try:
            return self._read(self.path)
        except FileNotFoundError:
            self._make(self.path)
        try:
            return self._read(self.path)
        except FileNotFoundError as error:
            raise disk_error(error, self.path) from error

    def prepare(self) -> bytes:
        try:
            return self._read(self._new)  # a rotation that a power cut ended goes on with the same key
        except FileNotFoundError:
            self._make(self._new)
        return self._read(self._new)

    def settle(self) -> None:
        try:
            self._new.replace(self.path)
            sync_folder(self.path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk_error(error, self.path) from error

    def _make(self, path: Path) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, path.parent) from error
        replace_file(path, secrets.token_hex(VAULT_KEY_BYTES).encode() + b"\n", mode=0o600)

    def _read(self, path: Path) -> bytes:
        try:
            mode, text = path.stat().st_mode, path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise disk_error(error, path) from error
        if os.name != "nt" and mode & 0o077:
            raise NotTrusted(
                f"key {path} can be read by others (mode {mode & 0o777:o}); run chmod 600, then "
                "`edgewise edge rotate-key` if somebody may have read it",
                code="key_open",
            )
        return key_of_text(text.decode(errors="replace"), f"file {path}")


class EnvironmentVault:
    """A key given in ``EDGEWISE_EDGE_DATA_KEY``, or in the file that ``EDGEWISE_EDGE_DATA_KEY_FILE`` names.

    Args:
        variables: the process's unless given.
        name: of another variable.

    This place makes no keys: the next one is given in ``EDGEWISE_EDGE_DATA_KEY_NEXT`` (or ``…_NEXT_FILE``), and takes
    the place of the first when whoever sets the variables moves it there.
    """

    def __init__(self, variables: Mapping[str, str] | None = None, *, name: str = VARIABLE) -> None:
        self._variables = os.environ if variables is None else variables
        self._name = name

    @property
    def where(self) -> str:
        return f"variable {self._name}"

    def load(self) -> bytes:
        return self._given(self._name)

    def prepare(self) -> bytes:
        return self._given(f"{self._name}_NEXT")

    def settle(self) -> None:
        """Nothing: a process cannot change the variables that it is started with."""

    def _given(self, name: str) -> bytes:
        if text := self._variables.get(name):
            return key_of_text(text, f"variable {name}")
        file = self._variables.get(f"{name}_FILE")
        if not file:
            raise NotValid(
                f"neither {name} nor {name}_FILE is set; give 32 bytes in hexadecimal or base64", code="key_missing"
            )
        try:
            return key_of_text(Path(file).read_text(errors="replace"), f"file {file}")
        except FileNotFoundError as error:
            raise NotValid(f"{file}, which {name}_FILE names, does not exist", code="key_missing") from error
        except OSError as error:
            raise disk_error(error, Path(file)) from error

    def is_given(self) -> bool:
        """Whether a key is named in the environment at all."""
        return bool(self._variables.get(self._name) or self._variables.get(f"{self._name}_FILE"))


def key_of_text(text: str, where: str) -> bytes:
    """The 32 bytes that a text names in hexadecimal or base64.

    Raises:
        NotValid: it names something else; the message tells its length and never shows it.

    >>> len(key_of_text("00" * 32, "the manual"))
    32
    """
    text = text.strip()
    try:
        key = bytes.fromhex(text) if len(text) == 2 * VAULT_KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != VAULT_KEY_BYTES:
        raise NotValid(
            f"{where} holds no key: {len(text)} characters, needs 64 hexadecimal ones or 44 of base64; make one with "
            "`openssl rand -hex 32`",
            code="key_invalid",
        )
    return key
