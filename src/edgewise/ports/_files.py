"""Files that are whole or not there at all, also after a power cut."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from edgewise.wire import EdgewiseError, NotNow, NotValid

FULL = {errno.ENOSPC, errno.EDQUOT}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT}


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Afterwards the path holds the old bytes or the new ones, never a mixture; and the new ones are on disk.

    Args:
        path: the file; its folder must exist.
        mode: permissions of the new file, before the process's umask.
    Raises:
        NotNow: the disk is full or fails. NotValid: the folder cannot be written.
    """
    # The name ends in .part, which sources and stores ignore; two writers never share one.
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        write_new(part, data, mode=mode)
        part.replace(path)
        sync_folder(path.parent)  # without it the new name itself can be lost in a power cut
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file that does not exist yet, and wait until its bytes are on disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on disk."""
    if os.name != "nt":  # Windows cannot open a folder, and keeps its names without being asked
        sync_file(path)


def disk_error(error: OSError, path: Path) -> EdgewiseError:
    """What an operating system's error on a path means to us: which family, what to do.

    >>> disk_error(OSError(errno.ENOSPC, "No space left on device"), Path("/data/x")).code
    'disk_full'
    """
    what = error.strerror or str(error)
    if error.errno in FULL:
        return NotNow(f"no space left for {path}; free some, or choose another folder", code="disk_full")
    if error.errno in CLOSED:
        return NotValid(
            f"{path} cannot be used ({what}); check that its folder exists and may be written", code="not_writable"
        )
    return NotNow(f"the disk fails at {path}: {what}", code="disk_failed")
