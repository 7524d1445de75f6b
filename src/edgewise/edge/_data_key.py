"""Where this device's data key is locked, and how it is locked anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgewise.ports import EnvironmentVault, FileVault, OpenedSafe, TpmVault, Vault, open_safe, rotate_key

KEY_FILE = Path("keys") / "data.key"
VARIABLE = "EDGEWISE_EDGE_DATA_KEY"
SITE_VARIABLE = "EDGEWISE_EDGE_SITE_KEY"


def vaults(data_dir: Path, key_from: str) -> tuple[Vault, ...]:
    """The place of the locking key, then the one that a device without it goes on with.

    Args:
        key_from: ``file`` (in the data folder), ``tpm``, or the path of a file. A key in the environment wins.
    """
    beside = FileVault(data_dir / KEY_FILE)
    if EnvironmentVault().is_given():
        return EnvironmentVault(), beside
    match key_from:
        case "file":
            return (beside,)
        case "tpm":
            return TpmVault(data_dir / "keys"), beside
        case _:
            return FileVault(Path(key_from)), beside


def device_safe(data_dir: Path, key_from: str = "file") -> OpenedSafe:
    """The data key of the device in this folder. Raises as `open_safe`."""
    return open_safe(data_dir, *vaults(data_dir, key_from))


def site_key() -> bytes | None:
    """The key that hides subjects on all devices of a site alike, from the environment; None where none is given.

    Raises:
        NotValid: what is given is no key.
    """
    vault = EnvironmentVault(name=SITE_VARIABLE)
    return vault.load() if vault.is_given() else None


def rotate(data_dir: Path, key_from: str) -> dict[str, Any]:
    """Lock the data key with a new key; what was done, for people. Raises as `rotate_key`."""
    vault = vaults(data_dir, key_from)[0]
    done = rotate_key(data_dir, vault)
    then = (
        "the agent may start"
        if done.settled
        else f"start the agent with the new key in {VARIABLE}; until then the former one opens the data too"
    )
    return {"key": done.key, "before": done.before, "where": vault.where, "next": then}
