"""How a folder becomes a device: its key, its certificate, whom it trusts; and who it is from then on."""

from __future__ import annotations

from pathlib import Path

from edgewise.edge._identity import Identity
from edgewise.ports import (
    Credentials,
    disk_error,
    fetch_identity,
    first_certificate,
    pin_root,
    replace_file,
    split_token,
)
from edgewise.wire import NotValid, decode, encode

IDENTITY_FILE = "device.json"


def enrol(data_dir: Path, hub_url: str, token: str, *, device: str | None = None) -> str:
    """Make the device's key, get its certificate, pin whom it trusts; comes back with the device's name.

    The token names the hub's root, so the secret in it is only ever sent to the real hub. Asked again after a lost
    answer the device sends the same key, and the hub gives the same answer.

    Args:
        hub_url: the hub's address for devices, such as ``https://hub.example:8443``.
        token: as `edgewise hub enrol-token` prints it.
        device: the name that the device wishes for; a token for a named device decides itself.
    Raises:
        NotValid: enrolled already, or the hub refuses. NotTrusted: not the hub of the token, or the token is not valid.
        NotNow: no hub answers.
    """
    data_dir, hub_url = Path(data_dir), hub_url.rstrip("/")
    secret, root = split_token(token)
    file = data_dir / IDENTITY_FILE
    if file.exists():
        name = load_identity(data_dir).device
        raise NotValid(f"{data_dir} is enrolled as {name} already; choose another --data-dir", code="already_enrolled")
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, data_dir) from error
    credentials = Credentials(data_dir)
    pin_root(credentials, hub_url, root)
    first_certificate(credentials, hub_url, secret, wish=device or "")
    answer = decode(Identity, fetch_identity(credentials, hub_url))
    # Last: a folder is enrolled when this file is there, and then it is whole.
    replace_file(file, encode(answer.model_copy(update={"hub_url": hub_url})), mode=0o600)
    return answer.device


def load_identity(data_dir: Path) -> Identity:
    """Who the device in this folder is. NotValid: it is not enrolled, or the file is damaged."""
    file = data_dir / IDENTITY_FILE
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise NotValid(
            f"{data_dir} is not an enrolled device; run `edgewise edge enroll --data-dir {data_dir} …` first",
            code="not_enrolled",
        ) from error
    except OSError as error:
        raise disk_error(error, file) from error
    return decode(Identity, data)
