"""Where a hub keeps its rows and its contents: what its settings say, or its data folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgewise.ports import Blobs, BucketLimits, FolderBlobs, MemoryBlobs, open_bucket
from edgewise.wire import NotValid

DATABASE_FILE = "hub.db"
OBJECTS_FOLDER = "objects"
BLOBS_FOLDER = "blobs"  # the prefix that contents have in a bucket too
POSTGRES = "postgresql+psycopg"


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
