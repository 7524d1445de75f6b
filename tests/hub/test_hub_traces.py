"""A trace follows what a device sends: into the hub's rows and lines, into the order, and to the worker's calls."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import httpx
import pytest

import loop_world
from edgewise.hub import labels, orders
from edgewise.hub.labels import NewLabel
from edgewise.hub.orders import OrderWish
from edgewise.hub.store import tables
from edgewise.ports.api import HubApi
from edgewise.ports.logs import LineFormatter, log_to, wants_json
from edgewise.wire.trace import HEADER, Trace, read_trace, trace_now, trace_of, tracing

TRACE = Trace(id="a" * 32, span="b" * 16)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the hub's loggers write meanwhile."""
    logger = logging.getLogger("edgewise")
    before = (logger.handlers[:], logger.propagate, logger.level)
    stream = io.StringIO()
    log_to("hub", form="json", stream=stream)
    yield stream
    logger.handlers[:], logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


def told(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        "00-short-b7ad6b7169203331-01",
        TRACE.header.upper(),
        "ff" + TRACE.header[2:],
        TRACE.header + "-more",
        "00-" + "0" * 32 + "-" + "b" * 16 + "-01",
        "00-" + "a" * 32 + "-" + "0" * 16 + "-01",
        "01-" + "9" * 500,
    ],
)
def test_a_header_that_is_none_is_ignored(text):
    assert read_trace(text) is None


def test_a_header_is_read_as_it_was_written_and_a_newer_version_too():
    assert read_trace(TRACE.header) == TRACE
    assert read_trace("01" + TRACE.header[2:] + "-more") == TRACE
    child = TRACE.child("hub")
    assert (child.id, child.span == TRACE.span) == (TRACE.id, False)


def test_a_trace_holds_inside_and_ends_with_it():
    with tracing(TRACE):
        assert trace_now() == TRACE
    assert trace_now() is None


def test_the_trace_of_a_contact_is_kept_with_its_segments_and_goes_to_the_order(yard):
    talker = yard.enrol("press-4")
    records = [talker.sample() for _ in range(8)]
    with tracing(TRACE):
        talker.send(*[talker.segment(number, record) for number, record in enumerate(records, start=1)])
    assert {row["trace"] for row in yard.rows(tables.segments)} == {TRACE.id}
    hub = yard.hub
    said = [NewLabel(record.id, "pit", None) for record in records]
    labels.set_labels(hub.store, said, who="ann", now=hub.now())
    wish, more = OrderWish(use_case="press"), {"now": hub.now(), "chance": hub.chance, "limits": hub.limits}
    with tracing(trace_of("an operator")):
        made = orders.create(hub.store, wish, who="ann", **more)
    assert made.trace == TRACE.id, "what was labelled last came with this trace"


def test_where_nothing_came_with_a_trace_the_order_has_that_of_the_hand(yard):
    yard.bring_in(*(("north", f"frame {number}", "", "pit") for number in range(8)))
    hub, hand = yard.hub, trace_of("an operator")
    wish, more = OrderWish(use_case="press"), {"now": hub.now(), "chance": hub.chance, "limits": hub.limits}
    with tracing(hand):
        assert orders.create(hub.store, wish, who="ann", **more).trace == hand.id


def test_a_contact_without_a_trace_is_stored_as_before(yard):
    talker = yard.enrol("press-4")
    assert talker.send(talker.segment(1, talker.telemetry())).watermark == 1
    assert [row["trace"] for row in yard.rows(tables.segments)] == [None]


def test_a_request_is_a_line_with_its_trace_and_one_without_gets_its_own(yard, lines):
    who = {"Authorization": f"Bearer {yard.hub.tokens.text('admin')}"}
    with loop_world.served(yard.hub) as url, httpx.Client(base_url=url, headers=who, timeout=60) as client:
        client.post("/api/v1/orders", json={"use_case": "none"}, headers={HEADER: TRACE.header})
        client.post("/api/v1/orders", json={"use_case": "none"})
        client.post("/api/v1/orders", json={"use_case": "none"}, headers={HEADER: "nonsense"})
        with tracing(TRACE), HubApi(url, yard.hub.tokens.text("admin")) as api:
            api.post("/enrolment-tokens", {"use_case": "press", "site": "north"})
        client.get("/api/v1/overview")
    found = told(lines)
    assert all(list(line)[:5] == ["at", "level", "part", "what", "text"] for line in found)
    seen = [line for line in found if line["what"] == "hub.request"]
    assert [line["status"] for line in seen] == [404, 404, 404, 201], "a look is no line"
    traces = [line["trace"] for line in seen]
    assert (traces[0], traces[3]) == (TRACE.id, TRACE.id)
    assert len(set(traces)) == 3
    assert seen[0]["route"] == "/orders"


def test_lines_are_a_sentence_at_a_terminal_and_json_elsewhere():
    stream = io.StringIO()
    assert wants_json("auto", stream)
    assert not wants_json("text", stream)
    formatter = LineFormatter("hub", as_json=False)
    record = logging.LogRecord("edgewise.hub", logging.WARNING, "", 0, "the disk is %s", ("full",), None)
    assert formatter.format(record).endswith("warning: the disk is full")
