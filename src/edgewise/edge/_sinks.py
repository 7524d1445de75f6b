"""The sinks of a device: who hears what, and what became of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from edgewise.edge._erasing import Covers
from edgewise.edge._keeper import NAME_KEY
from edgewise.edge._period import Act
from edgewise.edge._rarely import Rarely
from edgewise.edge._say import write_line
from edgewise.edge._sink_queue import Offer, SinkQueue
from edgewise.edge.device import Device, Identity
from edgewise.edge.private import event_id
from edgewise.frames import Decided
from edgewise.policy import Forbidden, frame_name, hide_words, may_leave, may_name_frames, private_facts, subject_of
from edgewise.ports import Clock, Frame, Sink, open_sink
from edgewise.wire import NotValid, SinkEvent, SinkSpec
from edgewise.wire.sinks import SinkKind

JOIN_S_MAX = 5.0
OpenSink = Callable[[SinkSpec], Sink]


class Sinks:
    """Every sink of the use case, each with a queue and a thread of its own.

    Args:
        identity: the device and its use case, which names the sinks and whose policy is asked.
        folder: the device's folder.
        clock: dates events.
        open_one: opens a sink; `ports.open_sink` where not given.
        write: takes a line about what goes wrong.
    """

    def __init__(
        self,
        identity: Identity,
        folder: Path,
        *,
        clock: Clock,
        open_one: OpenSink | None = None,
        write: Callable[[str], None] = write_line,
    ) -> None:
        self._write = write
        self._identity = identity
        self._policy = identity.usecase.data
        self._clock = clock
        self._device: Device | None = None
        self._name_key = b""
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        opening: OpenSink = open_one or (
            lambda spec: open_sink(spec, folder=folder, device=identity.device, clock=clock)
        )
        self.queues = {spec.name: self._queue(spec, opening) for spec in identity.usecase.sinks}

    def _queue(self, spec: SinkSpec, opening: OpenSink) -> SinkQueue:
        return SinkQueue(
            spec,
            open_sink=lambda: opening(spec),
            make=self._event,
            may_send=self._may_send,
            is_durable=self._is_durable,
            clock=self._clock,
            rarely=Rarely(f"sink {spec.name}", self._policy, self._write),
        )

    # -- before the device is there ------------------------------------------------------------------------------------

    def heard(self, act: Act | None, names: Collection[str] | None) -> Act | None:
        """The app's function, with the sinks of these names told of each decision and alarm; all sinks for None.

        Raises:
            NotValid: a name that is no sink of the use case.
        """
        unknown = sorted(set(names or ()) - set(self.queues))
        if unknown:
            known = ", ".join(self.queues) or "none"
            raise NotValid(f"no sink is named {', '.join(unknown)}; the use case has {known}", code="sink_unknown")
        queues = [queue for name, queue in self.queues.items() if names is None or name in names]
        if not queues:
            return act

        def acted(frame: Frame, decision: Decided) -> str | None:
            text = None
            try:
                text = act(frame, decision) if act is not None else None
            finally:  # the decision stands whatever the app raises
                self._tell(queues, "decision", frame, decision, "")
                if text is not None:
                    self._tell(queues, "alarm", frame, decision, text)
            return text

        return acted

    def _tell(self, queues: Sequence[SinkQueue], kind: SinkKind, frame: Frame, decision: Decided, text: str) -> None:
        wanting = [queue for queue in queues if queue.wants(kind, decision.label)]
        if not wanting:
            return
        offer = Offer(
            event=kind,
            frame=frame.name,
            group=frame.group,
            facts=frame.facts,
            decision=decision,
            text=text,
            at=self._clock.now(),
            at_s=self._clock.monotonic_s(),
        )
        for queue in wanting:
            queue.offer(offer)

    # -- while the device runs -----------------------------------------------------------------------------------------

    def start(self, device: Device) -> None:
        """Begin to send."""
        self.bind(device)
        for name, queue in self.queues.items():
            thread = threading.Thread(target=queue.run, args=(self._stop,), name=f"edgewise-sink-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def bind(self, device: Device) -> None:
        """Learn from this device what is durable, and by which key names are hidden."""
        self._device = device
        self._name_key = device.outbox.state(NAME_KEY) or b""
        device.eraser.others.append(self._forget)

    def close(self) -> None:
        """Send what waits for a moment, and let go; before the device is closed, which knows what is durable."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=JOIN_S_MAX)
        if not self._threads:
            for queue in self.queues.values():
                queue.close()

    def status(self) -> dict[str, Any]:
        """Each sink's state and counts."""
        names = may_name_frames(self._policy, "local-api")
        return {
            name: {
                "kind": queue.spec.kind,
                "waiting": queue.waiting,
                "unconfirmed": queue.unconfirmed,
                "error": queue.error if names or queue.error is None else "it fails; the policy lets no words leave",
                **queue.counts.plain(),
            }
            for name, queue in self.queues.items()
        }

    # -- small parts ---------------------------------------------------------------------------------------------------

    def _forget(self, covers: Covers) -> None:
        """Drop what waits for the sinks and is about somebody who is to be forgotten."""
        for queue in self.queues.values():
            queue.forget(lambda offer: covers(subject_of(offer.facts, offer.group), offer.at))

    def _may_send(self) -> None:
        may_leave(self._policy, "sink")
        if self._device is not None and not self._device.keeper.policy_known:
            raise Forbidden(
                "the hub has a newer policy than this device knows; nothing leaves until it is enrolled again"
            )

    def _is_durable(self, record_id: str) -> bool:
        return self._device is not None and self._device.outbox.held(record_id)

    def _event(self, offer: Offer) -> SinkEvent:
        policy, identity, decision = self._policy, self._identity, offer.decision
        name = frame_name(policy, offer.frame, self._name_key)
        # A correction is another decision on the same frame; an alarm on a frame is one alarm, whoever raised it.
        what = "deferred decision" if decision.deferred and offer.event == "decision" else offer.event
        return SinkEvent(
            id=event_id(identity.device, what, name),
            event=offer.event,
            at=offer.at,
            device=identity.device,
            site=identity.site,
            use_case=identity.use_case,
            frame=name,
            label=decision.label,
            confidence=decision.confidence,
            defect=decision.defect,
            margin=decision.margin,
            stated=decision.stated,
            release=decision.release,
            bundle=decision.bundle,
            deferred=decision.deferred,
            text=hide_words(policy, offer.text, frame=offer.frame, group=offer.group, facts=offer.facts)[:500],
            facts=private_facts(policy, offer.facts),
        )
