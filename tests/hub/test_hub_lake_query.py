"""Questions to the lake: what is answered, what is refused in one sentence, and what nobody can reach with SQL."""

from __future__ import annotations

import json
import threading
import time

import pytest

from edgewise.hub.lake import Asked, ask
from edgewise.wire import NotNow, NotValid
from lake_world import POLICY, START, Pond, readings


@pytest.fixture
def pond(yard, tmp_path):
    yard.apply(data=POLICY)
    pond = Pond(yard=yard, path=tmp_path / "lake")
    north, south = yard.enrol("one"), yard.enrol("two", "south")
    north.send(north.segment(1, readings(north, [1.5, 2.5, 3.5]), north.telemetry(), policy_version=2))
    south.send(south.segment(1, readings(south, [10, 20]), policy_version=2))
    pond.lake().commit(START)
    return pond


def rows(pond, sql, **more):
    limits = {name: more.pop(name) for name in list(more) if name.startswith(("query_", "queries_"))}
    return json.loads(ask(pond.lake(**limits), Asked(sql=sql, **more)).body)["rows"]


def test_a_question_is_answered_with_types(pond):
    found = ask(
        pond.lake(), Asked(sql="SELECT device, max(read_at) AS last, sum(value) FROM readings GROUP BY 1 ORDER BY 1")
    )
    assert json.loads(found.body) == {
        "columns": [
            {"name": "device", "type": "string"},
            {"name": "last", "type": "timestamp[us, tz=UTC]"},
            {"name": "sum(\"value\")", "type": "double"},
        ],
        "rows": [["one", "2026-03-01T00:00:02+00:00", 7.5], ["two", "2026-03-01T00:00:01+00:00", 30.0]],
    }  # fmt: skip
    assert (found.rows, found.truncated, found.versions) == (2, False, {"readings": 2})


def test_an_answer_as_arrow_is_a_stream(pond):
    import pyarrow as pa

    found = ask(pond.lake(), Asked(sql="SELECT value FROM readings ORDER BY 1", form="arrow"))
    assert pa.ipc.open_stream(found.body).read_all()["value"].to_pylist() == [1.5, 2.5, 3.5, 10, 20]


def test_an_answer_ends_at_its_bounds_and_says_so(pond):
    found = ask(pond.lake(), Asked(sql="SELECT value FROM readings ORDER BY 1", rows_max=2))
    assert (found.rows, found.truncated) == (2, True)
    found = ask(pond.lake(query_rows_max=3), Asked(sql="SELECT value FROM readings", rows_max=100))
    assert (found.rows, found.truncated) == (3, True)
    found = ask(pond.lake(query_bytes_max=100_000), Asked(sql="SELECT repeat('x', 1000) FROM range(100000)"))
    assert found.truncated


@pytest.mark.parametrize(
    "sql",
    ["SELECT DISTINCT site FROM readings", "SELECT site FROM main.readings WHERE site <> 'north' OR true GROUP BY 1"],
)
def test_people_of_some_sites_see_the_rows_of_these_alone(pond, sql):
    assert rows(pond, sql, sites={"north"}) == [["north"]]
    assert rows(pond, sql, sites=set()) == []


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELEKT 1", "line 1, column 1, at 'SELEKT': syntax error"),
        ("SELECT\n  nope FROM readings", "line 2, column 3, at 'nope': Referenced column \"nope\" not found"),
        ("SELECT * FROM nope", "there is no table nope; there are events, feedback, labels, readings, samples"),
        ("SELECT 1; SELECT 2", "one SELECT is answered, seen 2 statements: SELECT, SELECT"),
        ("CREATE TABLE x AS SELECT 1", "one SELECT is answered, seen 1 statements: CREATE"),
        ("DELETE FROM readings", "one SELECT is answered"),
        ("COPY readings TO '/tmp/x.csv'", "one SELECT is answered"),
        ("ATTACH '/tmp/x.db'", "one SELECT is answered"),
        ("INSTALL httpfs", "one SELECT is answered"),
        ("SET enable_external_access = true", "one SELECT is answered"),
        ("PRAGMA database_list", "one SELECT is answered"),
        ("SELECT * FROM read_csv('/etc/passwd')", "only the lake can be read"),
        ("SELECT * FROM read_text('/etc/passwd')", "only the lake can be read"),
        ("SELECT * FROM glob('/etc/*')", "only the lake can be read"),
        ("SELECT * FROM '/etc/passwd'", "there is no table /etc/passwd"),
        ("SELECT * FROM read_parquet('http://127.0.0.1:1/x')", "only the lake can be read"),
        ("SELECT * FROM order_", "there is no table order_"),
        ("SELECT * FROM connection", "there is no table connection"),
        ("", "needs 1 to 20000"),
        ("SELECT value::INT FROM (SELECT 'b' AS value)", "Could not convert"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_told_in_one_sentence_with_its_place(pond, sql, text):
    with pytest.raises(NotValid) as refused:
        rows(pond, sql)
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_question_that_takes_too_long_is_ended(pond):
    started = time.monotonic()
    with pytest.raises(NotNow, match="took over 1 s and was ended"):
        rows(pond, "SELECT count(*) FROM range(100000000000) a, range(1000) b", query_s_max=1)
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT length(repeat('a', 2000000000)), length(repeat('b', 2000000000))",
        "SELECT count(*) FROM (SELECT unnest(range(100000000)) AS a ORDER BY hash(a))",
    ],
)
def test_a_question_that_takes_too_much_memory_is_ended(pond, sql):
    with pytest.raises(NotNow, match="memory"):
        rows(pond, sql, query_memory_bytes=256 << 20)


