"""The state of a training on disk, so that one that was ended goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edgewise.ports import replace_file
from edgewise.wire import EdgewiseError, digest

EVERY_S = 20.0
SUFFIX = ".checkpoint"
KEPT_MAX = 4  # of other orders: what a worker that lost them left behind


class Checkpoint:
    """One training's file, written whole or not at all.

    Args:
        path: of the file; its folder must exist.
        key: what the state belongs to; a state of anything else is as good as none.
        every_s: seconds between two writes.
    """

    def __init__(
        self, path: Path, key: str, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self._key = digest(key.encode())
        self._every_s = every_s
        self._clock = clock
        self._written_at = clock()

    @property
    def is_due(self) -> bool:
        """Whether it is time to write again."""
        return self._clock() - self._written_at >= self._every_s

    def write(self, state: bytes) -> None:
        """Keep a state in place of the one before. A disk that refuses costs the checkpoint, not the training."""
        self._written_at = self._clock()
        try:
            replace_file(self.path, self._key.encode() + digest(state).encode() + state, mode=0o600)
        except EdgewiseError:
            return

    def read(self) -> bytes | None:
        """The state that was written last; None where there is none, or not one of this training, whole."""
        try:
            data = self.path.read_bytes()
        except OSError:
            return None
        key, told, state = data[:64], data[64:128], data[128:]
        if key != self._key.encode() or told != digest(state).encode():
            return None
        return state

    def delete(self) -> None:
        """The training has ended; nothing of it is needed."""
        self.path.unlink(missing_ok=True)


def tidy(folder: Path, keep: Path) -> None:
    """Delete the oldest files beside one, until few are left."""
    others = [path for path in folder.glob(f"*{SUFFIX}") if path != keep]
    for path in sorted(others, key=lambda one: one.stat().st_mtime)[: max(0, len(others) - KEPT_MAX)]:
        path.unlink(missing_ok=True)
