"""After a restore: nothing that was erased comes back, each device is met again, and what is lost is counted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from backup_world import START, backed_up, brought_back, contents, filled
from edgewise.hub import audit, conflicts, epochs, erasures, forget
from edgewise.hub import backup_files as files
from edgewise.hub.access import Person
from edgewise.hub.backup import check_backup
from edgewise.hub.restore import read_erasures
from edgewise.hub.store import Store, devices, tables
from edgewise.ports import FolderBlobs
from edgewise.wire import Assignment, Erasure, NotValid, Report, digest

ADMIN = Person(name="ann", role="admin", sites=None)


RUN = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from edgewise.hub.restore import restore
from edgewise.hub.store import Store, migrations
from edgewise.ports import FolderBlobs, SystemChance
backup, folder = map(Path, sys.argv[1:])
store = Store(f"sqlite:///{folder / 'hub.db'}", FolderBlobs(folder / "objects" / "blobs"), schema=migrations.leave)
def tell(step, share):
    print(step, flush=True)
restore(backup, store, keys_dir=folder / "keys", now=datetime.now(UTC), chance=SystemChance(), advance=tell)
store.close()
"""


def test_a_restore_killed_anywhere_is_run_again_and_ends_whole(yard, tmp_path):
    filled(yard)
    backed_up(yard, tmp_path / "b")
    folder = tmp_path / "new"
    folder.mkdir()
    for lines in (3, 12, 30, 50):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path / "b"), str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline()
        process.kill()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
    command = [sys.executable, "-c", RUN, str(tmp_path / "b"), str(folder)]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    blobs = FolderBlobs(folder / "objects" / "blobs")
    assert list(blobs.digests()) == list(yard.hub.store.blobs.digests())
    store = Store(f"sqlite:///{folder / 'hub.db'}", blobs)
    assert contents(store)["samples"] == contents(yard.hub.store)["samples"]
    assert audit.verify(store).broken is None
    store.close()


# -- what was erased ---------------------------------------------------------------------------------------------------


def order(yard: Any, site: str) -> None:
    wish = Erasure(number=0, site=site, reason="asked for")
    erasures.create(yard.hub, "press", wish, ADMIN)


def test_what_is_erased_while_a_backup_is_made_is_not_in_it(yard, tmp_path):
    filled(yard)
    south = digest(b"south/f1")
    asked = []

    def erase(step: str, _share: float) -> None:
        if step == "contents" and not asked:
            asked.append(order(yard, "south"))

    backed_up(yard, tmp_path / "b", advance=erase)
    assert not files.blobs_of(tmp_path / "b").has(south)
    rows = list(files.rows_in(tmp_path / "b", check_backup(tmp_path / "b"), "samples"))
    assert not any("south" in row for row in rows)


def test_what_is_erased_and_only_not_deleted_yet_is_not_in_a_backup_and_goes_with_the_next_tick(yard, tmp_path):
    """As after a hub that was killed between the commit and the deletion."""
    filled(yard)
    south = digest(b"south/f1")
    kept = yard.hub.store.blobs.get(south)
    order(yard, "south")
    yard.hub.store.blobs.put(kept)
    with yard.hub.store.write() as connection:
        forget.let_go(connection, {south}, START)
    backed_up(yard, tmp_path / "b")
    assert not files.blobs_of(tmp_path / "b").has(south)
    yard.hub.tick()
    assert not yard.hub.store.blobs.has(south)
    assert yard.rows(tables.loose_contents) == []


def test_what_was_erased_before_does_not_come_back_from_an_earlier_backups_contents(yard, homes, tmp_path):
    filled(yard)
    south = digest(b"south/f1")
    backed_up(yard, tmp_path / "b")
    assert files.blobs_of(tmp_path / "b").has(south)
    order(yard, "south")
    backed_up(yard, tmp_path / "b")
    assert not files.blobs_of(tmp_path / "b").has(south)
    place = homes("sqlite+files")
    brought_back(tmp_path / "b", place, tmp_path)
    assert not place.blobs.has(south)


def test_erasures_ordered_after_the_backup_are_carried_out_before_anything_serves(yard, homes, a_yard, tmp_path):
    filled(yard)
    south = digest(b"south/f1")
    order(yard, "north")
    backed_up(yard, tmp_path / "b")
    order(yard, "south")
    orders = [
        {"use_case": one.row.use_case, "who": one.row.who, "made_at": one.row.made_at.isoformat()}
        | {name: value for name in ("number", "site", "reason") if (value := getattr(one.row, name)) is not None}
        for one in erasures.listed(yard.hub, ADMIN)
    ]
    (tmp_path / "erasures.json").write_text(json.dumps(orders))
    later = read_erasures(tmp_path / "erasures.json", who="restore", now=START)
    place = homes("sqlite+files")
    done = brought_back(tmp_path / "b", place, tmp_path, erasures=later)
    assert (done.erasures, done.erased) == (2, 6)
    assert not place.blobs.has(south)
    again = a_yard(place, seed=2, is_new=False)
    with again.hub.store.read() as connection:
        assert [row.site for row in devices.find(connection)] == ["north"]
    assert [row["number"] for row in again.rows(tables.erasures)] == [1, 2]
    assert {row["site"] for row in again.rows(tables.samples)} == set()


