"""The order of sealing: a new alarm overtakes weeks of backlog, and neither old nor new records starve."""

import os
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.edge._outbox_order import ALARM, NEWEST_FIRST, TURNS, Waiting, choose
from edgewise.edge.outbox import Entry, Outbox, OutboxLimits, unpack
from edgewise.ports import SeededChance
from edgewise.wire import CLASSES, SEGMENTS_MAX, Event, loads

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXAMPLES = int(os.environ.get("EDGEWISE_EXAMPLES", "60"))


class Queue:
    """Waiting records by class, sealed by `choose`, a few at a time."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[int]] = {}
        self.made = self.alarm_sealed = 0
        self.number = 1

    def add(self, rank: int) -> int:
        self.made += 1
        self.waiting.setdefault(rank, []).append(self.made)
        return self.made

    def seal(self, records: int) -> tuple[int, list[int]] | None:
        ends = [Waiting(rank=rank, oldest=held[0], newest=held[-1]) for rank, held in self.waiting.items() if held]
        choice = choose(ends, number=self.number, alarm_sealed=self.alarm_sealed)
        if choice is None:
            return None
        held = self.waiting[choice.rank]
        taken = held[-records:] if choice.newest_first else held[:records]
        self.waiting[choice.rank] = [item for item in held if item not in taken]
        self.number += 1
        if choice.rank == ALARM:
            self.alarm_sealed = max(self.alarm_sealed, *taken)
        return choice.rank, taken


ranks = st.integers(0, len(CLASSES) - 1)


@given(st.lists(ranks, max_size=60), st.integers(0, 7))
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_new_alarm_is_in_the_very_next_segment_whatever_waits(backlog, sealed_before):
    queue = Queue()
    for rank in backlog:
        queue.add(rank)
    for _ in range(sealed_before):
        queue.seal(2)
    alarm = queue.add(ALARM)
    rank, taken = queue.seal(2)
    assert rank == ALARM
    assert alarm in taken


@given(st.lists(ranks, min_size=1, max_size=40), st.lists(ranks.filter(bool), min_size=1, max_size=6))
@settings(max_examples=EXAMPLES, deadline=None)
def test_the_oldest_record_is_sent_within_a_stated_number_of_segments_whatever_comes_in(backlog, stream):
    """Live data at a rate that the link cannot keep up with: still one segment of four is the backlog's."""
    queue = Queue()
    old = {queue.add(rank) for rank in backlog}
    for turn in range(len(TURNS) * len(backlog) + len(TURNS)):
        queue.add(stream[turn % len(stream)])
        _, taken = queue.seal(1)
        old -= set(taken)
    assert old == set()


@given(st.lists(ranks, min_size=1, max_size=40), ranks)
@settings(max_examples=EXAMPLES, deadline=None)
def test_the_newest_record_is_sent_within_four_segments_whatever_waits(backlog, rank):
    queue = Queue()
    for item in backlog:
        queue.add(item)
    queue.alarm_sealed = queue.made  # those alarms are of the backlog
    queue.number = 1 + len(backlog) % len(TURNS)
    newest = queue.add(rank)
    sent = [queue.seal(1) for _ in range(len(TURNS))]
    assert newest in {item for found in sent if found for item in found[1]}


@given(st.lists(ranks, min_size=1, max_size=40))
@settings(max_examples=EXAMPLES, deadline=None)
def test_half_of_the_segments_go_by_urgency(backlog):
    queue = Queue()
    for rank in backlog:
        queue.add(rank)
    while any(queue.waiting.values()):
        urgent = TURNS[(queue.number - 1) % len(TURNS)] == "urgent"
        first = min(rank for rank, held in queue.waiting.items() if held)
        rank, taken = queue.seal(1)
        if urgent:
            assert rank == first
        if urgent and rank in NEWEST_FIRST:
            assert all(item < taken[0] for item in queue.waiting[rank])


def _event(number: int, record_class: str) -> Entry:
    record = Event(id=f"{number:032x}", at=NOW + timedelta(seconds=number), what="started", text="x")
    return Entry(record=record, record_class=record_class, policy_version=1)


def test_an_alarm_raised_now_overtakes_three_weeks_of_backlog(tmp_path):
    """Real file: alarms, samples and telemetry of weeks, eight segments sealed; the new alarm is number nine."""
    box = Outbox(tmp_path, chance=SeededChance(0), limits=OutboxLimits(reserve_bytes=0, segment_records_max=10))
    for record_class in ("alarm", "telemetry", "sample"):
        start = 1000 * (1 + CLASSES.index(record_class))
        box.add_many([_event(start + number, record_class) for number in range(300)])
    assert box.seal(NOW) == SEGMENTS_MAX
    box.add(_event(99_999, "alarm"))
    box.ack(1)
    assert box.seal(NOW) == 1
    newest = box.open_segments()[-1]
    assert newest.number == SEGMENTS_MAX + 1
    assert f"{99_999:032x}" in [loads(line)["id"] for line in unpack(box.payload(newest.number))]
    # The order stays the same after a start: it hangs on numbers that are in the file.
    box.close()
    again = Outbox(tmp_path, chance=SeededChance(1), limits=OutboxLimits(reserve_bytes=0, segment_records_max=10))
    again.ack(again.next_number - 1)
    again.seal(NOW)
    # By urgency and by age the alarms of the backlog, by newness the samples; telemetry is between them.
    assert {item.record_class for item in again.open_segments()} == {"alarm", "sample"}
    again.close()


def test_records_inside_a_segment_are_in_the_order_in_which_they_were_made(tmp_path):
    box = Outbox(tmp_path, chance=SeededChance(0), limits=OutboxLimits(reserve_bytes=0, segment_records_max=3))
    box.add_many([_event(number, "feedback") for number in range(1, 6)])
    box.seal(NOW)
    sent = [[int(loads(line)["id"], 16) for line in unpack(box.payload(number))] for number in (1, 2)]
    assert sent == [[3, 4, 5], [1, 2]]
    box.close()
