"""Sinks: never in the way of a decision, asked of the policy first, and reported as sent only when it is true."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter

from edgewise.edge._field import FieldSide
from edgewise.edge._pipelines import PipelinePart
from edgewise.edge._rarely import Rarely
from edgewise.edge._sink_queue import Offer, SinkQueue
from edgewise.edge._sinks import Sinks
from edgewise.edge.device import Identity
from edgewise.policy import may_leave
from edgewise.ports import Frame, ListSource, MemoryClock, MemorySink
from edgewise.wire import DataPolicy, Decision, NotNow, NotValid, SinkEvent, SinkSpec
from field_servers import Hook, until

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPEC: TypeAdapter[SinkSpec] = TypeAdapter(SinkSpec)
DOWN = NotNow("nobody answers", code="down")


def decision(label: str = "crack", confidence: float = 0.9) -> Decision:
    return Decision(
        label=label, confidence=confidence, defect=confidence, margin=0.5, release="parts@1", bundle="b" * 64
    )


class Rig:
    """One queue, its sink in memory, and a clock that moves when told."""

    def __init__(self, *, leave: bool = True, **spec: Any) -> None:
        self.clock = MemoryClock(NOW)
        self.sink = MemorySink()
        self.opened = 0
        self.open_errors: list[Exception] = []
        self.durable: set[str] | None = None  # None: everything is
        self.lines: list[str] = []
        self.policy = DataPolicy(leave=("sink", "log") if leave else ("log",))
        self.count = 0
        self.queue = SinkQueue(
            SPEC.validate_python({"kind": "console", "name": "s", "events": ["decision", "alarm"]} | spec),
            open_sink=self._open,
            make=self._make,
            may_send=lambda: may_leave(self.policy, "sink"),
            is_durable=lambda name: self.durable is None or name in self.durable,
            clock=self.clock,
            rarely=Rarely("sink s", self.policy, self.lines.append),
        )

    def _open(self) -> MemorySink:
        if self.open_errors:
            raise self.open_errors.pop(0)
        self.opened += 1
        return self.sink

    def _make(self, offer: Offer) -> SinkEvent:
        return SinkEvent(
            id=f"{int(offer.frame[1:]):032x}", event=offer.event, at=offer.at, device="d1", site="north",
            use_case="parts", frame=offer.frame, label=offer.decision.label, confidence=offer.decision.confidence,
            margin=0.5, bundle="b" * 64, text=offer.text,
        )  # fmt: skip

    def offer(self, event: str = "decision", label: str = "crack", confidence: float = 0.9, **facts: Any) -> str:
        self.count += 1
        self.queue.offer(
            Offer(
                event=event, frame=f"f{self.count}", group="", facts=facts, decision=decision(label, confidence),
                text="stop" if event == "alarm" else "", at=self.clock.now(), at_s=self.clock.monotonic_s(),
            )
        )  # fmt: skip
        return f"f{self.count}"

    def turns(self, seconds: float = 0.0) -> None:
        """Work until nothing is to be done now, then let time pass and work again."""
        end = self.clock.monotonic_s() + seconds
        while True:
            pause_s = self.queue.turn()
            if pause_s == 0:
                continue
            if self.clock.monotonic_s() >= end:
                return
            self.clock.advance(min(pause_s, end - self.clock.monotonic_s()) + 1e-6)

    def sent(self) -> list[str]:
        return [item.frame for item in self.sink.events]

    def counts(self) -> dict[str, dict[str, int]]:
        return {name: counts for name, counts in self.queue.counts.plain().items() if counts}


def test_what_is_offered_is_sent_in_order_alarms_first():
    rig = Rig()
    names = [rig.offer(), rig.offer(), rig.offer("alarm")]
    rig.turns()
    assert rig.sent() == [names[2], names[0], names[1]]
    assert rig.counts() == {"sent": {"alarm": 1, "decision": 2}}
    assert (rig.opened, rig.queue.waiting) == (1, 0)


def test_a_sink_hears_only_what_it_is_meant_for():
    rig = Rig(
        events=["decision"], labels=["crack", "pit"],
        when=[{"fact": "confidence", "op": "ge", "value": 0.8}, {"fact": "line", "op": "eq", "value": 4}],
    )  # fmt: skip
    rig.offer("alarm", line=4)
    rig.offer(label="good", line=4)
    rig.offer(confidence=0.5, line=4)
    rig.offer(line=5)
    rig.offer()
    wanted = [rig.offer(line=4), rig.offer(label="pit", line=4)]
    rig.turns()
    assert rig.sent() == wanted
    assert rig.counts() == {"sent": {"decision": 2}}


def test_over_its_bound_decisions_are_shed_before_alarms_and_oldest_first():
    rig = Rig(queue_max=3)
    kept = [rig.offer("alarm"), rig.offer("alarm")]
    rig.offer()
    rig.offer()
    newest = rig.offer()
    assert rig.queue.waiting == 3
    rig.turns()
    assert rig.sent() == [*kept, newest]
    assert rig.counts() == {"shed": {"decision": 2}, "sent": {"alarm": 2, "decision": 1}}


def test_a_failure_is_tried_again_with_longer_pauses_and_said_rarely():
    rig = Rig(retry_s_min=1, retry_s_max=8, attempts_max=6)
    rig.sink.answers = [DOWN] * 5
    rig.offer("alarm")
    tries = []
    for _ in range(40):
        rig.turns()
        tries.append(rig.sink.tries)
        rig.clock.advance(1)
    assert [tries.index(count) for count in range(1, 7)] == [0, 1, 3, 7, 15, 23]
    assert rig.counts() == {"sent": {"alarm": 1}}
    assert rig.queue.error is None
    assert rig.lines == ["edgewise sink s does not take events: NotNow: nobody answers"]


def test_after_its_last_try_an_event_is_given_up_and_the_next_one_has_all_of_its_own():
    rig = Rig(retry_s_min=1, retry_s_max=1, attempts_max=3)
    rig.sink.answers = [DOWN] * 5
    rig.offer("alarm")
    second = rig.offer("alarm")
    rig.turns(60)
    assert rig.sent() == [second]
    assert rig.sink.tries == 6
    assert rig.counts() == {"failed": {"alarm": 1}, "sent": {"alarm": 1}}


def test_what_will_never_be_taken_is_not_tried_again():
    rig = Rig()
    rig.sink.answers = [NotValid("answers 400")]
    rig.offer()
    second = rig.offer()
    rig.turns()
    assert (rig.sent(), rig.sink.tries) == ([second], 2)
    assert rig.counts() == {"failed": {"decision": 1}, "sent": {"decision": 1}}


def test_an_event_over_its_age_is_not_sent():
    rig = Rig(age_s_max=5, retry_s_min=4, retry_s_max=4)
    rig.sink.answers = [DOWN]
    rig.offer()
    rig.turns(3)
    rig.offer()
    rig.turns(10)
    assert rig.sent() == ["f1", "f2"]
    rig.sink.answers = [DOWN, DOWN]
    rig.offer()
    rig.turns(20)
    assert rig.counts() == {"sent": {"decision": 2}, "late": {"decision": 1}}


def test_an_alarm_is_sent_when_it_is_delivered_and_durable_both():
    rig = Rig()
    rig.durable = set()
    rig.offer("alarm")
    rig.offer()
    rig.turns()
    assert rig.sent() == ["f1", "f2"], "a full disk holds nobody up"
    assert rig.counts() == {"sent": {"decision": 1}}
    assert rig.queue.unconfirmed == 1
    rig.durable = {f"{1:032x}"}
    rig.turns()
    assert rig.counts() == {"sent": {"alarm": 1, "decision": 1}}
    assert rig.queue.unconfirmed == 0


def test_a_policy_that_lets_nothing_leave_is_asked_before_anything_is_opened():
    rig = Rig(leave=False)
    for _ in range(1000):
        rig.offer()
    rig.turns(60)
    assert (rig.opened, rig.sink.tries) == (0, 0)
    assert rig.counts() == {"forbidden": {"decision": 1000}}
    assert len(rig.lines) <= 4
    assert "sink may not leave the device" in rig.lines[0]


def test_a_sink_that_cannot_be_opened_is_tried_again_and_its_events_wait():
    rig = Rig(retry_s_min=1, retry_s_max=2, attempts_max=1)
    rig.open_errors = [NotValid("no such secret")] * 10
    rig.offer()
    rig.turns(60)
    assert rig.sent() == ["f1"]
    assert len(rig.lines) == 2


def test_an_idle_sink_is_looked_after_and_its_trouble_told():
    rig = Rig()
    rig.turns()
    assert rig.sink.idles == 1

    def lost() -> None:
        raise DOWN

    rig.sink.idle = lost
    rig.turns(3)
    assert rig.queue.error == "nobody answers"
    assert rig.counts() == {}
    assert len(rig.lines) == 1


def test_at_the_end_what_waits_has_one_more_try_and_the_rest_is_counted():
    rig = Rig()
    rig.offer()
    rig.queue.close()
    assert rig.sent() == ["f1"]
    assert rig.sink.is_closed
    broken = Rig()
    broken.sink.answers = [DOWN] * 9
    broken.offer()
    broken.offer("alarm")
    broken.queue.close()
    assert broken.counts() == {"shed": {"decision": 1, "alarm": 1}}
    assert broken.sink.is_closed


def test_whatever_a_library_raises_the_thread_goes_on():
    rig = Rig(retry_s_min=1, retry_s_max=1)
    rig.sink.answers = [ZeroDivisionError("in a library")]
    rig.offer()
    rig.turns(5)
    assert rig.sent() == ["f1"]


# -- with a device -----------------------------------------------------------------------------------------------------

LEAVE = ["sample", "telemetry", "report", "alarm", "audit", "local-api"]


def with_sinks(fleet, make_usecase, *, opened: Any, leave: list[str], act: Any = None, fields: Any = None, **spec: Any):
    """A device of the bench whose decisions go to one sink; nothing runs in threads of its own."""
    sink = {"kind": "console", "name": "s", "events": ["decision", "alarm"], **spec}
    data = {"data_class": "measurement", "transforms": [], "leave": leave}
    data |= {} if fields is None else {"fields": fields}
    case = make_usecase(sinks=[sink], data=data)
    identity = Identity(device="d1", site="north", use_case="parts", usecase=case, root=fleet.root)
    field = FieldSide(identity, fleet.folder, clock=fleet.clock, open_sink=lambda _: opened)
    part = field.fit([PipelinePart(open_source=lambda _: ListSource(), act=act, patient=False)])[0]
    device = fleet.device(act=part.act, data=data, sinks=[sink])
    field.sinks.bind(device)
    fleet.assign(fleet.release(1))
    fleet.run(device, 30)
    return device, field


def drained(field: FieldSide) -> None:
    queue = field.sinks.queues["s"]
    while queue.turn() == 0:
        continue


def test_decisions_and_alarms_of_a_device_reach_its_sink(fleet, make_usecase):
    memory = MemorySink()
    device, field = with_sinks(
        fleet, make_usecase, opened=memory, leave=[*LEAVE, "sink"], act=lambda frame, _: f"look at {frame.name}"
    )
    fleet.feed(1)
    assert fleet.run(device, 1) == 1
    drained(field)
    assert [(item.event, item.frame) for item in memory.events] == [("alarm", "f000000"), ("decision", "f000000")]
    alarm = memory.events[0]
    assert alarm.text == "look at f000000"
    assert (alarm.device, alarm.site, alarm.use_case, alarm.release) == ("d1", "north", "parts", "parts@1")
    assert field.status()["sinks"]["s"]["sent"] == {"alarm": 1, "decision": 1}
    assert device.outbox.held(alarm.id), "the alarm of the outbox and that of the sink are the same one"
    device.close(fleet.clock.now())


def test_an_alarm_is_not_reported_as_sent_before_it_is_durable(fleet, make_usecase):
    """Invariant 1 of sinks: delivered at once, reported as sent when the outbox holds it."""
    memory = MemorySink()
    device, field = with_sinks(fleet, make_usecase, opened=memory, leave=[*LEAVE, "sink"], act=lambda *_: "stop")
    fleet.feed(1)
    device.decide_step(fleet.clock.now())
    drained(field)
    assert [item.event for item in memory.events] == ["alarm", "decision"]
    assert field.status()["sinks"]["s"]["sent"] == {"decision": 1}
    device.record_step(fleet.clock.now())
    drained(field)
    assert field.status()["sinks"]["s"]["sent"] == {"alarm": 1, "decision": 1}
    device.close(fleet.clock.now())


def test_nothing_leaves_by_a_sink_unless_the_policy_lists_it(fleet, make_usecase):
    memory = MemorySink()
    device, field = with_sinks(fleet, make_usecase, opened=memory, leave=LEAVE, act=lambda *_: "stop")
    fleet.feed(5)
    assert fleet.run(device, 5) == 5
    drained(field)
    assert (memory.tries, memory.idles) == (0, 0)
    assert field.status()["sinks"]["s"]["forbidden"] == {"alarm": 5, "decision": 5}
    device.close(fleet.clock.now())


def test_names_and_facts_that_may_not_travel_do_not_leave_by_a_sink(fleet, make_usecase):
    memory = MemorySink()
    device, field = with_sinks(
        fleet, make_usecase, opened=memory, leave=[*LEAVE, "sink"], fields=["line"],
        act=lambda frame, _: f"{frame.name}: call {frame.facts['operator']} of line {frame.facts['line']}",
    )  # fmt: skip
    fleet.source.add(fleet.frame(7, operator="Ada Person", line=4))
    assert fleet.run(device, 1) == 1
    drained(field)
    text = "".join(item.model_dump_json() for item in memory.events)
    assert len(memory.events) == 2
    assert "Ada" not in text
    assert "f000007" not in text
    assert memory.events[0].facts == {"line": 4}
    device.close(fleet.clock.now())


def test_a_device_whose_policy_is_outdated_sends_nothing_by_a_sink(fleet, make_usecase):
    memory = MemorySink()
    device, field = with_sinks(fleet, make_usecase, opened=memory, leave=[*LEAVE, "sink"])
    device.keeper.policy_known = False
    fleet.feed(1)
    fleet.run(device, 1)
    device.keeper.policy_known = False
    drained(field)
    assert memory.events == []
    device.close(fleet.clock.now())


def test_an_app_that_fails_does_not_keep_the_decision_from_the_sink(fleet, make_usecase):
    memory = MemorySink()

    def act(*_: Any) -> str:
        raise ZeroDivisionError

    device, field = with_sinks(fleet, make_usecase, opened=memory, leave=[*LEAVE, "sink"], act=act)
    fleet.feed(1)
    assert fleet.run(device, 1) == 1
    drained(field)
    assert [item.event for item in memory.events] == ["decision"]
    device.close(fleet.clock.now())


def test_no_decision_waits_for_a_sink(fleet, make_usecase):
    """Invariant 1: a sink that hangs for ever, in its own thread, and a thousand decisions that do not notice."""
    hangs, free = threading.Event(), threading.Event()

    class Stuck(MemorySink):
        def send(self, event: SinkEvent) -> None:
            self.events.append(event)
            hangs.set()
            free.wait(30)

    device, field = with_sinks(fleet, make_usecase, opened=Stuck(), leave=[*LEAVE, "sink"], queue_max=100)
    field.start(device)
    fleet.feed(1)
    fleet.run(device, 1)
    assert hangs.wait(10)
    fleet.feed(1000)
    slowest_s, made = 0.0, 0
    for _ in range(1000):
        began = time.perf_counter()
        made += device.decide_step(fleet.clock.now()) is not None
        slowest_s = max(slowest_s, time.perf_counter() - began)
    assert made == 1000
    assert slowest_s < 1.0
    assert field.status()["sinks"]["s"]["waiting"] == 101
    assert field.status()["sinks"]["s"]["shed"] == {"decision": 900}
    free.set()
    field.close()
    device.close(fleet.clock.now())


def test_a_real_receiver_that_is_busy_gets_each_event_in_the_end(fleet, make_usecase, tmp_path):
    hook = Hook()
    hook.answers = [503, 429]
    case = make_usecase(
        sinks=[{"kind": "webhook", "name": "s", "url": hook.url, "events": ["decision"], "retry_s_min": 0.05}],
        data={"data_class": "measurement", "transforms": [], "leave": [*LEAVE, "sink"]},
    )
    identity = Identity(device="d1", site="north", use_case="parts", usecase=case, root=fleet.root)
    from edgewise.ports import SystemClock

    sinks = Sinks(identity, tmp_path, clock=SystemClock())
    act = sinks.heard(None, None)
    assert act is not None
    device = fleet.device()
    sinks.start(device)
    frames = [
        Frame(name=f"f{n}", data=b"", media_type="image/jpeg", taken_at=NOW + timedelta(seconds=n)) for n in range(3)
    ]
    for frame in frames:
        act(frame, decision())
    until(lambda: sinks.status()["s"]["sent"].get("decision") == 3, "all are sent")
    keys = [headers["idempotency-key"] for headers, _ in hook.posts]
    assert keys[0] == keys[1] == keys[2], "the same event under the same key until it is taken"
    assert len(keys) == 5
    assert len(set(keys)) == 3
    sinks.close()
    hook.close()
    device.close(fleet.clock.now())


def test_a_pipeline_that_names_no_sink_of_the_use_case_is_refused(fleet, make_usecase):
    identity = Identity(device="d1", site="north", use_case="parts", usecase=make_usecase(), root=fleet.root)
    field = FieldSide(identity, fleet.folder, clock=fleet.clock)
    with pytest.raises(NotValid, match="no sink is named siren; the use case has none"):
        field.fit([PipelinePart(open_source=lambda _: ListSource(), sinks=("siren",))])


def test_a_correction_by_a_large_bundle_is_no_repetition_of_what_it_corrects(fleet, make_usecase, tmp_path):
    case = make_usecase(
        sinks=[{"kind": "console", "name": "s", "events": ["decision", "alarm"]}],
        data={"data_class": "measurement", "transforms": [], "leave": [*LEAVE, "sink"]},
    )
    identity = Identity(device="d1", site="north", use_case="parts", usecase=case, root=fleet.root)
    sink = MemorySink()
    sinks = Sinks(identity, tmp_path, clock=fleet.clock, open_one=lambda _spec: sink)
    act = sinks.heard(None, None)
    assert act is not None
    sinks.bind(fleet.device())
    frame = Frame(name="f1", data=b"", media_type="image/jpeg", taken_at=NOW)
    act(frame, decision("good"))
    act(frame, decision("crack").model_copy(update={"deferred": True}))
    while sinks.queues["s"].turn() == 0:
        pass
    first, second = sink.events
    assert (first.label, first.deferred) == ("good", None)
    assert (second.label, second.deferred) == ("crack", True)
    assert first.id != second.id  # a receiver drops what it has seen under the same id
