"""The order of releases, by their names alone."""

from __future__ import annotations


def version_of(release: str | None) -> int:
    """The version in a release's id; 0 without one, and for whatever else a device says that it runs.

    >>> version_of("surface-inspection@12"), version_of(None), version_of("no-version"), version_of("x@²")
    (12, 0, 0, 0)
    """
    version = (release or "").rpartition("@")[2]
    return int(version) if version.isascii() and version.isdecimal() else 0
