"""A locking key that only this machine's TPM 2.0 can give out, by the tpm2-tools."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from edgewise.ports._files import disk_error, replace_file, sync_folder
from edgewise.ports._vault import VAULT_KEY_BYTES
from edgewise.wire import NotNow, NotValid, canonical

DEVICE = Path("/dev/tpmrm0")
TOOLS = ("tpm2_createprimary", "tpm2_create", "tpm2_load", "tpm2_unseal", "tpm2_flushcontext")
TOOL_S_MAX = 20.0
TRIES_MAX = 3
PAUSE_S = 1.0


class TpmVault:
    """A key sealed under the TPM's owner hierarchy; the two files here are of no use on another machine.

    It is bound to the chip, not to what was booted: somebody who runs programs on this machine as its owner can ask
    for it, somebody who took the disk cannot.

    Args:
        folder: holds ``data-key.tpm``; made when missing.
        tcti: how the tools reach the TPM, as ``TPM2TOOLS_TCTI``; the kernel's resource manager unless given.
    """

    def __init__(self, folder: Path, *, tcti: str = "") -> None:
        self.folder = Path(folder)
        self._file, self._new = self.folder / "data-key.tpm", self.folder / "data-key.tpm.new"
        self._tcti = tcti

    @property
    def where(self) -> str:
        return f"TPM, sealed in {self.folder}"

    @staticmethod
    def is_present(tcti: str = "") -> bool:
        """Whether this machine has a TPM that can be asked, and the tools to ask it."""
        has_tpm = bool(tcti or os.environ.get("TPM2TOOLS_TCTI")) or DEVICE.exists()
        return has_tpm and all(shutil.which(tool) for tool in TOOLS)

    def load(self) -> bytes:
        return self._unseal(self._file) if self._file.exists() else self._make(self._file)

    def prepare(self) -> bytes:
        return self._unseal(self._new) if self._new.exists() else self._make(self._new)

    def settle(self) -> None:
        try:
            self._new.replace(self._file)
            sync_folder(self.folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk_error(error, self.folder) from error

    def _make(self, file: Path) -> bytes:
        key = secrets.token_bytes(VAULT_KEY_BYTES)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self.folder) from error
        with tempfile.TemporaryDirectory(prefix="edgewise-tpm-") as place:
            public, private = _parts(place).values()
            parent = self._primary(place)
            # Through a pipe: the key itself is in no file and in no list of processes.
            self._run("tpm2_create", "-C", parent, "-i", "-", "-u", str(public), "-r", str(private), given=key)
            # Both in one file: a power cut must not leave the public part of one key with the private part of another.
            parts = {name: base64.b64encode(part.read_bytes()).decode() for name, part in _parts(place).items()}
            replace_file(file, canonical(parts), mode=0o600)
        return key

    def _unseal(self, file: Path) -> bytes:
        with tempfile.TemporaryDirectory(prefix="edgewise-tpm-") as place:
            for name, part in _parts(place).items():
                part.write_bytes(_part_of(file, name))
            public, private = _parts(place).values()
            parent, loaded = self._primary(place), f"{place}/key.ctx"
            self._run("tpm2_load", "-C", parent, "-u", str(public), "-r", str(private), "-c", loaded)
            self._flush()
            key = self._run("tpm2_unseal", "-c", loaded)
            self._flush()
        if len(key) != VAULT_KEY_BYTES:
            raise NotValid(
                f"the {self.where} holds {len(key)} bytes, needs {VAULT_KEY_BYTES}; it is no key of ours",
                code="key_invalid",
            )
        return key

    def _primary(self, place: str) -> str:
        context = f"{place}/primary.ctx"
        for tries_left in reversed(range(TRIES_MAX)):
            try:
                self._run("tpm2_createprimary", "-Q", "-C", "o", "-g", "sha256", "-G", "ecc", "-c", context)
                break
            except NotNow:
                # Early in a boot it may not answer yet; to go on without it would set all that waits aside.
                if not tries_left:
                    raise
                time.sleep(PAUSE_S)
        self._flush()
        return context

    def _flush(self) -> None:
        """Free the TPM's few slots: without a resource manager between, the tools leave their objects in them."""
        self._run("tpm2_flushcontext", "-t")

    def _run(self, tool: str, *arguments: str, given: bytes = b"") -> bytes:
        if not self.is_present(self._tcti):
            raise NotValid(
                f"this machine has no TPM that can be asked: needs {DEVICE} and tpm2-tools; name another place for the "
                "key, or install them",
                code="key_missing",
            )
        variables = os.environ | ({"TPM2TOOLS_TCTI": self._tcti} if self._tcti else {})
        try:
            done = subprocess.run(
                [tool, *arguments], input=given, capture_output=True, env=variables, timeout=TOOL_S_MAX, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise NotNow(
                f"{tool} did not answer within {TOOL_S_MAX:.0f} s; the TPM is busy", code="tpm_busy"
            ) from error
        except OSError as error:
            raise NotValid(f"{tool} cannot be run: {error.strerror}", code="key_missing") from error
        if done.returncode:
            said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.startswith("ERROR")]
            text = f"{tool} failed on the {self.where}: {said[0] if said else f'code {done.returncode}'}"
            if tool not in ("tpm2_load", "tpm2_unseal"):
                raise NotNow(f"{text}; the TPM does not answer, or is not ours to use", code="tpm_failed")
            raise NotValid(f"{text}; the key was sealed by another TPM, or this one was cleared", code="key_invalid")
        return done.stdout


def _parts(place: str) -> dict[str, Path]:
    return {"public": Path(place) / "pub", "private": Path(place) / "priv"}


def _part_of(file: Path, name: str) -> bytes:
    try:
        return base64.b64decode(json.loads(file.read_bytes())[name], validate=True)
    except OSError as error:
        raise disk_error(error, file) from error
    except (ValueError, KeyError, TypeError) as error:
        raise NotValid(f"{file} is damaged; the key in it is lost", code="key_invalid") from error
