"""The audit chain: no past entry can change unseen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.trust import GENESIS, AuditEntry, first_broken, next_entry
from edgewise.wire import NotValid, decode, encode

START = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.floats(-1e15, 1e15) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def chain(length: int, **change: Any) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for index in range(length):
        at = START + timedelta(seconds=index)
        fields = {"actor": "ann", "action": "release.sign", "subject": f"s@{index}", "data": {"n": index}, **change}
        entries.append(next_entry(entries[-1] if entries else None, at=at, **fields))
    return entries


def test_a_chain_holds_and_starts_at_genesis() -> None:
    entries = chain(5)
    assert entries[0].previous == GENESIS
    assert [entry.index for entry in entries] == [0, 1, 2, 3, 4]
    assert first_broken(entries) is None
    assert first_broken([]) is None
    assert first_broken(entries[3:], previous=entries[2]) is None


@given(data=st.dictionaries(st.text(max_size=8), plain_values, max_size=4), hours=st.integers(-12, 12))
def test_an_entry_holds_after_a_trip_through_json_and_another_time_zone(data: dict[str, Any], hours: int) -> None:
    entry = next_entry(None, at=START, actor="ann", action="a", subject="s", data=data)
    again = decode(AuditEntry, encode(entry))
    moved = again.model_copy(update={"at": again.at.astimezone(timezone(timedelta(hours=hours)))})
    assert first_broken([moved]) is None


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "eve"},
        {"action": "release.refuse"},
        {"subject": "s@9"},
        {"data": {"n": 2, "more": True}},
        {"at": START + timedelta(hours=1)},
        {"index": 7},
        {"previous": "f" * 64},
        {"hash": "f" * 64},
        {"added_later": "x"},
        {"data": {"n": 2**60}},
    ],
)
def test_any_change_of_an_entry_is_found_at_that_entry(change: dict[str, Any]) -> None:
    entries = chain(5)
    entries[2] = AuditEntry.model_validate({**entries[2].model_dump(), **change})
    assert first_broken(entries) == 2


def test_a_removed_swapped_or_rehashed_entry_is_found() -> None:
    entries = chain(5)
    assert first_broken(entries[:2] + entries[3:]) == 2
    assert first_broken([entries[0], entries[2], entries[1], *entries[3:]]) == 1
    assert first_broken(entries[1:]) == 0
    forged = next_entry(entries[1], at=START, actor="eve", action="a", subject="s")
    assert first_broken([*entries[:2], forged, *entries[3:]]) == 3  # what follows still names the true one


@pytest.mark.parametrize("data", [{"x": float("nan")}, {"x": 2**60}, {"x": 2.0**60}, {"x": START}])
def test_data_without_a_canonical_form_is_refused_when_it_is_written(data: dict[str, Any]) -> None:
    with pytest.raises(NotValid):
        next_entry(None, at=START, actor="ann", action="a", subject="s", data=data)
    with pytest.raises(NotValid):
        next_entry(None, at=START.replace(tzinfo=None), actor="ann", action="a", subject="s")
