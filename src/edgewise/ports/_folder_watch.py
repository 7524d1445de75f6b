"""Waiting until something comes into a folder, by the kernel's word (inotify, Linux) instead of looking often."""

from __future__ import annotations

import ctypes
import os
import select
from pathlib import Path

from edgewise.wire import NotNow

# <sys/inotify.h>, inotify(7)
IN_CREATE, IN_MOVED_TO, IN_DELETE_SELF, IN_MOVE_SELF = 0x100, 0x80, 0x400, 0x800
IN_NONBLOCK = os.O_NONBLOCK
EVENT_BYTES = 65_536
# Where all changes are made by this machine's kernel. It hears nothing of what another one writes to a shared folder.
LOCAL = (
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "jffs2",
    "overlay",
    "ramfs",
    "tmpfs",
    "ubifs",
    "vfat",
    "xfs",
)


class FolderWatch:
    """Hears of names that come into a folder from now on.

    Raises:
        NotNow: this system cannot tell, the folder is not on a disk of this machine, or too many are watched.
    """

    def __init__(self, path: Path) -> None:
        if file_system(path) not in LOCAL:
            raise NotNow(f"nobody tells of changes in {path}", code="not_watched")
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            raise NotNow("this system has no inotify", code="not_watched")
        self._fd = libc.inotify_init1(IN_NONBLOCK | os.O_CLOEXEC)
        events = IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF
        if self._fd < 0 or libc.inotify_add_watch(self._fd, os.fsencode(path), events) < 0:
            why = os.strerror(ctypes.get_errno())
            self.close()
            raise NotNow(f"{path} cannot be watched: {why}", code="not_watched")
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def wait(self, seconds_max: float) -> bool:
        """Whether something came, as soon as it does and at the latest after this time."""
        if not self._poll.poll(seconds_max * 1000):
            return False
        os.read(self._fd, EVENT_BYTES)  # what it was is seen in the folder
        return True

    def close(self) -> None:
        """Stop hearing."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def file_system(path: Path) -> str:
    """The kind of file system that a folder is on, as `/proc/self/mountinfo` says; empty where nobody says."""
    try:
        device = os.stat(path).st_dev  # noqa: PTH116
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        place, _, kind = line.partition(" - ")
        if place.split()[2] == wanted:
            return kind.split()[0]
    return ""
