"""``edgewise hub backup``, ``restore``, ``gap`` and ``migrate``: the whole hub, out, in again, and elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgewise.cli._hub import DATA_DIR
from edgewise.cli._output import FORMAT, Format, show, tell
from edgewise.cli._progress import progress

if TYPE_CHECKING:
    from edgewise.hub.settings import HubSettings

CONFIG = typer.Option(None, "--config", envvar="EDGEWISE_CONFIG", help="hub.yaml; that of the data folder without it")
PLACE = typer.Option(None, "--data-dir", help=f"where the hub keeps things  [default: {DATA_DIR}]")
DATABASE = typer.Option(None, "--database", help="a PostgreSQL URL instead of SQLite")
OBJECTS = typer.Option(None, "--objects", help="an object store such as s3://bucket/prefix")
SQLITE, FILES = "sqlite", "files"  # words for what lies in the data folder


def commands(app: typer.Typer) -> None:
    """Add the commands to ``edgewise hub``."""
    app.command(epilog="Example: edgewise hub backup /backups/hub --data-dir edgewise-data/hub")(backup)
    app.command(epilog="Example: edgewise hub restore /backups/hub --data-dir edgewise-data/new-hub")(restore)
    app.command(epilog="Example: edgewise hub gap --data-dir edgewise-data/hub")(gap)
    app.command(epilog="Example: edgewise hub migrate --to-database postgresql://db/hub --to-objects s3://hub")(migrate)


def backup(
    path: Path = typer.Argument(..., help="folder of the backup: a new one, or one to bring up to now"),
    with_keys: bool = typer.Option(
        False, "--with-keys", help="also the hub's private keys: its authority's and those that sign assignments"
    ),
    check: bool = typer.Option(False, "--check", help="make none; read all of the one that is there"),
    config: Path | None = CONFIG,
    data_dir: Path | None = PLACE,
    database: str | None = DATABASE,
    objects: str | None = OBJECTS,
    output: Format = FORMAT,
) -> None:
    """Make a backup while the hub serves, or bring an earlier one up to now: only new contents are copied.

    Whoever has a backup with keys can be this hub; keep it as such.
    """
    from edgewise.hub.backup import check_backup, make_backup
    from edgewise.hub.places import open_store
    from edgewise.hub.store.migrations import need_current
    from edgewise.ports import SystemChance, SystemClock

    if check:
        with progress("checking") as advance:
            listed = check_backup(path, advance)
        show({"whole": True, **_about(listed)}, output)
        return
    settings = _settings(config, data_dir, database, objects)
    store = open_store(settings.place, schema=need_current, must_exist=True)
    try:
        with progress("backup") as advance:
            made = make_backup(
                store,
                path,
                keys_dir=settings.data_dir / "keys" if with_keys else None,
                now=SystemClock().now(),
                chance=SystemChance(),
                advance=advance,
            )
    finally:
        store.close()
    show({**_about(made.listed), "contents_new": made.blobs_new}, output)
    if made.listed.damaged:
        tell(
            f"{len(made.listed.damaged)} contents are damaged at the hub itself and not in the backup: see backup.json"
        )
    if not with_keys:
        tell(
            "without private keys: a restored hub needs the folder keys/ of this one (--with-keys, or a copy elsewhere)"
        )


def restore(
    path: Path = typer.Argument(..., help="folder of the backup", show_default=False),
    erasures: Path | None = typer.Option(
        None, "--erasures", help="erasures ordered since, as `edgewise erasure list -o json` printed them"
    ),
    config: Path | None = CONFIG,
    data_dir: Path | None = PLACE,
    database: str | None = DATABASE,
    objects: str | None = OBJECTS,
    output: Format = FORMAT,
) -> None:
    """Bring a backup back into an empty place. The hub starts a new epoch there, and erasures are carried out first."""
    from edgewise.hub.folder import Folder
    from edgewise.hub.places import open_store
    from edgewise.hub.restore import read_erasures
    from edgewise.hub.restore import restore as bring_back
    from edgewise.hub.store.migrations import leave
    from edgewise.ports import SystemChance, SystemClock

    settings, now = _settings(config, data_dir, database, objects), SystemClock().now()
    later = read_erasures(erasures, who="restore", now=now) if erasures else []
    folder = Folder(settings.data_dir)
    try:
        store = open_store(settings.place, schema=leave, must_exist=False)
        try:
            with progress("restore") as advance:
                done = bring_back(
                    path,
                    store,
                    keys_dir=settings.data_dir / "keys",
                    erasures=later,
                    now=now,
                    chance=SystemChance(),
                    advance=advance,
                )
        finally:
            store.close()
    finally:
        folder.close()
    about = {"made_at": done.made_at.isoformat(), "hub_epoch": done.hub_epoch, "rows": done.rows}
    about |= {"contents": done.blobs, "devices": done.devices, "erasures": done.erasures, "erased": done.erased}
    show(about, output)
    if not done.has_keys:
        tell(f"the backup holds no private keys: put the folder keys/ of the lost hub into {settings.data_dir} first")
    tell(f"what devices did since {done.made_at.isoformat()} shows as they call: edgewise hub gap")


def gap(
    config: Path | None = CONFIG,
    data_dir: Path | None = PLACE,
    database: str | None = DATABASE,
    objects: str | None = OBJECTS,
    output: Format = FORMAT,
) -> None:
    """Show what is missing since the last restore: what devices sent that nobody has, and who waits for a person."""
    from edgewise.hub.epochs import restored
    from edgewise.hub.places import open_store
    from edgewise.hub.store.migrations import need_current

    settings = _settings(config, data_dir, database, objects)
    store = open_store(settings.place, schema=need_current, must_exist=True, probe=False)
    try:
        with store.read() as connection:
            found = restored(connection)
    finally:
        store.close()
    if found is None:
        show({"restored": False}, output)
        return
    about: dict[str, Any] = {"restored": True, "at": found.at.isoformat(), "made_at": found.data["made_at"]}
    about |= {"devices": found.data["devices"], "unheard": found.unheard, "segments_lost": found.lost}
    about |= {"gaps": [{"device": one.device, "segments": one.lost} for one in found.gaps]}
    about |= {"in_conflict": found.conflicts, "erased_more": found.erased_more}
    show(about, output)
    if found.conflicts:
        tell("devices in conflict run what this hub does not know: edgewise device resolve NAME --how adopt|reassign")
    if found.erased_more:
        tell(
            "these devices did erasures that were ordered after the backup: order them again (edgewise erasure create)"
        )


def migrate(
    to_database: str | None = typer.Option(None, "--to-database", help="a PostgreSQL URL, or the word sqlite"),
    to_objects: str | None = typer.Option(None, "--to-objects", help="an object store, or the word files"),
    to_option: list[str] | None = typer.Option(
        None, "--to-option", help="NAME=VALUE of the new object store, over object_options; repeatable"
    ),
    config: Path | None = CONFIG,
    data_dir: Path | None = PLACE,
    database: str | None = DATABASE,
    objects: str | None = OBJECTS,
) -> None:
    """Move a hub that is stopped to another database, another object store, or both; what is not named stays."""
    from dataclasses import replace

    from edgewise.hub.folder import Folder
    from edgewise.hub.places import open_store
    from edgewise.hub.restore import move
    from edgewise.hub.store.migrations import leave, need_current
    from edgewise.ports import SystemClock

    settings = _settings(config, data_dir, database, objects)
    new = settings.place
    if to_database is not None:
        new = replace(new, database_url=None if to_database == SQLITE else to_database)
    if to_objects is not None:
        new = replace(new, objects_url=None if to_objects == FILES else to_objects)
    new = replace(new, object_options={**new.object_options, **_options(to_option or [])})
    folder = Folder(settings.data_dir)
    try:
        source = open_store(settings.place, schema=need_current, must_exist=True)
        try:
            if new.database() == settings.place.database():
                _move_contents(source, new)
            else:
                target = open_store(new, schema=leave, must_exist=False)
                try:
                    with progress("moving") as advance:
                        rows = move(source, target, to=new.words(), now=SystemClock().now(), advance=advance)
                finally:
                    target.close()
                typer.echo(f"{rows} rows moved")
        finally:
            source.close()
    finally:
        folder.close()
    typer.echo(f"the hub is at {new.words()} now; write these into hub.yaml before you start it:")
    typer.echo(f"  database: {to_database if new.database_url else 'null'}")
    typer.echo(f"  objects: {new.objects_url or 'null'}")


def _move_contents(source: Any, new: Any) -> None:
    from edgewise.hub.restore import move_contents
    from edgewise.ports import SystemClock
    from edgewise.wire import NotValid

    if new.objects_url is None and new.data_dir is None:
        raise NotValid("nothing is to be moved; give --to-database, --to-objects or both", code="usage")
    with progress("moving") as advance:
        count = move_contents(source, new.blobs(), now=SystemClock().now(), advance=advance)
    typer.echo(f"{count} contents are there")


def _options(given: list[str]) -> dict[str, str]:
    from edgewise.wire import NotValid

    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise NotValid(f"--to-option {text!r} needs the form NAME=VALUE", code="usage")
        found[name] = value
    return found


def _settings(config: Path | None, data_dir: Path | None, database: str | None, objects: str | None) -> HubSettings:
    import os

    from edgewise.hub.settings import load_settings

    flags = {"data_dir": data_dir, "database": database, "objects": objects}
    return load_settings(config, environment=os.environ, flags=flags)


def _about(listed: Any) -> dict[str, Any]:
    rows = sum(table.lines for table in listed.tables.values())
    about = {"made_at": listed.made_at.isoformat(), "made_by": listed.made_by, "schema": listed.revision, "rows": rows}
    return about | {"contents": listed.blobs.lines, "bytes": listed.blobs_bytes, "keys": sorted(listed.keys)}
