"""The release repository behind the device's own link to its hub."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from urllib.parse import unquote

from edgewise.ports._http import Refused
from edgewise.ports._link import Link
from edgewise.ports._tuf_fetch import NotServed

METADATA_URL = "metadata/"
TARGETS_URL = "targets/"


class LinkFetcher:
    """A `Fetcher` over a link: what protects contacts protects these requests as well.

    Args:
        link: to the hub; None has nothing to fetch from, for a look into what is kept.
    """

    def __init__(self, link: Link | None) -> None:
        self._link = link

    def open(self, url: str, *, offset: int = 0) -> Generator[bytes, None, None]:
        if self._link is None:
            raise NotServed(f"{url} is not kept here; it comes with the next contact")
        try:
            pieces = self._link.get_file(unquote(url), offset=offset)
            with closing(pieces):  # type: ignore[type-var]  # every link's answer is a generator
                yield from pieces
        except Refused as error:
            if error.status in (404, 410) or error.code == "file_unknown":
                raise NotServed(str(error)) from error
            raise
