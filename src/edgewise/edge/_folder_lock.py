"""One agent a folder, held by the kernel."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from edgewise.ports import disk_error
from edgewise.wire import NotNow

LOCK_FILE = "lock"


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """One agent a folder. NotNow: another one runs on it."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = (data_dir / LOCK_FILE).open("a+")
    except OSError as error:
        raise disk_error(error, data_dir) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise NotNow(f"another agent runs on {data_dir}; stop it first", code="data_dir_busy") from error
        yield  # the kernel lets go of the lock when the process ends, however it ends


def is_locked(data_dir: Path) -> bool:
    """Whether an agent runs on this folder."""
    try:
        with locked(data_dir):
            return False
    except NotNow:
        return True
