"""A source under observation: outages and frames passed over are counted, and said once instead of each time."""

from __future__ import annotations

from collections.abc import Callable

from edgewise.edge._rarely import Rarely
from edgewise.edge._say import write_line
from edgewise.ports import Frame, Source, await_frame
from edgewise.wire import DataPolicy, NotValid


class WatchedSource:
    """A source that behaves as the one inside. One thread asks it; others read its counts.

    Args:
        source: the one inside.
        name: for messages and metrics.
        policy: decides what of an error may be written down.
    """

    def __init__(
        self, source: Source, name: str, policy: DataPolicy, write: Callable[[str], None] = write_line
    ) -> None:
        self.inside = source
        self.name = name
        self.frames = 0
        self.outages = 0
        self.is_up = True
        self._outage = Rarely(f"source {name}", policy, write)
        self._skips = Rarely(f"source {name}", policy, write)
        self._was_said = False

    @property
    def skipped(self) -> int:
        return self.inside.skipped

    @property
    def last_skip(self) -> str:
        return self.inside.last_skip

    def next(self) -> Frame | None:
        try:
            frame = self.inside.next()
        except Exception as error:
            if self.is_up:
                self.is_up, self.outages = False, self.outages + 1
                self._was_said = self._outage.say("gives no frames", error)
            raise
        finally:
            passed = self.inside.skipped - self._skips.count
            if passed > 0:
                self._skips.say("passes over a frame", NotValid(self.inside.last_skip, code="skipped"), passed)
        if not self.is_up:
            self.is_up = True
            if self._was_said:
                self._outage.note("is back")
        if frame is not None:
            self.frames += 1
        return frame

    def wait(self, seconds_max: float) -> bool:
        return await_frame(self.inside, seconds_max)

    def close(self) -> None:
        self.inside.close()
