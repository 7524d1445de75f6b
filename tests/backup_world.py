"""Ways to fill a hub, keep it, and bring it back."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgewise.hub.backup import make_backup
from edgewise.hub.restore import restore
from edgewise.hub.store import Store, migrations, whole
from edgewise.ports import SeededChance

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
