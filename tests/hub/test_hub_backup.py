"""A backup of a hub that serves comes back whole, into either storage, in a new epoch, without what was erased."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from edgewise.hub import audit, conflicts, epochs, erasures
from edgewise.hub import backup_files as files
from edgewise.hub.access import Person
from edgewise.hub.backup import check_backup, make_backup
from edgewise.hub.restore import move, read_erasures, restore
from edgewise.hub.store import Store, devices, meta, migrations, tables, whole
from edgewise.ports import Blobs, SeededChance
from edgewise.wire import Assignment, Erasure, NotNow, NotTrusted, NotValid, Report, digest

ADMIN = Person(name="ann", role="admin", sites=None)
START = datetime(2026, 3, 1, tzinfo=UTC)
SEEDS = itertools.count()
HOMES = ["sqlite+files", "postgres+s3"]


@contextmanager
def opened(place: Any) -> Iterator[Store]:
    store = Store(place.url, place.blobs, schema=migrations.leave)
    try:
        yield store
    finally:
        store.close()


def filled(yard: Any) -> None:
    """Some of everything that is easily made."""
    talker = yard.enrol("press-1")
    talker.send(talker.segment(1, talker.sample(), talker.sample()), talker.segment(2, talker.telemetry()))
    yard.bring_in(*(("south", f"f{number}", f"g{number}", "pit" if number % 2 else None) for number in range(6)))
    yard.hub.store.blobs.put(b"")
    yard.hub.tick()


def contents(store: Store) -> dict[str, list[Any]]:
    with store.read() as connection:
        return {
            name: sorted(json.dumps(row, sort_keys=True) for row in whole.rows_of(connection, name))
            for name in whole.names()
        }


def backed_up(yard: Any, path: Path, **more: Any) -> Any:
    return make_backup(yard.hub.store, path, now=yard.hub.now(), chance=SeededChance(next(SEEDS)), **more)


def brought_back(path: Path, place: Any, tmp_path: Path, **more: Any) -> Any:
    with opened(place) as store:
        return restore(path, store, keys_dir=tmp_path / "keys", now=START, chance=SeededChance(9), **more)


@pytest.mark.parametrize("target", HOMES)
@pytest.mark.parametrize("source", HOMES)
def test_a_backup_comes_back_whole_in_either_storage(homes, a_yard, tmp_path, source, target):
    yard = a_yard(homes(source))
    filled(yard)
    before, names = contents(yard.hub.store), list(yard.hub.store.blobs.digests())
    made = backed_up(yard, tmp_path / "backup")
    assert (made.blobs, made.blobs_new) == (len(names), len(names))
    assert check_backup(tmp_path / "backup").blobs.lines == len(names)

    place = homes(target)
    done = brought_back(tmp_path / "backup", place, tmp_path)
    assert (done.blobs, done.rows) == (len(names), sum(map(len, before.values())))
    with opened(place) as store:
        after = contents(store)
    assert list(place.blobs.digests()) == names
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"meta", "audit", "devices"}, "the epoch, the entry that tells of it, and devices not heard yet"
    assert set(before["audit"]) < set(after["audit"])

    again = a_yard(place, seed=2, is_new=False)
    assert again.hub.hub_epoch == done.hub_epoch != yard.hub.hub_epoch
    assert audit.verify(again.hub.store).broken is None
    again.bring_in(("south", "new", "", "pit"))  # rows are numbered on
    again.hub.tick()


def test_a_move_is_the_same_hub_elsewhere_and_the_old_place_says_so(homes, a_yard):
    old, new = homes("sqlite+files"), homes("postgres+s3")
    yard = a_yard(old)
    filled(yard)
    with opened(new) as target, pytest.raises(NotNow, match="a hub serves this store now"):
        move(yard.hub.store, target, to="elsewhere", now=yard.hub.now())
    before, epoch = contents(yard.hub.store), yard.hub.hub_epoch
    later = START + timedelta(minutes=1)
    with opened(new) as target:
        move(yard.hub.store, target, to="the new place", now=later)
    with opened(new) as target:
        assert contents(target) == before
        with target.write() as connection:
            meta.put(connection, "hub_epoch", "f" * 32)
        with pytest.raises(NotValid, match="holds a hub already"):  # it is not the same any more
            move(yard.hub.store, target, to="x", now=later)
        with target.write() as connection:
            meta.put(connection, "hub_epoch", epoch)
    with pytest.raises(NotValid, match="was moved to the new place"):
        a_yard(old, is_new=False)
    moved = a_yard(new, seed=2, is_new=False)
    assert moved.hub.hub_epoch == epoch
    back = homes("sqlite+files")
    with opened(back) as target:
        move(moved.hub.store, target, to="back", now=later + timedelta(minutes=1))
        assert list(target.blobs.digests()) == list(yard.hub.store.blobs.digests())
        assert contents(target)["samples"] == before["samples"]


def test_the_second_backup_copies_only_what_is_new_and_drops_what_is_gone(yard, tmp_path):
    filled(yard)
    first = backed_up(yard, tmp_path / "b")
    gone = next(iter(yard.hub.store.blobs.digests()))
    yard.hub.store.blobs.delete(gone)
    fresh = yard.picture("new")
    second = backed_up(
        yard,
        tmp_path / "b",
    )
    assert (second.blobs_new, second.blobs) == (1, first.blobs)
    held = files.blobs_of(tmp_path / "b")
    assert held.has(fresh)
    assert not held.has(gone)
    assert [folder.name for folder in (tmp_path / "b").glob("rows-*")] == [second.listed.rows]


def test_a_backup_while_the_hub_serves_is_of_one_moment(homes, a_yard, tmp_path):
    yard = a_yard(homes("sqlite+files"))
    talker, stop, sent = yard.enrol("press-1"), threading.Event(), []

    def serve() -> None:
        while not stop.is_set():
            sent.append(talker.send(talker.segment(len(sent) + 1, talker.sample(), talker.sample())))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for number in range(3):
            backed_up(yard, tmp_path / str(number))
    finally:
        stop.set()
        thread.join()
    assert sent
    for number in range(3):
        place = homes("sqlite+files")
        brought_back(tmp_path / str(number), place, tmp_path)
        with opened(place) as store, store.read() as connection:
            watermark = connection.execute(sa.select(tables.watermarks.c.number)).scalar() or 0
            segments = connection.execute(sa.select(sa.func.count()).select_from(tables.segments)).scalar_one()
            samples = connection.execute(sa.select(tables.samples.c.blob)).scalars().all()
        assert (segments, len(samples)) == (watermark, 2 * watermark)
        assert all(place.blobs.has(blob) for blob in samples)


def test_private_keys_are_only_in_a_backup_that_was_asked_for_them(yard, homes, tmp_path):
    keys = tmp_path / "hub-keys"
    keys.mkdir()
    (keys / "ca-root.pem").write_bytes(b"secret")
    backed_up(yard, tmp_path / "b", keys_dir=keys)
    kept = tmp_path / "b" / "keys" / "ca-root.pem"
    assert (kept.read_bytes(), kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (
        b"secret", 0o600, 0o700,
    )  # fmt: skip
    place = homes("sqlite+files")
    assert brought_back(tmp_path / "b", place, tmp_path).has_keys
    assert (tmp_path / "keys" / "ca-root.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "keys" / "ca-root.pem").write_bytes(b"another")
    with pytest.raises(NotValid, match="is another key"):
        brought_back(tmp_path / "b", homes("sqlite+files"), tmp_path)
    backed_up(yard, tmp_path / "b")
    assert not any(b"secret" in file.read_bytes() for file in (tmp_path / "b").rglob("*") if file.is_file())
    with pytest.raises(NotValid):
        assert not brought_back(tmp_path / "b", place, tmp_path / "other").has_keys


# -- what is wrong with a backup or its target -------------------------------------------------------------------------


def no_rows_at(place: Any) -> bool:
    with opened(place) as store, store.read() as connection:
        return whole.is_empty(connection)


@pytest.mark.parametrize("what", ["table", "list", "content", "no content", "blob list", "no table"])
def test_a_damaged_backup_is_told_and_nothing_of_it_is_stored(yard, homes, tmp_path, what):
    filled(yard)
    path, place = tmp_path / "b", homes("sqlite+files")
    listed = backed_up(yard, path).listed
    rows, name = path / listed.rows, next(iter(yard.hub.store.blobs.digests()))
    target = {
        "table": rows / "samples.jsonl.zst",
        "no table": rows / "segments.jsonl.zst",
        "list": path / "backup.json",
        "content": path / "blobs" / name[:2] / name,
        "no content": path / "blobs" / name[:2] / name,
        "blob list": rows / "blobs.txt.zst",
    }[what]
    if what.startswith("no "):
        target.unlink()
    else:
        data = bytearray(target.read_bytes())
        data[len(data) // 2] ^= 0xFF
        target.write_bytes(data)
    with pytest.raises(NotTrusted, match="damaged"):
        check_backup(path)
    with pytest.raises((NotTrusted, NotValid)):
        brought_back(path, place, tmp_path)
    assert no_rows_at(place)


def test_a_backup_of_a_newer_version_is_refused_with_what_to_do(yard, homes, tmp_path):
    backed_up(yard, tmp_path / "b")
    place = tmp_path / "b" / "backup.json"
    for change in ({"format": 2}, {"revision": "9999"}):
        value = json.loads(place.read_text())
        place.write_text(json.dumps(value | {"made_by": "edgewise 99"} | change))
        with pytest.raises(NotValid, match=r"made by edgewise 99 .* newer than this edgewise") as caught:
            brought_back(tmp_path / "b", homes("sqlite+files"), tmp_path)
        assert caught.value.code == "backup_version"
        with pytest.raises(NotValid, match="newer"):
            backed_up(yard, tmp_path / "b")
        place.write_text(json.dumps(value))


def test_a_backup_of_an_older_schema_is_brought_to_this_one(yard, homes, tmp_path):
    """Rows are loaded into the tables as they were then, and migrated as those of a hub that was updated."""
    path, older = tmp_path / "b", migrations.known_revisions()[1]
    filled(yard)
    listed = backed_up(yard, path).listed
    newer = {"channel_sums"}
    told = json.loads((path / "backup.json").read_text())
    told["revision"] = older
    told["tables"] = {name: table for name, table in told["tables"].items() if name not in newer}
    (path / "backup.json").write_text(json.dumps(told))
    place = homes("sqlite+files")
    brought_back(path, place, tmp_path)
    with opened(place) as store, store.read() as connection:
        assert whole.schema_of(connection) == listed.revision
        assert whole.count_of(connection, "samples") == listed.tables["samples"].lines


def test_nothing_is_written_over_a_hub_or_another_folder(yard, homes, a_yard, tmp_path):
    backed_up(yard, tmp_path / "b")
    place = homes("sqlite+files")
    a_yard(place)
    with pytest.raises(NotValid, match="holds a hub already") as caught:
        brought_back(tmp_path / "b", place, tmp_path)
    assert caught.value.code == "target_not_empty"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(NotValid, match=r"holds other things \(thesis.txt\) and no backup"):
        backed_up(yard, tmp_path / "other")
    with pytest.raises(NotValid, match="no whole backup"):
        check_backup(tmp_path / "other")


class Failing:
    """Blobs that fail after so many puts, as a full disk or a killed process does."""

    def __init__(self, blobs: Blobs, good: int, error: BaseException) -> None:
        self._blobs, self._good, self._error = blobs, good, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    def put_pieces(self, sha256: str, pieces: Any) -> None:
        self._good -= 1
        if self._good < 0:
            raise self._error
        self._blobs.put_pieces(sha256, pieces)


@pytest.mark.parametrize("error", [NotNow("no space left", code="disk_full"), KeyboardInterrupt()])
def test_a_restore_that_ends_half_way_goes_on_when_it_is_run_again(yard, homes, tmp_path, error):
    filled(yard)
    backed_up(yard, tmp_path / "b")
    place = homes("sqlite+files")
    with pytest.raises(type(error)):
        brought_back(tmp_path / "b", replace(place, blobs=Failing(place.blobs, 3, error)), tmp_path)
    assert no_rows_at(place)
    assert len(list(place.blobs.digests())) == 3
    brought_back(tmp_path / "b", place, tmp_path)
    assert list(place.blobs.digests()) == list(yard.hub.store.blobs.digests())


def test_a_restore_killed_among_its_rows_leaves_none_of_them(yard, homes, tmp_path):
    filled(yard)
    backed_up(yard, tmp_path / "b")
    for kind in HOMES:
        place = homes(kind)

        def die(step: str, _share: float) -> None:
            if step == "samples":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            brought_back(tmp_path / "b", place, tmp_path, advance=die)
        assert no_rows_at(place)
        brought_back(tmp_path / "b", place, tmp_path)


def test_a_backup_that_fails_leaves_the_one_before_whole(yard, tmp_path):
    filled(yard)
    first = backed_up(yard, tmp_path / "b").listed
    yard.picture("more")

    def die(step: str, share: float) -> None:
        if step == "contents" and share > 0.6:
            raise NotNow("no space left", code="disk_full")

    with pytest.raises(NotNow):
        backed_up(yard, tmp_path / "b", advance=die)
    assert check_backup(tmp_path / "b") == first
    backed_up(yard, tmp_path / "b")
    assert check_backup(tmp_path / "b") != first


def test_a_content_that_is_damaged_at_the_hub_does_not_end_the_backup(homes, a_yard, tmp_path):
    place = homes("sqlite+files")
    yard = a_yard(place)
    filled(yard)
    name = yard.picture("soon damaged")
    (file,) = tmp_path.glob(f"place-0/objects/blobs/*/{name}")
    file.write_bytes(b"soon damageD")
    made = backed_up(yard, tmp_path / "b")
    assert made.listed.damaged == (name,)
    check_backup(tmp_path / "b")


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


def test_what_was_erased_before_does_not_come_back_from_an_earlier_backups_contents(yard, homes, tmp_path):
    filled(yard)
    south = digest(b"south/f1")
    backed_up(yard, tmp_path / "b")
    assert files.blobs_of(tmp_path / "b").has(south)
    order(yard, "south")
    backed_up(yard, tmp_path / "b")
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


def test_two_backups_at_once_do_not_mix(yard, tmp_path):
    filled(yard)
    shutil.rmtree(tmp_path / "b", ignore_errors=True)

    def second(step: str, _share: float) -> None:
        if step == "contents":
            with pytest.raises(NotNow, match="another backup is being made"):
                backed_up(yard, tmp_path / "b")

    backed_up(yard, tmp_path / "b", advance=second)
