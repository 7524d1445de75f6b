"""The hub's data folder: its format is written down, and one hub at a time uses it."""

from __future__ import annotations

import fcntl
import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

from edgewise.hub.store.tables import FORMAT_VERSION
from edgewise.ports import disk_error, replace_file
from edgewise.wire import NotNow, NotValid

FORMAT_FILE = "edgewise-hub.json"
LOCK_FILE = "hub.lock"
HOME_FILE = "hub.home"
# What may lie in the folder before a hub's first start: keys, tokens and settings that somebody put there.
OURS = (LOCK_FILE, "keys", "tokens", "hub.yaml")


class Folder:
    """A folder that this process holds until `close`.

    Raises:
        NotNow: another hub uses it, or no space.
        NotValid: it holds something else, or was made by another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()
        _check_kind(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] | None = (self.path / LOCK_FILE).open("a+")
        except OSError as error:
            raise disk_error(error, self.path) from error
        try:
            self._hold()
            _check_format(self.path)
        except BaseException:
            self.close()
            raise

    def home(self, new: str) -> str:
        """The folder's own name among the hubs of one database; `new` where it has none yet.

        The lock lets one process at a time use it, so whoever asks is the heir of everyone who did before.
        """
        place = self.path / HOME_FILE
        if not place.exists():
            replace_file(place, new.encode())
        return place.read_text()

    def close(self) -> None:
        """Let another hub use it."""
        if self._lock is not None:
            self._lock.close()  # closing gives the lock back
            self._lock = None

    def _hold(self) -> None:
        assert self._lock is not None
        try:
            # The system gives the lock back when the process ends, however it ends: no stale lock after a power cut.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            raise NotNow(
                f"another hub (process {holder}) uses {self.path}; stop it, or give this one another --data-dir",
                code="folder_in_use",
            ) from error
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()


def _check_kind(path: Path) -> None:
    """A folder full of other things is not made into a hub's by mistake."""
    if path.exists() and not path.is_dir():
        raise NotValid(f"{path} is not a folder; name a folder with --data-dir", code="not_a_folder")
    if path.is_dir() and not (path / FORMAT_FILE).exists():
        others = sorted(item.name for item in path.iterdir() if item.name not in OURS)
        if others:
            raise NotValid(
                f"{path} holds other things ({', '.join(others[:3])}) and no hub; name a new folder with --data-dir",
                code="data_dir_foreign",
            )


def _check_format(path: Path) -> None:
    place = path / FORMAT_FILE
    if not place.exists():
        text = json.dumps({"format": FORMAT_VERSION, "made_by": f"edgewise {software_version()}"})
        replace_file(place, text.encode() + b"\n")
        return
    try:
        seen = json.loads(place.read_text())["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotValid(
            f"{place} cannot be read ({error}); restore it from a backup, or start with a new --data-dir",
            code="data_dir_damaged",
        ) from error
    if seen != FORMAT_VERSION:
        raise NotValid(
            f"{path} has data of format {seen}, this edgewise {software_version()} needs format {FORMAT_VERSION}; "
            "run the version that made it, or start with a new --data-dir",
            code="data_dir_version",
        )


def software_version() -> str:
    try:
        return version("edgewise")
    except PackageNotFoundError:
        return "unknown"
