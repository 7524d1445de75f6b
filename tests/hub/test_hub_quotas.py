"""One device cannot starve the others, and a hub with too much to do says when to come again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.edge._contacts import Contacts
from edgewise.hub.api.device import Answer, RawRoute
from edgewise.hub.limits import Limits
from edgewise.hub.quotas import OverQuota, Quotas, note
from edgewise.hub.store import tables
from edgewise.ports import LinkDown, SeededChance

START = datetime(2026, 3, 1, tzinfo=UTC)
LIMITS = Limits(device_contacts_per_s=2, device_contacts_burst=10, device_bytes_per_s=100, device_bytes_burst=1000)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_a_burst_is_let_through_then_the_rate_and_others_are_not_touched():
    quotas = Quotas(LIMITS)
    for _ in range(10):
        quotas.take("one", START, contacts=1)
    with pytest.raises(OverQuota, match="may go on in 1 s") as caught:
        quotas.take("one", START, contacts=1)
    assert (caught.value.code, caught.value.retry_s) == ("over_quota", 1)
    quotas.take("two", START, contacts=1)
    quotas.take("one", after(0.5), contacts=1)
    with pytest.raises(OverQuota):
        quotas.take("one", after(0.5), contacts=1)


def test_something_larger_than_the_whole_account_passes_once_and_is_paid_back():
    quotas = Quotas(LIMITS)
    quotas.take("one", START, size_bytes=5000)
    with pytest.raises(OverQuota) as caught:
        quotas.take("one", after(1), size_bytes=1)
    assert caught.value.retry_s == 40
    quotas.take("one", after(1 + caught.value.retry_s), size_bytes=1)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 3)), max_size=60))
def test_whatever_a_device_does_it_gets_no_more_than_burst_and_rate(calls):
    quotas, now_s, taken, largest = Quotas(LIMITS), 0.0, 0, 0
    for pause_s, count in calls:
        now_s += pause_s
        largest = max(largest, count)
        try:
            quotas.take("one", after(now_s), contacts=count)
        except OverQuota as error:
            quotas.take("one", after(now_s + error.retry_s), contacts=0)
            now_s += error.retry_s
        else:
            taken += count
    assert taken <= LIMITS.device_contacts_burst + LIMITS.device_contacts_per_s * now_s + largest


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing():
    quotas = Quotas(LIMITS)
    for _ in range(10):
        quotas.take("one", after(100), contacts=1)
    with pytest.raises(OverQuota):
        quotas.take("one", START, contacts=1)


def test_accounts_are_bounded():
    quotas = Quotas(Limits(known_devices_max=3))
    for number in range(10):
        quotas.take(f"device-{number}", START, contacts=1)
    assert len(quotas._accounts) == 3


def test_a_device_over_its_quota_is_written_down_once_an_hour(yard):
    quotas = Quotas(LIMITS)
    for minute in (0, 1, 59, 61):
        now = after(minute * 60)
        quotas.take("one", now, contacts=100)
        with pytest.raises(OverQuota) as caught:
            quotas.take("one", now, contacts=1)
        note(yard.hub.store, caught.value, now)
    rows = [row for row in yard.rows(tables.audit) if row["action"] == "device.over_quota"]
    assert [row["subject"] for row in rows] == ["one", "one"]


def ask(route: RawRoute) -> list[dict[str, object]]:
    """What a route sends to one request with an empty body."""

    async def call() -> list[dict[str, object]]:
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b"", "path_params": {}}
        await route(scope, receive, send)
        return sent

    return asyncio.run(call())


def test_more_contacts_than_are_taken_at_once_are_told_when_to_come_again(yard):
    route = RawRoute(yard.hub, lambda _: Answer(), for_devices=False, at_once_max=0)
    seconds = set()
    for _ in range(20):
        start, body = ask(route)
        headers = dict(start["headers"])
        assert start["status"] == 429
        assert b"too_busy" in body["body"]
        assert b"the most that this hub takes at once" in body["body"]
        seconds.add(int(headers[b"retry-after"]))
    assert min(seconds) >= 5
    assert max(seconds) <= 15
    assert len(seconds) > 3  # a fleet does not come back all at once
    assert ask(RawRoute(yard.hub, lambda _: Answer(), for_devices=False, at_once_max=1))[0]["status"] == 200


@pytest.mark.parametrize(("said_s", "least"), [(None, 0), (500, 500)])
def test_a_device_comes_back_no_sooner_than_it_was_told(said_s, least):
    pauses = []
    for seed in range(20):
        contacts = Contacts(*[None] * 4, chance=SeededChance(seed), contact_s=60, report=lambda _: None)
        error = LinkDown("busy", retry_s=said_s)
        contacts._failed(str(error), error.code, START, least_s=error.retry_s or 0)
        assert contacts.next_at is not None
        pauses.append((contacts.next_at - START).total_seconds())
    assert min(pauses) >= max(least, 48)
    assert len({round(pause) for pause in pauses}) > 5
