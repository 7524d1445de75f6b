"""Where the tables lie: a folder beside the hub's data, or a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from edgewise.wire import NotValid

OFF = "off"
FOLDER = "lake"
SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl")


@dataclass(frozen=True, kw_only=True, slots=True)
class LakeConfig:
    """What a hub is told about its lake.

    Attributes:
        url: a folder, or ``s3://bucket/prefix``; None: `FOLDER` beside the objects, or in the data folder; ``off``.
        commit_s: time between two commits of what came meanwhile.
        history_s: how long an older version can be read, and how long erased rows stay in files that nobody reads.
        region: where the tables lie, as sites name theirs; what has to stay in another region does not enter.
    """

    url: str | None = None
    commit_s: float = 30.0
    history_s: float = 7 * 86_400
    region: str = "local"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The address of the tables' folder, and the options of the store that it is in; secrets are among them."""

    url: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def table(self, name: str) -> str:
        """The address of one table."""
        return f"{self.url}/{name}"


def place_of(
    config: LakeConfig, *, data_dir: Path | None, objects_url: str | None, options: Mapping[str, str]
) -> Place | None:
    """Where a hub's tables lie; None for a hub without a lake.

    Args:
        options: of the object store that `objects_url` names, by obstore's names.
    Raises:
        NotValid: neither a folder nor an address of a cloud's bucket.

    >>> place_of(LakeConfig(), data_dir=Path("/srv/hub"), objects_url=None, options={})
    Place(url='/srv/hub/lake')
    >>> place_of(LakeConfig(), data_dir=None, objects_url="s3://plant/edge", options={}).table("events")
    's3://plant/edge/lake/events'
    """
    url = config.url
    if url is None and objects_url is not None and urlsplit(objects_url).scheme in SCHEMES:
        url = f"{objects_url.rstrip('/')}/{FOLDER}"
    if url is None and data_dir is not None:
        url = str(data_dir / FOLDER)
    if url is None or url == OFF:
        return None
    scheme, colon, _ = url.partition("://")
    if not colon:
        return Place(url=str(Path(url).absolute()))
    if scheme not in SCHEMES:
        known = ", ".join(f"{item}://" for item in SCHEMES)
        raise NotValid(f"lake {url[:80]!r} is neither a folder nor one of {known}; or write {OFF}", code="lake_invalid")
    bucket = dict(options)
    if scheme in ("s3", "s3a"):
        bucket.setdefault("conditional_put", "etag")  # a version of a table is taken by putting it where none is
        if bucket.get("endpoint", "").startswith("http://"):
            bucket.setdefault("allow_http", "true")
    return Place(url=url.rstrip("/"), options=bucket)
