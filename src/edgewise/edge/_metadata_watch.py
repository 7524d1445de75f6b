"""When the release metadata are refreshed, and what is told where they are refused, missing or over."""

from __future__ import annotations

from datetime import datetime

from edgewise.edge._trusted import Trusted
from edgewise.edge._update_journal import Journal
from edgewise.edge._update_state import Slot
from edgewise.ports import Link
from edgewise.wire import NotNow, NotTrusted


class MetadataWatch:
    """Follows what the hub names, and tells each trouble once.

    Args:
        trusted: the metadata.
        journal: takes what the hub's audit log should hear.
    """

    def __init__(self, trusted: Trusted, journal: Journal) -> None:
        self._trusted = trusted
        self._journal = journal
        self._unread: str | None = None  # why the newest metadata did not come
        self._told: str | None = None  # the code of the trouble that was told last

    def hear(self, link: Link, metadata: int, now: datetime) -> None:
        """Refresh the metadata where the hub names newer ones, or ours have run out. Failing changes nothing else."""
        self._trusted.named = metadata
        if not self._trusted.is_behind and not self._trusted.is_expired(now):
            return
        try:
            self._trusted.refresh(link)
        except NotTrusted as error:
            self._tell_once("metadata_refused", str(error), error.code)
        except NotNow as error:
            self._unread = str(error)
        else:
            self._unread, self._told = None, None

    def look(self, now: datetime) -> None:
        """Tell that the metadata are over, offline too."""
        if self._trusted.is_expired(now):
            text = f"the metadata expired at {self._trusted.expires_at}; nothing is installed before newer ones come"
            self._tell_once("metadata_expired", text, "metadata_expired")

    def warnings(self, running: Slot | None, now: datetime) -> tuple[str, ...]:
        """What a person should know, as the things that are waited for."""
        found, trusted = [], self._trusted
        if trusted.refused is not None:
            found.append(f"good metadata: {trusted.refused}")
        elif self._unread is not None:
            found.append(f"newer metadata: {self._unread}")
        if trusted.is_expired(now):
            found.append(f"fresh metadata: they expired at {trusted.expires_at}; nothing is installed before")
        if running is not None and trusted.version and not trusted.vouches_for(running.release, running.proof):
            found.append(f"another release: {running.release} was withdrawn, and runs until the hub assigns one")
        return tuple(found)

    def _tell_once(self, what: str, text: str, code: str) -> None:
        if self._told != code:
            self._journal.tell(what, text, None, code=code)
        self._told = code
