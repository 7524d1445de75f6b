"""Where a hub keeps its rows and its contents: what its settings say, or its data folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from edgewise.hub.store import Store
from edgewise.ports import Blobs, BucketLimits, FolderBlobs, MemoryBlobs, open_bucket
from edgewise.wire import NotValid

DATABASE_FILE = "hub.db"
OBJECTS_FOLDER = "objects"
BLOBS_FOLDER = "blobs"  # the prefix that contents have in a bucket too
POSTGRES = "postgresql+psycopg"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where one hub keeps everything."""

    data_dir: Path
    database_url: str | None = None
    objects_url: str | None = None
    object_options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def database(self) -> str:
        """The SQLAlchemy address. NotValid: none of a database that is known."""
        return database_at(self.database_url, self.data_dir)

    def blobs(self, *, probe: bool = True) -> Blobs:
        """The contents. NotValid: as `open_bucket`."""
        limits = BucketLimits()
        return blobs_at(self.objects_url, self.data_dir, options=self.object_options, limits=limits, probe=probe)

    def words(self) -> str:
        """For people, without any password."""
        rows = sa.make_url(self.database()).render_as_string(hide_password=True)
        return f"{rows} and {self.objects_url or self.data_dir / OBJECTS_FOLDER}"


def open_store(place: Place, *, schema: Callable[[sa.Connection], None], must_exist: bool, probe: bool = True) -> Store:
    """The store of a hub, for a command beside it.

    Args:
        schema: what is done about the schema, as for `Store`.
        must_exist: refuse a data folder in which no hub was ever started.
    Raises:
        NotValid: there is none, or the settings cannot be. NotNow: it does not answer.
    """
    if must_exist and place.database_url is None and not (place.data_dir / DATABASE_FILE).is_file():
        raise NotValid(
            f"{place.data_dir} holds no hub (no {DATABASE_FILE}); name its folder with --data-dir", code="hub_missing"
        )
    return Store(place.database(), place.blobs(probe=probe), schema=schema)


def database_at(url: str | None, data_dir: Path | None) -> str:
    """The SQLAlchemy address of a hub's database; in memory without a URL and a folder.

    Raises:
        NotValid: no address of PostgreSQL or SQLite.

    >>> database_at("postgresql://ann@db.example/hub", None)
    'postgresql+psycopg://ann@db.example/hub'
    >>> database_at(None, None)
    'sqlite://'
    """
    if url is None:
        return "sqlite://" if data_dir is None else f"sqlite:///{data_dir / DATABASE_FILE}"
    scheme, colon, rest = url.partition(":")
    if scheme in ("postgresql", "postgres"):  # the driver is ours to choose
        return f"{POSTGRES}:{rest}"
    if not colon or scheme not in (POSTGRES, "sqlite"):
        raise NotValid(
            f"database {scheme[:40]!r} is not known; write postgresql://user@host/name, or leave it out for SQLite",
            code="database_invalid",
        )
    return url


def blobs_at(
    url: str | None, data_dir: Path | None, *, options: Mapping[str, str], limits: BucketLimits, probe: bool = True
) -> Blobs:
    """Where a hub's contents live; in memory without a URL and a folder.

    Raises:
        NotValid: as `open_bucket`.
    """
    if url is not None:
        return open_bucket(url, options, limits=limits, probe=probe)
    return MemoryBlobs() if data_dir is None else FolderBlobs(data_dir / OBJECTS_FOLDER / BLOBS_FOLDER)
