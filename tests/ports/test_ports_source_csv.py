"""A CSV file as a source: paced by its own clock, resumed after a row, and never stopped by a bad line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edgewise.ports import MemoryClock, Source, open_source
from edgewise.wire import CsvSpec, NotValid

NOW = datetime(2026, 3, 4, tzinfo=UTC)
HEAD = "at,machine,load,heat\n"


class Replay:
    def __init__(self, folder: Path, text: str, **more: Any) -> None:
        self.file = folder / "log.csv"
        self.file.write_text(text)
        self.clock = MemoryClock(NOW)
        row = {"time": "at", "group": "machine"} if text.startswith("at") else {}
        self.spec = CsvSpec.model_validate({"kind": "csv", "path": str(self.file), "row": row} | more)
        self.source: Source | None = None
        self.open()

    def open(self, after: str | None = None) -> None:
        self.close()
        self.source = open_source(self.spec, after, clock=self.clock)

    def close(self) -> None:
        if self.source is not None:
            self.source.close()

    def taken(self) -> list[dict[str, Any]]:
        return [json.loads(frame.data) for frame in iter(self.source.next, None)]


@pytest.fixture
def replayed(tmp_path: Path) -> Iterator[Callable[..., Replay]]:
    """Makes replays, and lets go of their files in the end."""
    made: list[Replay] = []

    def make(text: str, **more: Any) -> Replay:
        made.append(Replay(tmp_path, text, **more))
        return made[-1]

    yield make
    for replay in made:
        replay.close()


def lines(*seconds: float) -> str:
    return HEAD + "".join(f"{1_767_225_600 + at},press,{at},20\n" for at in seconds)


def test_rows_come_when_their_time_has_come(replayed):
    replay = replayed(lines(0, 60, 90), speed=60)
    first = replay.source.next()
    assert (first.name, first.group, first.media_type) == ("csv-000000-000000000", "press", "application/json")
    assert first.taken_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert json.loads(first.data) == {"load": 0.0, "heat": 20.0}
    assert replay.source.next() is None
    replay.clock.advance(1.0)
    assert [row["load"] for row in replay.taken()] == [60.0]
    replay.clock.advance(0.5)
    assert [row["load"] for row in replay.taken()] == [90.0]


def test_speed_zero_gives_all_at_once(replayed):
    assert len(replayed(lines(*range(100)), speed=0).taken()) == 100


def test_a_replay_goes_on_after_the_last_row_that_was_recorded(replayed):
    replay = replayed(lines(*range(10)), speed=0)
    names = [replay.source.next().name for _ in range(4)]
    replay.open(names[-1])
    assert [row["load"] for row in replay.taken()] == [4, 5, 6, 7, 8, 9]
    replay.open("of-another-source")
    assert len(replay.taken()) == 10


def test_without_a_time_column_rows_come_every_so_often_and_are_dated_by_the_clock(replayed):
    replay = replayed("load\n1\n2\n", every_s=5)
    assert replay.source.next().taken_at == NOW
    assert replay.source.next() is None
    replay.clock.advance(5)
    assert replay.source.next().taken_at == replay.clock.now()


def test_bad_lines_are_passed_over_and_counted(replayed):
    rows = [
        "1767225600,press,1,20",
        "1767225601,press,error,20",
        "1767225602,press,2",
        "yesterday,press,3,20",
        '1767225603,press,"4,20',
        "1767225604,press,,",
        "",
        "1767225605,press,inf,20",
        "1767225606,press,5,",
    ]
    replay = replayed(HEAD + "\n".join(rows) + "\n", speed=0)
    assert replay.taken() == [{"load": 1.0, "heat": 20.0}, {"load": 5.0, "heat": None}]
    assert replay.source.skipped == 6
    assert "row 8" in replay.source.last_skip


def test_a_file_that_grows_is_read_on_but_not_a_line_half_way(replayed):
    replay = replayed(lines(0), speed=0)
    assert len(replay.taken()) == 1
    with replay.file.open("a") as file:
        file.write("1767225601,press,12.3")
        file.flush()
        assert replay.taken() == []
        file.write("4,20\n1767225602,press,7,20")
    assert replay.taken() == [{"load": 12.34, "heat": 20.0}]
    replay.clock.advance(3)
    assert replay.taken() == [{"load": 7.0, "heat": 20.0}], "left alone, the last line counts without its end"


def test_a_loop_starts_again_under_new_names_and_can_be_resumed(replayed):
    replay = replayed("load\n1\n2\n", speed=0, loop=True)
    names = [replay.source.next().name for _ in range(5)]
    assert names[2:] == ["csv-000001-000000000", "csv-000001-000000001", "csv-000002-000000000"]
    assert len(set(names)) == 5
    replay.open(names[-1])
    assert replay.source.next().name == "csv-000002-000000001"


def test_a_loop_over_a_file_without_rows_does_not_turn_for_ever(replayed):
    assert replayed("load\n", speed=0, loop=True).source.next() is None
    assert replayed("load\nx\n", speed=0, loop=True).source.next() is None


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "a name of its own"), ("a,a\n", "a name of its own"), ("at;machine\n", "no column at, machine")],
)
def test_a_first_line_that_names_no_columns_is_explained(replayed, text, says):
    with pytest.raises(NotValid, match=says):
        replayed(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotValid, match="name the CSV file"):
        open_source(CsvSpec(path=str(tmp_path / "none.csv")), None, clock=MemoryClock(NOW))
