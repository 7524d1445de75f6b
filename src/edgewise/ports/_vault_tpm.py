"""A locking key that only this machine's TPM 2.0 can give out, by the tpm2-tools."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from edgewise.ports._files import disk_error, replace_file, sync_folder
from edgewise.ports._vault import VAULT_KEY_BYTES
from edgewise.wire import NotNow, NotValid

DEVICE = Path("/dev/tpmrm0")
TOOLS = ("tpm2_createprimary", "tpm2_create", "tpm2_load", "tpm2_unseal", "tpm2_flushcontext")
TOOL_S_MAX = 20.0


class TpmVault:
    """A key sealed under the TPM's owner hierarchy; the two files here are of no use on another machine.

    It is bound to the chip, not to what was booted: somebody who runs programs on this machine as its owner can ask
    for it, somebody who took the disk cannot.

    Args:
        folder: holds ``data-key.pub`` and ``data-key.priv``; made when missing.
        tcti: how the tools reach the TPM, as ``TPM2TOOLS_TCTI``; the kernel's resource manager unless given.
    """

    def __init__(self, folder: Path, *, tcti: str = "") -> None:
        self.folder = Path(folder)
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
        if not self._pair("data-key")[1].exists():
            return self._make("data-key")
        return self._unseal("data-key")

    def prepare(self) -> bytes:
        if not self._pair("data-key.new")[1].exists():
            return self._make("data-key.new")
        return self._unseal("data-key.new")

    def settle(self) -> None:
        if not self._pair("data-key.new")[1].exists():
            return
        try:
            # The public part first: until the private one has moved too, `load` fails and `settle` is called again.
            for new, old in zip(self._pair("data-key.new"), self._pair("data-key"), strict=True):
                if new.exists():
                    new.replace(old)
            sync_folder(self.folder)
        except OSError as error:
            raise disk_error(error, self.folder) from error

    def _pair(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.pub", self.folder / f"{name}.priv"

    def _make(self, name: str) -> bytes:
        key = secrets.token_bytes(VAULT_KEY_BYTES)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self.folder) from error
        with tempfile.TemporaryDirectory(prefix="edgewise-tpm-") as place:
            public, private = Path(place) / "pub", Path(place) / "priv"
            parent = self._primary(place)
            # Through a pipe: the key itself is in no file and in no list of processes.
            self._run("tpm2_create", "-C", parent, "-i", "-", "-u", str(public), "-r", str(private), given=key)
            for part, file in zip((public, private), self._pair(name), strict=True):
                replace_file(file, part.read_bytes(), mode=0o600)
        return key

    def _unseal(self, name: str) -> bytes:
        public, private = self._pair(name)
        with tempfile.TemporaryDirectory(prefix="edgewise-tpm-") as place:
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
        self._run("tpm2_createprimary", "-Q", "-C", "o", "-g", "sha256", "-G", "ecc", "-c", context)
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
            raise NotValid(
                f"{tool} failed on the {self.where}: {said[0] if said else f'code {done.returncode}'}; the key was "
                "sealed by another TPM, or this one was cleared",
                code="key_invalid",
            )
        return done.stdout
