"""A backup of a hub that serves comes back whole, into either storage; what is wrong with one is told."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from backup_world import HOMES, START, backed_up, brought_back, contents, filled, opened
from edgewise.hub import audit
from edgewise.hub import backup_files as files
from edgewise.hub.backup import check_backup
from edgewise.hub.restore import move
from edgewise.hub.store import meta, migrations, tables, whole
from edgewise.ports import Blobs
from edgewise.wire import NotNow, NotTrusted, NotValid, plain


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


def as_of(path, revision, tmp_path):
    """Make a backup into what it would have been in an older schema: without what came since."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'older.db'}")
    with engine.begin() as connection:
        migrations.migrate(connection, revision)
        shape = sa.inspect(connection)
        there = {name: [column["name"] for column in shape.get_columns(name)] for name in shape.get_table_names()}
    engine.dispose()
    listed, tables_then = files.read_list(path), {}
    for name, table in listed.tables.items():
        if name not in there:
            continue
        kept = [place for place, column in enumerate(table.columns) if column in there[name]]
        rows = [[row[place] for place in kept] for row in files.rows_in(path, listed, name)]
        place = path / listed.rows / f"{name}.jsonl.zst"
        place.unlink()
        columns = {column: kind for column, kind in table.columns.items() if column in there[name]}
        told = files.TableFile(**plain(files.write_lines(place, files.row_lines(rows))), columns=columns)
        tables_then[name] = plain(told)
    value = plain(listed) | {"revision": revision, "tables": tables_then}
    (path / "backup.json").write_text(json.dumps(value))


def test_a_backup_of_an_older_schema_is_brought_to_this_one(yard, homes, tmp_path):
    """Rows are loaded into the tables as they were then, and migrated as those of a hub that was updated."""
    path = tmp_path / "b"
    filled(yard)
    listed = backed_up(yard, path).listed
    as_of(path, "0010", tmp_path)
    for kind in HOMES:
        place = homes(kind)
        brought_back(path, place, tmp_path)
        with opened(place) as store, store.read() as connection:
            assert whole.schema_of(connection) == listed.revision == migrations.known_revisions()[0]
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


def test_two_backups_at_once_do_not_mix(yard, tmp_path):
    filled(yard)

    def second(step: str, _share: float) -> None:
        if step == "contents":
            with pytest.raises(NotNow, match="another backup is being made"):
                backed_up(yard, tmp_path / "b")

    backed_up(yard, tmp_path / "b", advance=second)