def test_a_question_that_nobody_waits_for_is_ended(pond):
    gone = threading.Event()
    threading.Timer(1, gone.set).start()
    with pytest.raises(NotNow, match="cancelled"):
        ask(pond.lake(), Asked(sql="SELECT count(*) FROM range(100000000000) a, range(1000) b"), gone=gone)


def test_more_questions_than_may_be_at_once_are_told_to_come_again(pond):
    lake, gone = pond.lake(queries_max=1), threading.Event()
    slow = Asked(sql="SELECT count(*) FROM range(100000000000) a, range(1000) b")

    def wait():
        with pytest.raises(NotNow):
            ask(lake, slow, gone=gone)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.5)
    with pytest.raises(NotNow, match="1 questions are under way"):
        ask(lake, Asked(sql="SELECT 1"))
    gone.set()
    thread.join()
    assert json.loads(ask(lake, Asked(sql="SELECT 1")).body)["rows"] == [[1]]


def test_an_older_version_can_be_asked_by_number_and_by_time(pond):
    from datetime import UTC, datetime

    between = datetime.now(UTC).isoformat()
    time.sleep(0.05)
    device = pond.yard.enrol("three")
    device.send(device.segment(1, device.telemetry(), readings(device, [7.0]), policy_version=2))
    pond.lake().commit(START)
    count = "SELECT count(*) FROM readings"
    assert rows(pond, count) == [[6]]
    assert rows(pond, count, at="2") == [[5]]
    assert rows(pond, count, at=between) == [[5]]
    assert rows(pond, "SELECT (SELECT count(*) FROM readings), (SELECT count(*) FROM telemetry)", at=between) == [
        [5, 1]
    ]
    assert rows(pond, count, at="2020-01-01T00:00:00Z") == [[0]]
    for at, text in [
        ("99", "readings has no version 99"),
        ("yesterday", "neither a version's number nor a moment"),
        ("2026-03-01T00:00:00", "neither a version's number nor a moment"),
    ]:
        with pytest.raises(NotValid, match=text):
            rows(pond, count, at=at)
    with pytest.raises(NotValid, match="name a moment instead"):
        rows(pond, "SELECT * FROM readings, telemetry", at="1")


def test_numbers_that_json_does_not_know_are_texts(pond):
    assert rows(pond, "SELECT 'nan'::DOUBLE, '-infinity'::DOUBLE, 1.25::DECIMAL(9, 2), DATE '2026-03-01', [1, 2]") == [
        ["NaN", "-Infinity", 1.25, "2026-03-01", [1, 2]]
    ]


def test_tables_that_hold_nothing_yet_are_empty(yard, tmp_path):
    empty = Pond(yard=yard, path=tmp_path / "none")
    assert rows(empty, "SELECT count(*), max(read_at) FROM readings") == [[0, None]]
