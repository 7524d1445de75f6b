"""Passwords and tokens: they are never in a record, a file or an environment variable holds them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from edgewise.ports._files import disk_error, replace_file
from edgewise.wire import Login, NotTrusted, NotValid

SECRET_BYTES_MAX = 4096


def read_secret(file: str | None, env: str | None, what: str) -> str | None:
    """The secret in the first line of a file, or in an environment variable; None where neither is named.

    Args:
        what: it is for, for messages.
    Raises:
        NotValid: there is no such file or variable, or it is empty. NotTrusted: others can read the file.
    """
    if file is not None:
        return _from_file(Path(file), what)
    if env is None:
        return None
    if not (value := os.environ.get(env, "").strip()):
        raise NotValid(f"the environment variable {env} is to hold {what} and is empty; set it", code="secret_missing")
    return value


def below(folder: Path, name: str | None) -> str | None:
    """The path of a file by its plain name in a folder, None for None."""
    return None if name is None else str(folder / name)


def login_of(login: Login | None, what: str) -> tuple[str, str] | None:
    """User and password, None where there is no login. Raises as `read_secret`."""
    if login is None:
        return None
    password = read_secret(login.password_file, login.password_env, what)
    assert password is not None, "a login names one place of its password"
    return login.user, password


def made_secret(file: Path) -> str:
    """The secret in this file; a new random one where the file is missing. Raises as `read_secret`."""
    if not file.exists():
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, file) from error
        replace_file(file, secrets.token_urlsafe(24).encode() + b"\n", mode=0o600)
    return _from_file(file, "the token")


def _from_file(file: Path, what: str) -> str:
    try:
        with file.open("rb") as handle:
            mode, data = os.fstat(handle.fileno()).st_mode, handle.read(SECRET_BYTES_MAX)
    except FileNotFoundError as error:
        raise NotValid(
            f"{file} is to hold {what} and is not there; write it, mode 600", code="secret_missing"
        ) from error
    except OSError as error:
        raise disk_error(error, file) from error
    if os.name != "nt" and mode & 0o077:
        raise NotTrusted(f"{file} can be read by others (mode {mode & 0o777:o}); run chmod 600", code="secret_open")
    lines = data.decode("utf-8", "replace").splitlines()
    if not lines or not lines[0].strip():
        raise NotValid(f"{file} is to hold {what} and its first line is empty", code="secret_missing")
    return lines[0].strip()