def test_a_file_that_holds_no_erasures_is_told(tmp_path):
    for text in ("{", '[{"use_case": "x"}]', "[1]"):
        (tmp_path / "e.json").write_text(text)
        with pytest.raises(NotValid, match="cannot be read as erasures"):
            read_erasures(tmp_path / "e.json", who="x", now=START)


# -- devices after a restore -------------------------------------------------------------------------------------------


def gap_of(yard: Any) -> Any:
    with yard.hub.store.read() as connection:
        return epochs.restored(connection)


def row_of(yard: Any, name: str) -> Any:
    with yard.hub.store.read() as connection:
        return devices.get(connection, name)


def assigned(yard: Any, name: str, number: int, **fields: Any) -> None:
    with yard.hub.store.write() as connection:
        values = {"hub_epoch": yard.hub.hub_epoch, "use_case": "press", "issued_at": yard.hub.now()}
        devices.assign(connection, Assignment(device=name, number=number, **values, **fields))


def met_again(talker: Any, yard: Any) -> Any:
    talker.yard = yard
    return talker


def test_what_was_acknowledged_after_the_backup_is_counted_once_a_device(homes, a_yard, tmp_path):
    yard = a_yard(homes("sqlite+files"))
    quiet, behind = yard.enrol("quiet"), yard.enrol("behind")
    for talker in (quiet, behind):
        talker.send(talker.segment(1, talker.telemetry()))
    backed_up(yard, tmp_path / "b")
    for talker in (quiet, behind):
        talker.send(talker.segment(2, talker.telemetry()), talker.segment(3, talker.telemetry()))
    place = homes("postgres+s3")
    brought_back(tmp_path / "b", place, tmp_path)
    again = a_yard(place, seed=2, is_new=False)
    assert (gap_of(again).unheard, gap_of(again).lost) == (2, 0)
    for _ in range(2):
        assert met_again(quiet, again).send(acked=3).watermark == 1
    with pytest.raises(NotValid, match="send again from 2"):
        met_again(behind, again).send(behind.segment(4, behind.telemetry()), acked=3)
    found = gap_of(again)
    assert [(gap.device, gap.stored, gap.acked) for gap in found.gaps] == [("behind", 1, 3), ("quiet", 1, 3)]
    assert found.lost == 4
    behind.epoch = "e" * 32
    assert behind.send(behind.segment(1, behind.telemetry())).watermark == 1
    assert (gap_of(again).unheard, gap_of(again).lost) == (0, 4)


def test_a_device_that_knows_more_than_the_backup_waits_and_another_is_told_anew(homes, a_yard, tmp_path):
    yard = a_yard(homes("sqlite+files"))
    ahead, same = yard.enrol("ahead"), yard.enrol("same")
    for name in ("ahead", "same"):
        assigned(yard, name, 4)
    backed_up(yard, tmp_path / "b")
    place = homes("sqlite+files")
    brought_back(tmp_path / "b", place, tmp_path)
    again = a_yard(place, seed=2, is_new=False)
    assert "was not heard since" in row_of(again, "same").in_conflict
    with pytest.raises(NotValid, match="wait for its next contact"), again.hub.store.write() as connection:
        conflicts.resolve(
            connection, row_of(again, "same"), conflicts.Resolution(how="reassign", who="ann", why="x"),
            blobs=place.blobs, hub_epoch=again.hub.hub_epoch, now=START,
        )  # fmt: skip
    answer = met_again(same, again).send(report=Report(at=START, phase="idle", assignment=4), has_assignment=4)
    assert answer.assignment is not None
    row = row_of(again, "same")
    assert (row.in_conflict, row.assignment_number, row.wanted.hub_epoch) == ("", 5, again.hub.hub_epoch)
    met_again(ahead, again).send(report=Report(at=START, phase="idle", assignment=6), has_assignment=6)
    row = row_of(again, "ahead")
    assert "it has assignment 6" in row.in_conflict
    assert (row.assignment_number, row.wanted.hub_epoch) == (4, yard.hub.hub_epoch)
    assert gap_of(again).conflicts == ["ahead"]


def test_a_device_that_erased_what_the_backup_does_not_know_of_is_told(homes, a_yard, tmp_path):
    yard = a_yard(homes("sqlite+files"))
    talker = yard.enrol("press-1")
    order(yard, "north")
    backed_up(yard, tmp_path / "b")
    old = yard.hub.hub_epoch
    place = homes("sqlite+files")
    brought_back(tmp_path / "b", place, tmp_path)
    again = a_yard(place, seed=2, is_new=False)
    report = Report(at=START, phase="idle", assignment=1, erased=2, erased_of=old)
    answer = met_again(talker, again).send(report=report, has_assignment=1)
    assert answer.assignment is not None, "the erasure that is open in the new epoch is told again"
    assert [one.number for one in row_of(again, "press-1").wanted.erasures] == [1]
    assert gap_of(again).erased_more == ["press-1"]
    done = Report(at=START, phase="idle", assignment=2, erased=1, erased_of=again.hub.hub_epoch)
    talker.send(report=done, has_assignment=2)
    assert [row["number"] for row in again.rows(tables.erasure_acks)] == [1]
