"""What an agent talks to beside the hub: its sources under observation, its sinks, and who pushes frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgewise.edge._period import Act
from edgewise.edge._pipelines import OpenSource, PipelinePart
from edgewise.edge._push import PushDoor
from edgewise.edge._rarely import Rarely, Voice
from edgewise.edge._sinks import OpenSink, Sinks
from edgewise.edge._watched_source import WatchedSource
from edgewise.edge.device import Device, Identity
from edgewise.frames import Decided
from edgewise.policy import may_name_frames
from edgewise.ports import Clock, Frame, PushSource, Source


class FieldSide:
    """The device's sources and sinks.

    Args:
        identity: the device and its use case.
        folder: the device's folder.
        clock: dates events.
        open_sink: opens a sink, for tests.
    """

    def __init__(self, identity: Identity, folder: Path, *, clock: Clock, open_sink: OpenSink | None = None) -> None:
        self._policy = identity.usecase.data
        self._names = may_name_frames(self._policy, "local-api")
        self.voice = Voice()
        self.sinks = Sinks(identity, folder, clock=clock, open_one=open_sink, write=self.voice)
        self.push = PushDoor(may_show=self._names)
        self.sources: dict[str, WatchedSource] = {}

    def fit(self, parts: Iterable[PipelinePart]) -> list[PipelinePart]:
        """The pipelines with their sources watched, and their decisions heard by sinks and by who pushed the frame.

        Raises:
            NotValid: a pipeline names a sink that the use case does not have.
        """
        return [
            replace(
                part,
                open_source=self._watched(part),
                act=self.sinks.heard(self._shown(part.act), part.sinks),
            )
            for part in parts
        ]

    def start(self, device: Device) -> None:
        """Begin to send what the sinks hear."""
        self.sinks.start(device)

    def close(self) -> None:
        """Send what waits for a moment; before the device is closed."""
        self.sinks.close()

    def _watched(self, part: PipelinePart) -> OpenSource:
        name, rarely = part.name, Rarely(f"source {part.name}", self._policy, self.voice)

        def opened(after: str | None) -> Source:
            try:
                inside = part.open_source(after)
            except Exception as error:
                if part.patient:  # it is opened again later; otherwise whoever started the agent is told
                    rarely.say("cannot be opened", error)
                raise
            if isinstance(inside, PushSource):
                self.push.add(inside)
            self.sources[name] = watched = WatchedSource(inside, name, self._policy, self.voice)
            return watched

        return opened

    def _shown(self, act: Act | None) -> Act:
        def acted(frame: Frame, decision: Decided) -> str | None:
            if self.push.names:
                self.push.decided(frame.name, decision)
            return act(frame, decision) if act is not None else None

        return acted

    # -- what is told --------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The state of sources and sinks, as far as the policy lets it be told on the device."""
        return {
            "sources": {
                name: {
                    "up": source.is_up,
                    "frames": source.frames,
                    "outages": source.outages,
                    "skipped": source.skipped,
                    "last_skip": source.last_skip if self._names else "",
                }
                for name, source in self.sources.items()
            },
            "sinks": self.sinks.status(),
        }
